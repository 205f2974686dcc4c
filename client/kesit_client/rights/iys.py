"""The message registry (IYS): approvals by channel, and what the rules are told of them.

An approval of IYS stands apart from consent under Law 6698 (Law 6563 art. 6); it never makes a row
count, and a consent never allows a message.
"""

from __future__ import annotations

from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.store import fetch
from kesit_client.consent.terms import EventType

APPROVALS: Final = ("onay", "approved")
"""Statuses that approve, in small letters; every other one does not."""


def statuses(connection: Connection) -> pl.DataFrame:
    """Every IYS status: `person`, `key`, `channel` (small letters), `approved`, `at` (µs)."""
    row = EventRow
    query = (
        sa.select(
            row.person,
            Person.key,
            sa.func.lower(row.iys_channel),
            row.iys_status,
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
