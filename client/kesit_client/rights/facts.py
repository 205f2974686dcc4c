"""Counts over persons' requests that the rules of data protection look at; no person in them."""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent import standing
from kesit_client.consent.events import ISTANBUL, SECOND, from_us
from kesit_client.consent.models import EventRow
from kesit_client.consent.state import reads_special
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import GRANTS, EventType, Reason
from kesit_client.rights import exports, marking, requests
from kesit_client.rights.clocks import ERASURE, OF_PERSONS, RECTIFICATION
from kesit_client.rights.models import (
    DisposalRow,
    ExportPersonRow,
    ExportRow,
    MarkRow,
)
from kesit_privacy.rules import ReleaseFacts, RequestFacts
from kesit_privacy.study import Study

DAY: Final = 86_400 * SECOND
ANONYMOUS: Final = re.compile(r"anonym|anonim", re.IGNORECASE)
"""A word that the description of an export may only use with a proof."""


def request_facts(
    store: ConsentStore,
    now: int,
    study: Study | None = None,
    marketing: Collection[str] | None = None,
) -> RequestFacts:
    """The counts at `now` (µs).

    Args:
        study: who of its customers objected to marketing is counted for it.
        marketing: purposes that are direct marketing; None if nobody said which.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    waiting = [item for item in requests.requests(store, only_open=True) if item.opened_at <= now]
    asked = [item for item in waiting if item.kind in OF_PERSONS]
    untold, unaware = exports.notices(store, only_open=True), marking.waiting(store)
    with store.reading() as connection:
        objecting = requests.open_since(connection).filter(pl.col("since") <= now)

    def oldest(kinds: frozenset[str]) -> int:
        ages = [(now - item.opened_at) // DAY for item in asked if item.kind in kinds]
        return max(ages, default=0)

    return RequestFacts(
        oldest_days=oldest(OF_PERSONS),
        oldest_erasure_days=oldest(frozenset({ERASURE})),
        erasures_not_passed=sum(notice.kind == ERASURE for notice in untold),
        corrections_not_passed=sum(notice.kind == RECTIFICATION for notice in untold),
        withdrawals_not_passed=sum(count for _, _, count in unaware),
        objections_open=len(objecting),
        marketing_objections_included=(
            None if study is None or marketing is None else _objected(store, study, marketing, now)
        ),
    )


def _objected(store: ConsentStore, study: Study, marketing: Collection[str], now: int) -> int:
    """Persons whom the study counts although an objection of theirs to marketing is open."""
    row, basis = EventRow, study.legal_basis
    kinds = [EventType.OBJECTED.value, EventType.OBJECTION_CLOSED.value]
    query = sa.select(row.person, row.purpose, row.type, row.time).where(
        row.type.in_(kinds), row.purpose.in_(list(marketing)), row.time <= now
    )
    schema = {"person": pl.Int64, "purpose": pl.String, "type": pl.Int64, "time": pl.Int64}
    with store.reading() as connection:
        read = standing.read(connection, study.purpose, basis, special=reads_special(study))
        marks = fetch(connection, query, schema)
        asking = requests.open_since(connection)["person"]
    decided = standing.decide(read, now, basis)
    closes = pl.col("type") == EventType.OBJECTION_CLOSED.value
    latest = marks.sort("time", ~closes).group_by("person", "purpose").last()
    included = decided.filter(pl.col("reason") == Reason.GIVEN.value)
    # A request that is open here is open, whatever records of other systems say.
    still = latest.filter(~closes | pl.col("person").is_in(asking.implode()))
    return int(still.join(included, on="person")["person"].n_unique())


def release_facts(
    store: ConsentStore, now: int, *, nothing_given: bool = False
) -> ReleaseFacts | None:
    """What the register of exports tells of releases; None if nothing is in it.

    Args:
        nothing_given: it is known otherwise that nobody was given data.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    with store.reading() as connection:
        given = _given(connection).filter(pl.col("exported_at") <= now)
        if given.is_empty() and not nothing_given:
            return None
        objecting = requests.open_since(connection).filter(pl.col("since") <= now)
        marked = _all_marked(connection, given)
        texts = connection.scalars(sa.select(ExportRow.what)).all()
    out = objecting.join(given, on="person").filter(pl.col("exported_at") >= pl.col("since"))
    held = len(objecting) - out["person"].n_unique()
    named = True if any(ANONYMOUS.search(text) for text in texts) else None
    return ReleaseFacts(says_anonymous=named, codes_suppressed=held, withdrawals_marked=marked)


def withdrawn_before_release(store: ConsentStore, now: int) -> datetime.date | None:
    """Day (in Istanbul) of the last withdrawal that an export followed, the first day if none was.

    None if the register of exports is empty.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    with store.reading() as connection:
        latest = connection.scalar(
            sa.select(sa.func.max(ExportRow.exported_at)).where(ExportRow.exported_at <= now)
        )
        if latest is None:
            return None
        last = connection.scalar(
            sa.select(sa.func.max(EventRow.time)).where(
                EventRow.type == EventType.WITHDRAWN.value, EventRow.time <= latest
            )
        )
    return datetime.date.min if last is None else from_us(last).astimezone(ISTANBUL).date()


def _given(connection: Connection) -> pl.DataFrame:
    """Who was in which export: `export`, `person`, `exported_at`, `for` (its purpose, or null)."""
    query = sa.select(
        ExportPersonRow.export, ExportPersonRow.person, ExportRow.exported_at, ExportRow.purpose
    ).join(ExportRow, ExportRow.id == ExportPersonRow.export)
    schema = {"export": pl.Int64, "person": pl.Int64, "exported_at": pl.Int64, "for": pl.String}
    return fetch(connection, query, schema)


def _all_marked(connection: Connection, given: pl.DataFrame) -> bool:
    """Whether each export before a withdrawal is marked: by another way than marks are made."""
    row = EventRow
    ends = [kind.value for kind in (*GRANTS, EventType.WITHDRAWN)]
    schema = dict.fromkeys(("person", "type", "time", "recorded_at"), pl.Int64)
    events = fetch(
        connection,
        sa.select(row.person, row.type, row.time, row.recorded_at, row.purpose).where(
            row.type.in_(ends)
        ),
        {**schema, "purpose": pl.String},
    )
    marks = fetch(
        connection,
        sa.select(MarkRow.export, MarkRow.person),
        {"export": pl.Int64, "person": pl.Int64},
    )
    # Each person's events of one purpose in turn: what holds at the export is the last before it.
    told = given.join(events, on="person").filter(
        pl.col("for").is_null() | (pl.col("for") == pl.col("purpose"))
    )
    gone = pl.col("type") == EventType.WITHDRAWN.value
    later = pl.col("time") >= pl.col("exported_at")
    before = told.filter(~later).sort("time", gone)
    unaware = (
        before.group_by("export", "person", "purpose")
        .last()
        .filter(gone & (pl.col("recorded_at") >= pl.col("exported_at")))
    )
    wanted = pl.concat(
        [frame.select("export", "person") for frame in (told.filter(gone & later), unaware)]
    )
    return wanted.join(marks, on=["export", "person"], how="anti").is_empty()


def disposal_log_days(store: ConsentStore) -> int | None:
    """For how many days the records of disposals are kept, the shortest; None without any."""
    kept = sa.func.min(DisposalRow.keep_until - DisposalRow.disposed_at)
    with store.reading() as connection:
        shortest = connection.scalar(sa.select(kept))
    return None if shortest is None else int(shortest) // DAY
