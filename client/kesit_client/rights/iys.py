"""The message registry (IYS): approvals by channel, and what the rules are told of them.

An approval of IYS stands apart from consent under Law 6698 (Law 6563 art. 6); it never makes a row
count, and a consent never allows a message.
"""

from __future__ import annotations

from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.events import ISTANBUL
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.store import fetch
from kesit_client.consent.terms import GRANTS, EventType
from kesit_client.rights.clocks import BUSINESS_DAYS, IYS_TRANSFER, end_of
from kesit_client.rights.models import ExportPersonRow, ExportRow, RequestRow
from kesit_client.rights.requests import REJECTED
from kesit_privacy import business_days

APPROVALS: Final = ("onay", "approved")
"""Statuses that approve, in small letters; every other one does not."""


def statuses(connection: Connection) -> pl.DataFrame:
    """Every IYS status, in small letters and in the order of their times.

    Returns:
        `person`, `key`, `channel`, `approved`; `since` (µs): from when on it stands there; `at`
        (µs): when it was looked up.
    """
    row = EventRow
    query = (
        sa.select(
            row.person,
            Person.key,
            sa.func.lower(row.iys_channel),
            row.iys_status,
            row.time,
            sa.func.coalesce(row.iys_checked_at, row.time),
        )
        .join(Person, Person.no == row.person)
        .where(row.type == EventType.IYS_STATUS.value, row.iys_channel.is_not(None))
        .order_by(row.time, row.id)
    )
    schema = {
        "person": pl.Int64,
        "key": pl.Binary,
        "channel": pl.String,
        "status": pl.String,
        "since": pl.Int64,
        "at": pl.Int64,
    }
    found = fetch(connection, query, schema)
    words = pl.col("status").str.strip_chars().str.to_lowercase()
    return found.with_columns(approved=words.is_in(APPROVALS).fill_null(False)).drop("status")


def approved(connection: Connection, channel: str, now: int) -> frozenset[bytes]:
    """Pseudonyms of those whose latest status of a channel approves."""
    known = statuses(connection).filter(
        (pl.col("channel") == channel.lower()) & (pl.col("at") <= now)
    )
    latest = known.sort("at", maintain_order=True).group_by("key").last()
    return frozenset(latest.filter("approved")["key"])


def unapproved(connection: Connection, now: int) -> int | None:
    """Persons on lists for messages whose channel IYS did not approve when the list was given out.

    None if the register of exports is empty: then nobody knows of any list.
    """
    if not connection.scalar(
        sa.select(sa.func.count()).select_from(ExportRow).where(ExportRow.exported_at <= now)
    ):
        return None
    query = (
        sa.select(
            ExportPersonRow.export,
            ExportPersonRow.person,
            ExportRow.iys_channel,
            ExportRow.exported_at,
        )
        .join(ExportRow, ExportRow.id == ExportPersonRow.export)
        .where(ExportRow.iys_channel.is_not(None), ExportRow.exported_at <= now)
    )
    schema = {"export": pl.Int64, "person": pl.Int64, "channel": pl.String, "made": pl.Int64}
    lists = fetch(connection, query, schema)
    known = lists.join(statuses(connection), on=["person", "channel"])
    latest = (
        known.filter(pl.col("at") <= pl.col("made"))
        .sort("at", maintain_order=True)
        .group_by("export", "person")
        .last()
    )
    fine = latest.filter("approved").select("export", "person")
    return int(lists.join(fine, on=["export", "person"], how="anti")["person"].n_unique())


def late(connection: Connection, now: int) -> int | None:
    """Consents to messages that IYS did not have in time, the latest of each person and channel.

    IYS has one from the first status of the channel on. Clocks of the kind `iys-transfer` that ran
    out are added. None if no consent names a channel and no clock was opened.
    """
    row = EventRow
    query = sa.select(row.person, sa.func.lower(row.iys_channel), row.time).where(
        row.type.in_([kind.value for kind in GRANTS]),
        row.iys_channel.is_not(None),
        row.time <= now,
    )
    schema = {"person": pl.Int64, "channel": pl.String, "given": pl.Int64}
    given = fetch(connection, query, schema)
    clocks = _late_clocks(connection, now)
    if given.is_empty():
        return clocks
    given = given.group_by("person", "channel").agg(pl.col("given").max())
    known = statuses(connection).select("person", "channel", "since")
    passed = (
        given.join(known, on=["person", "channel"])
        .filter((pl.col("since") >= pl.col("given")) & (pl.col("since") <= now))
        .group_by("person", "channel")
        .agg(pl.col("since").min())
    )
    table = given.join(passed, on=["person", "channel"], how="left")
    table = table.with_columns(due=_deadlines(table["given"]))
    return table.filter(pl.col("since").fill_null(now) > pl.col("due")).height + (clocks or 0)


def _late_clocks(connection: Connection, now: int) -> int | None:
    """Clocks of the kind `iys-transfer` that ran out, closed or not; None without any."""
    row = RequestRow
    answered = sa.func.coalesce(row.closed_at, now)
    query = sa.select(sa.func.count(), sa.func.sum(sa.case((answered > row.due_at, 1), else_=0)))
    found = connection.execute(
        query.where(
            row.kind == IYS_TRANSFER,
            row.opened_at <= now,
            sa.func.coalesce(row.outcome, "") != REJECTED,
        )
    ).one()
    return None if not found[0] else int(found[1])


def _deadlines(given: pl.Series) -> pl.Series:
    """The end of the last business day for each consent; the days are looked up once each."""
    days = given.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(ISTANBUL.key).dt.date()
    ends = {
        day: end_of(business_days.after(day, BUSINESS_DAYS[IYS_TRANSFER]))
        for day in days.unique().to_list()
    }
    return days.replace_strict(ends, return_dtype=pl.Int64)
