"""Columns of a file as typed values, whole columns at a time. What is no value becomes null."""

from __future__ import annotations

import datetime
from typing import Final

import polars as pl

from kesit_client.consent.events import SECOND, birthday, polars_duration, to_us
from kesit_client.consent.terms import ADULT_YEARS, FOREVER

_TIME: Final = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
)
_EARLIEST: Final = to_us(datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC))
_LATEST: Final = to_us(datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC))
"""Beyond these no calendar can show a moment; no record means them."""


def text(column: pl.Series) -> pl.Series:
    """Text in one form (NFC, no space around it); null where nothing is left."""
    if column.dtype == pl.Binary or column.dtype.is_nested():
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    written = written_numbers(column) if column.dtype.is_float() else column.cast(pl.String)
    plain = written.str.strip_chars().str.normalize("NFC")
    return plain.set(plain == "", None)


def written_numbers(column: pl.Series) -> pl.Series:
    """Floats as text, each by itself: an id that a data frame turned into 7.0 is 7."""
    whole = column.is_finite() & (column == column.round()) & (column.abs() < 1 << 53)
    plain = column.cast(pl.Int64, strict=False).cast(pl.String)
    return plain.zip_with(whole.fill_null(False), column.cast(pl.String)).alias(column.name)


def times(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """(µs since 1970 in UTC, seconds east of UTC); null without an offset, or if it is no time."""
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            nothing = pl.Series([None] * len(column), dtype=pl.Int64)
            return nothing, nothing
        moment = column.dt.cast_time_unit("us")
        offset = moment.dt.base_utc_offset() + moment.dt.dst_offset()
        return _shown(moment.to_physical(), offset.dt.total_seconds())
    parts = (
        text(column)
        .to_frame("t")
        .select(
            day=pl.col("t").str.extract(_TIME, 1),
            minute=pl.col("t").str.extract(_TIME, 2),
            second=pl.col("t").str.extract(_TIME, 3).fill_null(":00"),
            zone=pl.col("t").str.extract(_TIME, 4).str.replace(":", ""),
        )
    )
    local = pl.concat_str(pl.col("day"), pl.lit("T"), pl.col("minute"), pl.col("second"))
    zone: pl.Expr = pl.when(pl.col("zone") == "Z").then(pl.lit("+0000")).otherwise(pl.col("zone"))
    sign = pl.when(zone.str.head(1) == "-").then(-1).otherwise(1)
    hours = zone.str.slice(1, 2).cast(pl.Int64)
    minutes = zone.str.slice(3, 2).cast(pl.Int64)
    valid = (hours < 15) & (minutes < 60)
    seconds = pl.when(valid).then(sign * (hours * 3600 + minutes * 60))
    found = parts.select(
        naive=local.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False),
        offset=seconds,
    )
    moment = found["naive"].to_physical() - found["offset"] * SECOND
    return _shown(moment, found["offset"])


def _shown(moment: pl.Series, offset: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Both, null where no calendar shows the moment."""
    strange = moment.is_null() | ~moment.is_between(_EARLIEST, _LATEST).fill_null(True)
    return moment.set(strange, None), offset.set(strange, None)


def ends(time: pl.Series, offset: pl.Series, duration: pl.Series) -> pl.Series:
    """First moment (µs) at which a grant holds no longer; null where the duration is none, or ends
    after the year 9998.

    Years and months are added on the calendar of the record's own offset, so that no change of
    clocks lengthens a consent.
    """
    steps = {text: _step(text) for text in duration.drop_nulls().unique()}
    step = duration.replace_strict(steps, default=None, return_dtype=pl.String)
    table = pl.DataFrame({"time": time, "offset": offset * SECOND, "step": step})
    local = (pl.col("time") + pl.col("offset")).cast(pl.Datetime("us"))
    moved = local.dt.offset_by(pl.col("step").fill_null("0d")).to_physical() - pl.col("offset")
    moment = table.select(moved).to_series().cast(pl.Int64)
    moment = moment.set(step.is_null() | (moment > _LATEST).fill_null(True), None)
    return moment.set(duration.is_null(), FOREVER)


def _step(duration: str) -> str | None:
    try:
        return polars_duration(duration)
    except ValueError:
        return None


def flags(column: pl.Series) -> pl.Series:
    """true/false, 1/0, evet/hayır, yes/no."""
    words = {"true": True, "1": True, "evet": True, "yes": True}
    words |= {"false": False, "0": False, "hayır": False, "hayir": False, "no": False}
    plain = text(column).str.to_lowercase()
    return plain.replace_strict(words, default=None, return_dtype=pl.Boolean)


def adult_from(birth_date: pl.Series, minor: pl.Series) -> pl.Series:
    """µs of the 18th birthday; `FOREVER` where only "minor" is stated, 0 where only "no minor"."""
    plain = text(birth_date)
    days = {day: _adult(day) for day in plain.drop_nulls().unique()}
    born = plain.replace_strict(days, default=None, return_dtype=pl.Int64)
    flag = minor.to_frame("minor").select(
        pl.when(pl.col("minor")).then(FOREVER).when(~pl.col("minor")).then(0)
    )
    return (
        pl.DataFrame({"born": born, "flag": flag.to_series()})
        .select(
            # A record that says "minor" and an adult's birth date contradicts itself: be strict.
            pl.max_horizontal("born", pl.col("flag").cast(pl.Int64))
        )
        .to_series()
    )


def _adult(day: str) -> int | None:
    try:
        return birthday(datetime.date.fromisoformat(day), ADULT_YEARS)
    except (ValueError, OverflowError):
        return None
