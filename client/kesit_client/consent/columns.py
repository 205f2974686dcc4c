"""Columns of a file as typed values, whole columns at a time. What is no value becomes null."""

from __future__ import annotations

import datetime
from typing import Any

import polars as pl

from kesit_client.consent.events import SECOND, birthday, polars_duration
from kesit_client.consent.terms import ADULT_YEARS, FOREVER

_TIME = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)$"


def text(column: pl.Series) -> pl.Series:
    """Text in one form (NFC, no space around it); null where nothing is left."""
    if column.dtype == pl.Binary or column.dtype.is_nested():
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    if column.dtype.is_float():  # an id that a data frame turned into a float: 7.0 is 7
        whole = (column.is_finite() & (column == column.round())).fill_null(False)
        if whole.all():
            column = column.cast(pl.Int64)
    plain = column.cast(pl.String).str.strip_chars().str.normalize("NFC")
    return plain.set(plain == "", None)


def times(column: pl.Series) -> tuple[pl.Series, pl.Series]:
    """(µs since 1970 in UTC, seconds east of UTC); null without an offset, or if it is no time."""
    if isinstance(column.dtype, pl.Datetime):
        if column.dtype.time_zone is None:
            nothing = pl.Series([None] * len(column), dtype=pl.Int64)
            return nothing, nothing
        moment = column.dt.cast_time_unit("us")
        offset = moment.dt.base_utc_offset() + moment.dt.dst_offset()
        return moment.to_physical(), offset.dt.total_seconds()
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
    return moment, found["offset"].set(moment.is_null(), None)


def ends(time: pl.Series, offset: pl.Series, duration: pl.Series) -> pl.Series:
    """First moment (µs) at which a grant holds no longer; null where the duration is none.

    Years and months are added on the calendar of the record's own offset, so that no change of
    clocks lengthens a consent.
    """
    table = pl.DataFrame({"time": time, "offset": offset * SECOND, "duration": duration})
    local = (pl.col("time") + pl.col("offset")).cast(pl.Datetime("us"))
    end: Any = pl.when(pl.col("duration").is_null()).then(pl.lit(FOREVER))
    for distinct in duration.drop_nulls().unique():
        try:
            step = polars_duration(distinct)
        except ValueError:
            continue
        moment = local.dt.offset_by(step).to_physical() - pl.col("offset")
        end = end.when(pl.col("duration") == distinct).then(moment)
    return table.select(end.otherwise(None)).to_series().cast(pl.Int64)


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
