"""Events as files: CSV, Parquet, JSON-LD, in the columns that an import reads."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa

from kesit_client.consent import frames
from kesit_client.consent.cells import guarded
from kesit_client.consent.events import ISTANBUL, from_us, write_time
from kesit_client.consent.jsonld import write_records
from kesit_client.consent.models import EventRow, Person, Terms
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import (
    ADULT_YEARS,
    DPV_BASIS,
    DPV_STATUS,
    EVENT_FIELDS,
    FOREVER,
    TERMS,
    EventType,
)
from kesit_client.errors import ConsentError
from kesit_privacy.files import replacing

_NAMES: Final = {
    "principal": "pii_principal_id",
    "basis": "lawful_basis",
    "state": "event_state",
    "channel": "collection_channel",
    "profiling": "profiling_consent",
    "special": "special_categories",
    "special_ground": "special_category_ground",
}


def export_file(store: ConsentStore, path: Path, principal: str | None = None) -> int:
    """Write all events, or those of one person; how many there are.

    Raises:
        ConsentError: the file exists, has another format, or cannot be written.
        ConsentStoreError: the store cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet", ".jsonld"):
        raise ConsentError(
            f"{path}: has an unknown format.", remedy="Give a name in .csv, .parquet or .jsonld."
        )
    if path.exists():
        raise ConsentError(f"{path}: exists already.", remedy="Give another name.")
    events = all_events(store) if principal is None else store.events(principal)
    table = written(store, events)
    try:
        with replacing(path, private=True) as file:
            if suffix == ".parquet":
                table.write_parquet(file)
            elif suffix == ".csv":
                file.write(guarded(table).write_csv(None).encode())
            else:
                file.write(write_records(_linked(row) for row in table.to_dicts()))
    except OSError as error:
        raise ConsentError(
            f"{path}: cannot be written ({error.strerror}).", remedy="Check the folder."
        ) from error
    return len(table)


def all_events(store: ConsentStore) -> pl.DataFrame:
    """Every event of every person that was not erased, in the order of recording."""
    names = [name for name in frames.SCHEMA if name != "principal"]
    columns = [EventRow.__table__.c[name] for name in names]
    query = (
        sa.select(Person.principal, *columns)
        .join(Person, Person.no == EventRow.person)
        .where(EventRow.type != EventType.ERASED.value)
        .order_by(EventRow.id)
    )
    schema = {name: frames.SCHEMA[name] for name in ("principal", *names)}
    with store.reading() as connection:
        return fetch(connection, query, schema)


def written(store: ConsentStore, events: pl.DataFrame) -> pl.DataFrame:
    """Events in the columns of a file (`EVENT_FIELDS`, `TERMS`)."""
    events = events.filter(pl.col("type") != EventType.ERASED.value)
    rows = [_row(row) for row in events.select(*frames.SCHEMA).to_dicts()]
    columns = [name for name in EVENT_FIELDS if name != "automated_decision_objection"]
    table = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))
    shared = shared_fields(store)
    found = [shared.get(name, {}) for name in events["terms"]]
    return table.with_columns(
        pl.Series(name, [fields.get(name) for fields in found], dtype=pl.String) for name in TERMS
    )


def shared_fields(store: ConsentStore) -> dict[str, dict[str, str]]:
    """Values of the fields that records share, by hash."""
    with store.reading() as connection:
        rows = connection.execute(sa.select(Terms.hash, Terms.fields)).fetchall()
    return {name: json.loads(fields) for name, fields in rows}


def _row(event: dict[str, Any]) -> dict[str, str | None]:
    offset, adult = event["offset"], event["adult_from"]
    kind = EventType(event["type"])
    plain = {_NAMES.get(name, name): value for name, value in event.items()}
    plain |= {
        "event_type": kind.word,
        "event_time": write_time(event["time"], offset),
        "notice_shown_at": _time(event["notice_shown_at"], offset),
        "iys_checked_at": _time(event["iys_checked_at"], offset),
        "birth_date": None if adult in (None, 0, FOREVER) else _born(adult),
        "minor": {None: None, 0: "false", FOREVER: "true"}.get(adult),
    }
    return {
        name: _text(plain[name]) for name in EVENT_FIELDS if name != "automated_decision_objection"
    }


def _time(moment: int | None, offset: int) -> str | None:
    return None if moment is None else write_time(moment, offset)


def _born(adult: int) -> str:
    """The birth date of whom comes of age at `adult`; of 29 February, 1 March serves as well."""
    day = from_us(adult).astimezone(ISTANBUL).date()
    return datetime.date(day.year - ADULT_YEARS, day.month, day.day).isoformat()


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _linked(row: dict[str, str | None]) -> dict[str, str | None]:
    """A row with DPV's terms for its type and ground."""
    kind = next(kind for kind in EventType if kind.word == row["event_type"])
    basis = row["lawful_basis"]
    return row | {
        "event_type": DPV_STATUS[kind],
        "lawful_basis": None if basis is None else DPV_BASIS[basis],
    }
