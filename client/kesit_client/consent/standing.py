"""`state.state` for everybody at once: one pass over the events as integer columns.

The definition is `state`; what is said there is not said again here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.models import EventRow
from kesit_client.consent.store import fetch
from kesit_client.consent.terms import (
    CONSENT,
    END_ORDER,
    ENDS,
    FOREVER,
    GRANTS,
    REASON_OF_END,
    EventType,
    Reason,
)

COLUMNS: Final[Mapping[str, Any]] = {
    "id": pl.Int64,
    "person": pl.Int64,
    "time": pl.Int64,
    "valid_until": pl.Int64,
    "adult_from": pl.Int64,
    "notice_shown_at": pl.Int64,
    "notice_hash": pl.String,
    "packed": pl.Int64,
}
"""As read; `_unpacked` makes four columns of `packed`, which saves a third of the reading:
`type`; `own`: of the purpose; `wanted`: with the ground that the study needs; `bad`: the `Reason`
that stands against a grant by itself, or 0. `notice_hash`: only where it must be looked up."""


def read(
    connection: Connection,
    purpose: str,
    basis: str = CONSENT,
    *,
    special: bool = False,
    after: int = 0,
) -> pl.DataFrame:
    """What `decide` needs of the events numbered above `after`, in `COLUMNS`."""
    row = EventRow
    ungrounded = row.special_ground.is_(None)
    uncovered = sa.or_(sa.not_(row.special), ungrounded)
    bad = sa.case(
        (uncovered if special else sa.and_(row.special, ungrounded), Reason.SPECIAL_CATEGORY.value),
        (row.notice_hash == row.consent_text_hash, Reason.NOTICE_IS_CONSENT.value),
        else_=0,
    )
    looked_up = sa.or_(
        row.type == EventType.NOTICE_SHOWN.value,
        sa.and_(
            row.type.in_([kind.value for kind in GRANTS]),
            sa.func.coalesce(row.notice_shown_at >= row.time, sa.true()),
        ),
    )
    query = sa.select(
        row.id,
        row.person,
        row.time,
        row.valid_until,
        row.adult_from,
        row.notice_shown_at,
        sa.case((looked_up, row.notice_hash), else_=sa.null()),
        row.type
        + sa.case((row.purpose == purpose, 16), else_=0)
        + sa.case((row.basis == basis, 32), else_=0)
        + bad * 64,
    ).where(
        row.id > after,
        sa.or_(
            row.purpose == purpose,
            row.adult_from.is_not(None),
            row.type == EventType.ERASED.value,
        ),
    )
    return _unpacked(fetch(connection, query, dict(COLUMNS)))


def _unpacked(events: pl.DataFrame) -> pl.DataFrame:
    packed = pl.col("packed")
    return events.with_columns(
        type=packed & 15, own=packed & 16 > 0, wanted=packed & 32 > 0, bad=packed // 64
    ).drop("packed")


def decide(events: pl.DataFrame, now: int, basis: str = CONSENT) -> pl.DataFrame:
    """How each person among the events stands at `now` (µs).

    Returns:
        `person`, `reason` (`Reason`), `since` (µs; null for minors and the unknown), `event` (the
        deciding event's number, or null); one row a person of the store's events up to now, and of
        all ends.
    """
    ends = pl.col("type").is_in([kind.value for kind in ENDS])  # they count once they are recorded
    past = events.filter((pl.col("time") <= now) | ends)
    own = past.filter(pl.col("own") | (pl.col("type") == EventType.ERASED.value))
    grants = _latest_grants(own, past, now, basis)
    people = past.select("person").unique()
    table = (
        people.join(_ends(own), on="person", how="left")
        .join(grants, on="person", how="left")
        .join(_minors(past, now), on="person", how="left")
    )
    ended = pl.col("end_at").is_not_null() & (
        pl.col("given_at").is_null() | (pl.col("given_at") <= pl.col("end_at"))
    )
    minor, granted = pl.col("minor").fill_null(False), pl.col("given_at").is_not_null()
    return table.select(
        "person",
        reason=pl.when(minor)
        .then(Reason.MINOR.value)
        .when(ended)
        .then(pl.col("end_reason"))
        .when(granted)
        .then(pl.col("grant_reason"))
        .otherwise(Reason.UNKNOWN.value)
        .cast(pl.Int8),
        since=pl.when(minor).then(None).when(ended).then("end_at").otherwise("given_at"),
        event=pl.when(minor).then(None).when(ended).then("end_event").otherwise("grant_event"),
    )


def _ends(own: pl.DataFrame) -> pl.DataFrame:
    """The latest end of each person; of several at one moment, the last of `END_ORDER`."""
    order = {kind.value: place for place, kind in enumerate(END_ORDER)}
    reasons = {place: REASON_OF_END[kind].value for place, kind in enumerate(END_ORDER)}
    ends = own.filter(pl.col("type").is_in([kind.value for kind in ENDS])).with_columns(
        place=pl.col("type").replace_strict(order, return_dtype=pl.Int64)
    )
    last = ends.sort("time", "place", "id").group_by("person").last()
    return last.select(
        "person",
        end_at="time",
        end_event="id",
        end_reason=pl.col("place").replace_strict(reasons, return_dtype=pl.Int64),
    )


def _latest_grants(own: pl.DataFrame, past: pl.DataFrame, now: int, basis: str) -> pl.DataFrame:
    """The latest grants of each person, taken together: what stands against them, or 0."""
    wanted = own.filter(pl.col("type").is_in([kind.value for kind in GRANTS]) & pl.col("wanted"))
    tops = wanted.group_by("person").agg(top=pl.col("time").max())
    latest = wanted.join(tops, on="person").filter(pl.col("time") == pl.col("top"))
    latest = _informed(latest, own, now, basis)
    bad = pl.col("bad")
    merged = latest.group_by("person").agg(
        given_at=pl.col("time").first(),
        grant_event=pl.col("id").min(),
        expired=(pl.col("valid_until") <= now).any(),
        special=(bad == Reason.SPECIAL_CATEGORY.value).any(),
        same=(bad == Reason.NOTICE_IS_CONSENT.value).any(),
        informed=pl.col("informed").all(),
    )
    none = own.head(0)["person"]
    objecting = _objecting(own) if basis != CONSENT else none
    return merged.select(
        "person",
        "given_at",
        "grant_event",
        grant_reason=pl.when("expired")
        .then(Reason.EXPIRED.value)
        .when("special")
        .then(Reason.SPECIAL_CATEGORY.value)
        .when("same")
        .then(Reason.NOTICE_IS_CONSENT.value)
        .when(~pl.col("informed"))
        .then(Reason.NO_NOTICE.value)
        .when(pl.col("person").is_in(objecting.implode()))
        .then(Reason.OBJECTED.value)
        .otherwise(Reason.GIVEN.value),
    )


def _informed(grants: pl.DataFrame, own: pl.DataFrame, now: int, basis: str) -> pl.DataFrame:
    """The grants with `informed`: whether a notice was shown in time."""
    latest = pl.col("time") if basis == CONSENT else pl.lit(now + 1)
    stated = pl.col("notice_shown_at").fill_null(FOREVER) < latest
    notices = own.filter(
        (pl.col("type") == EventType.NOTICE_SHOWN.value) & pl.col("notice_hash").is_not_null()
    )
    if notices.is_empty():
        return grants.with_columns(informed=stated)
    shown = notices.group_by("person", "notice_hash").agg(shown=pl.col("time").min())
    joined = grants.join(shown, on=["person", "notice_hash"], how="left")
    recorded = pl.col("shown").fill_null(FOREVER) < latest
    return joined.with_columns(informed=stated | recorded)


def _objecting(own: pl.DataFrame) -> pl.Series:
    """Persons with an open objection to automated decisions."""
    opened = own.filter(pl.col("type") == EventType.OBJECTED.value)
    closed = own.filter(pl.col("type") == EventType.OBJECTION_CLOSED.value)
    last = opened.group_by("person").agg(opened=pl.col("time").max())
    last = last.join(
        closed.group_by("person").agg(closed=pl.col("time").max()), on="person", how="left"
    )
    still = pl.col("closed").is_null() | (pl.col("closed") <= pl.col("opened"))
    return last.filter(still)["person"]


def _minors(past: pl.DataFrame, now: int) -> pl.DataFrame:
    """Whether each person's latest statements of age say that it is a minor."""
    stated = past.filter(pl.col("adult_from").is_not_null())
    tops = stated.group_by("person").agg(top=pl.col("time").max())
    latest = stated.join(tops, on="person").filter(pl.col("time") == pl.col("top"))
    return latest.group_by("person").agg(minor=(pl.col("adult_from") > now).any())
