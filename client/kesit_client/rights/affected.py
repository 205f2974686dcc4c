"""Whose data were where: the persons of an export, of a run, of a time, or all that are kept.

For an incident: what was lost or seen names an export, a run or a time, and this names the persons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.models import EventRow, LeafRow, Person, TreeRow
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import EventType
from kesit_client.errors import ConsentError
from kesit_client.rights.models import ExportPersonRow, ExportRow
from kesit_privacy.attestation import INCLUDED


@dataclass(frozen=True)
class Where:
    """What was lost or seen; of several things all are meant.

    Attributes:
        exports: numbers in the register. runs: their ids, or the beginnings.
        since, until: µs; every export and run from the one to the other, and `kept` until then.
        kept: all of whom the store has records.
    """

    exports: tuple[int, ...] = ()
    runs: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    kept: bool = False

    @property
    def in_time(self) -> bool:
        """Whether a time stands for all exports and runs in it."""
        timed = self.since is not None or self.until is not None
        return timed and not (self.exports or self.runs or self.kept)


@dataclass(frozen=True)
class Affected:
    """Persons and where their data were.

    Attributes:
        table: `person` (number), `principal` (null once erased), `place`; a row for each place.
    """

    table: pl.DataFrame

    @property
    def people(self) -> list[int]:
        """The persons' numbers in the store."""
        return sorted(self.table["person"].unique())

    @property
    def erased(self) -> int:
        """How many have been erased since: nobody can name them."""
        return self.table.filter(pl.col("principal").is_null())["person"].n_unique()

    def named(self) -> pl.DataFrame:
        """`pii_principal_id`, `place` of those whose ids are still kept, in the ids' order."""
        known = self.table.filter(pl.col("principal").is_not_null())
        return known.select(pii_principal_id="principal", place="place").sort(pl.all())

    def places(self) -> list[tuple[str, int]]:
        """(place, persons), in the order of the places' names."""
        counted = self.table.group_by("place").agg(pl.col("person").n_unique()).sort("place")
        return [(place, count) for place, count in counted.rows()]


_SCHEMA = {"person": pl.Int64, "principal": pl.String, "place": pl.String}


def affected(store: ConsentStore, where: Where) -> Affected:
    """The persons whose data were there.

    Raises:
        ConsentError: nothing was named, or no such export or run.
        ConsentStoreError: the store cannot be read.
    """
    if not (where.exports or where.runs or where.kept or where.in_time):
        raise ConsentError(
            "Nothing says where the data were.",
            remedy="Give --export, --run, --since, --until or --kept.",
        )
    with store.reading() as connection:
        parts = [_exported(connection, where), _counted(connection, where)]
        if where.kept:
            parts.append(_kept(connection, where))
    return Affected(pl.concat(parts).unique())


def _exported(connection: Connection, where: Where) -> pl.DataFrame:
    made = _moments(connection, sa.select(ExportRow.id, ExportRow.exported_at))
    strange = sorted(set(where.exports) - set(made))
    if strange:
        raise ConsentError(
            f"There is no export {strange[0]}.", remedy="`kesit client exports list` shows them."
        )
    wanted = [n for n, at in made.items() if n in where.exports or _within(at, where)]
    query = (
        sa.select(Person.no, Person.principal, ExportPersonRow.export)
        .join(ExportPersonRow, ExportPersonRow.person == Person.no)
        .where(ExportPersonRow.export.in_(wanted))
    )
    found = fetch(connection, query, {**_SCHEMA, "place": pl.Int64})
    return found.with_columns(place=pl.format("export {}", "place"))


def _counted(connection: Connection, where: Where) -> pl.DataFrame:
    made = _moments(connection, sa.select(TreeRow.run, TreeRow.moment))
    for run in where.runs:
        if not any(known.startswith(run) for known in made):
            raise ConsentError(
                f"Nothing is kept of the run {run}.",
                remedy=f"`kesit client attest {run}` keeps who was counted in it.",
            )
    wanted = [run for run, at in made.items() if run.startswith(where.runs) or _within(at, where)]
    query = (
        sa.select(Person.no, Person.principal, LeafRow.run)
        .join(LeafRow, LeafRow.person == Person.no)
        .where(LeafRow.run.in_(wanted), LeafRow.decision == INCLUDED)
    )
    found = fetch(connection, query, _SCHEMA)
    return found.with_columns(place=pl.format("run {}", "place"))


def _kept(connection: Connection, where: Where) -> pl.DataFrame:
    query = (
        sa.select(Person.no, Person.principal, sa.literal("kept records"))
        .join(EventRow, EventRow.person == Person.no)
        .where(EventRow.type != EventType.ERASED.value)
        .distinct()
    )
    if where.until is not None:
        query = query.where(EventRow.recorded_at <= where.until)
    return fetch(connection, query, _SCHEMA)


def _moments(connection: Connection, query: Any) -> dict[Any, int]:
    return {name: int(moment) for name, moment in connection.execute(query)}


def _within(moment: int, where: Where) -> bool:
    after = where.since is None or where.since <= moment
    return where.in_time and after and (where.until is None or moment <= where.until)
