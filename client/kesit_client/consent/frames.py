"""Events as a polars table: its columns, its digests, and to and from `Event`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

import polars as pl

from kesit_client.consent.events import Event
from kesit_client.consent.terms import EventType

SCHEMA: Final[dict[str, Any]] = {
    "record_id": pl.String,
    "principal": pl.String,
    "purpose": pl.String,
    "type": pl.Int64,
    "time": pl.Int64,
    "offset": pl.Int64,
    "basis": pl.String,
    "event_id": pl.String,
    "state": pl.String,
    "validity_duration": pl.String,
    "valid_until": pl.Int64,
    "entity_id": pl.String,
    "notice_hash": pl.String,
    "consent_text_hash": pl.String,
    "notice_shown_at": pl.Int64,
    "channel": pl.String,
    "iys_channel": pl.String,
    "iys_status": pl.String,
    "iys_checked_at": pl.Int64,
    "profiling": pl.Boolean,
    "adult_from": pl.Int64,
    "special": pl.Boolean,
    "special_ground": pl.String,
    "terms": pl.String,
}
_SEPARATOR: Final = "\x1f"
"""No field holds it: control characters are refused when a file is read."""


def frame_of(events: Iterable[Event]) -> pl.DataFrame:
    """A table of these events, in the columns of `SCHEMA`."""
    rows = [asdict(event) | {"type": int(event.type)} for event in events]
    return pl.DataFrame(rows, schema=SCHEMA)


def events_of(frame: pl.DataFrame) -> list[Event]:
    """The events of a table that has the columns of `SCHEMA`; others are left out."""
    rows = frame.select(*SCHEMA).to_dicts()
    return [Event(**(row | {"type": EventType(row["type"])})) for row in rows]


def digests(frame: pl.DataFrame) -> pl.Series:
    """SHA-256 (32 bytes) over all fields of each event, its record's id included."""
    columns = [pl.col(name).cast(pl.String).fill_null("") for name in SCHEMA]
    lines = frame.select(pl.concat_str(columns, separator=_SEPARATOR)).to_series()
    found = [hashlib.sha256(line.encode()).digest() for line in lines]
    return pl.Series("digest", found, dtype=pl.Binary)
