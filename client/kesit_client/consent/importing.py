"""`consent import`: a file's good rows into the store in one transaction, the others into a report.

A second import of the same file adds nothing. Whatever stops the transaction (a full disk, a lock,
a crash) leaves the store as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.cells import guarded
from kesit_client.consent.columns import text
from kesit_client.consent.events import now_us
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.reading import RawTable, read_file
from kesit_client.consent.records import Known, examine
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import CONSENT, DEFAULTS, GRANTS, EventType
from kesit_client.errors import ConsentError
from kesit_client.rights.marking import mark
from kesit_client.rights.requests import objecting
from kesit_privacy.files import replacing

FEW: Final = 500
_GRANTS: Final = [kind.value for kind in GRANTS]


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        rows: of the file. new: events that were added; known: good rows that were there already.
        refused: `line`, `record_id`, `reason`.
        ignored: columns that were not read.
        unmatched: withdrawals and expiries of what nobody gave here; their ids may be written
            otherwise than in the consents.
    """

    rows: int
    new: int
    known: int
    refused: pl.DataFrame
    ignored: tuple[str, ...]
    unmatched: int = 0

    def reasons(self) -> list[tuple[str, int, int]]:
        """(reason, rows, first line), the most frequent first."""
        counted = self.refused.group_by("reason").agg(pl.len().alias("n"), pl.col("line").min())
        ordered = counted.sort(["n", "line"], descending=[True, False])
        return [(reason, n, line) for reason, n, line in ordered.rows()]

    def write_report(self, path: Path) -> None:
        """Write line, record and reason of every refused row as CSV.

        Raises:
            ConsentError: the disk refuses.
        """
        try:
            with replacing(path, private=True) as file:
                file.write(guarded(self.refused).write_csv(None).encode())
        except OSError as error:
            raise ConsentError(
                f"{path}: the report cannot be written ({error.strerror}).",
                remedy="Give another --report FILE.",
            ) from error


def import_file(
    store: ConsentStore,
    path: Path,
    *,
    purposes: tuple[str, ...],
    settings: ConsentSettings | None = None,
    now: int | None = None,
) -> Imported:
    """Import a CSV, Parquet or JSON-LD file.

    Args:
        purposes: the policy's; those of the settings come on top.
        now: µs; None for the present.

    Raises:
        ConsentError: the file as a whole cannot be used.
        ConsentStoreError: the store refuses; nothing was imported.
    """
    settings = settings or ConsentSettings()
    moment = now_us() if now is None else now
    raw = read_file(path, settings.max_file_mb)
    with store.writing() as connection:
        known = Known(
            moment,
            (*purposes, *settings.purposes),
            {**DEFAULTS, **settings.defaults},
            _actions(connection, raw),
            _shown(connection, raw),
            _earliest_grants(connection, raw),
            _erased(store, connection, raw),
            objecting(connection),
            settings.controllers,
        )
        found = examine(raw, known)
        new = store.append(connection, found.events, found.terms, moment)
        if (found.events["type"] == EventType.WITHDRAWN.value).any():
            mark(connection, moment)
    good = len(raw.rows) - len(found.refused)
    known_rows = max(0, good - new)
    return Imported(len(raw.rows), new, known_rows, found.refused, raw.ignored, found.unmatched)


def _actions(connection: Connection, raw: RawTable) -> pl.DataFrame:
    """Actions of the file by which the store has grants already, with their purposes."""
    if "event_id" not in raw.rows.columns:
        return pl.DataFrame()
    query = sa.select(EventRow.event_id, EventRow.purpose).where(
        EventRow.type.in_(_GRANTS), EventRow.event_id.is_not(None)
    )
    wanted = text(raw.rows["event_id"]).drop_nulls().unique()
    if len(wanted) <= FEW:
        query = query.where(EventRow.event_id.in_(wanted.to_list()))
    found = fetch(connection, query, {"event_id": pl.String, "known_purpose": pl.String})
    return found.unique(subset="event_id", keep="first", maintain_order=True)


def _shown(connection: Connection, raw: RawTable) -> pl.DataFrame:
    """Actions of the file by which the store has a notice shown already."""
    if "event_id" not in raw.rows.columns:
        return pl.DataFrame()
    query = sa.select(EventRow.event_id).where(
        EventRow.type == EventType.NOTICE_SHOWN.value, EventRow.event_id.is_not(None)
    )
    found = fetch(connection, query.distinct(), {"event_id": pl.String})
    return found.with_columns(known_shown=pl.lit(True))


def _earliest_grants(connection: Connection, raw: RawTable) -> pl.DataFrame:
    """Earliest consents of each person and purpose, if the file holds ends of them."""
    kinds = text(raw.rows["event_type"]).str.to_lowercase()
    if not kinds.str.contains("withdrawn|expired").any():
        return pl.DataFrame()
    query = (
        sa.select(Person.principal, EventRow.purpose, sa.func.min(EventRow.time))
        .join(Person, Person.no == EventRow.person)
        .where(EventRow.type.in_(_GRANTS), EventRow.basis == CONSENT)
        .group_by(Person.principal, EventRow.purpose)
    )
    schema = {"principal": pl.String, "purpose": pl.String, "known_grant": pl.Int64}
    return fetch(connection, query, schema)


def _erased(store: ConsentStore, connection: Connection, raw: RawTable) -> pl.DataFrame:
    """Persons of the file whose data were erased, and when."""
    query = (
        sa.select(Person.key, sa.func.max(EventRow.time))
        .join(EventRow, EventRow.person == Person.no)
        .where(EventRow.type == EventType.ERASED.value)
        .group_by(Person.key)
    )
    gone = fetch(connection, query, {"key": pl.Binary, "erased_at": pl.Int64})
    if gone.is_empty():
        return pl.DataFrame()
    names = text(raw.rows["pii_principal_id"]).drop_nulls().unique()
    keys = pl.Series("key", store.pseudonyms(names.to_list()), dtype=pl.Binary)
    people = pl.DataFrame({"principal": names, "key": keys})
    return people.join(gone, on="key").select("principal", "erased_at")
