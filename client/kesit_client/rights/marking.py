"""Marks on earlier exports: whom they hold and who withdrew since, until the recipient knows.

A mark is made in the transaction that records the withdrawal, so that none is ever missing. It
names the export and the person, once; the recipient acknowledges an export's marks together.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.events import now_us
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import GRANTS, EventType
from kesit_client.errors import ConsentError
from kesit_client.rights.models import ExportPersonRow, ExportRow, MarkRow


@dataclass(frozen=True)
class Mark:
    """A person of an export who withdrew. Times are µs; `principal` is None once erased."""

    principal: str | None
    withdrawn_at: int
    marked_at: int
    acknowledged_at: int | None


def mark(connection: Connection, now: int, made: int | None = None) -> int:
    """Mark the exports of everybody who withdrew after them; how many marks are new.

    A withdrawal counts for an export that was made before it, or before it was recorded, unless a
    ground was given between the two; an export for one purpose, only for that purpose.

    Args:
        connection: of `ConsentStore.writing`, the withdrawals recorded.
        made: an export for a purpose that is being noted: whoever had withdrawn by then is marked
            in it, too. A list that was drawn up before the withdrawal holds the person, and its
            recipient must be told as well.
    """
    event, export, holds = EventRow, ExportRow, ExportPersonRow
    again = EventRow.__table__.alias("again")
    regained = sa.exists().where(
        again.c.person == event.person,
        again.c.purpose == event.purpose,
        again.c.type.in_([kind.value for kind in GRANTS]),
        again.c.time > event.time,
        again.c.time <= export.exported_at,
    )
    marked = sa.exists().where(MarkRow.export == holds.export, MarkRow.person == holds.person)
    query = (
        sa.select(holds.export, holds.person, sa.func.min(event.time), sa.literal(now))
        .join(export, export.id == holds.export)
        .join(event, event.person == holds.person)
        .where(
            event.type == EventType.WITHDRAWN.value,
            sa.or_(event.time >= export.exported_at, event.recorded_at >= export.exported_at)
            if made is None
            else export.id == made,
            sa.or_(export.purpose.is_(None), export.purpose == event.purpose),
            ~regained,
            ~marked,
        )
        .group_by(holds.export, holds.person)
    )
    columns = ["export", "person", "withdrawn_at", "marked_at"]
    return connection.execute(sa.insert(MarkRow).from_select(columns, query)).rowcount


def marks(store: ConsentStore, export: int) -> list[Mark]:
    """The persons of an export who withdrew since, in the order of their ids.

    Raises:
        ConsentError: there is no such export.
        ConsentStoreError: the store cannot be read.
    """
    query = (
        sa.select(
            Person.principal, MarkRow.withdrawn_at, MarkRow.marked_at, MarkRow.acknowledged_at
        )
        .join(Person, Person.no == MarkRow.person)
        .where(MarkRow.export == export)
        .order_by(Person.principal, Person.no)
    )
    with store.reading() as connection:
        _require(connection, export)
        return [Mark(*row) for row in connection.execute(query)]


def acknowledge(store: ConsentStore, export: int, now: int | None = None) -> int:
    """Note that the recipient knows all withdrawals that an export is marked with; how many.

    Raises:
        ConsentError: there is no such export, or none of its marks waits.
        ConsentStoreError: the store refuses; nothing was noted.
    """
    moment = now_us() if now is None else now
    with store.writing() as connection:
        _require(connection, export)
        change = sa.update(MarkRow).where(
            MarkRow.export == export, MarkRow.acknowledged_at.is_(None)
        )
        done = connection.execute(change.values(acknowledged_at=moment)).rowcount
        if not done:
            raise ConsentError(
                f"No withdrawal of the export {export} waits for an acknowledgement.",
                remedy="`kesit client exports list` shows them.",
            )
    return done


def waiting(store: ConsentStore) -> list[tuple[int, str, int]]:
    """(export, recipient, withdrawals that it has not acknowledged), the oldest export first."""
    query = (
        sa.select(ExportRow.id, ExportRow.recipient, sa.func.count())
        .join(MarkRow, MarkRow.export == ExportRow.id)
        .where(MarkRow.acknowledged_at.is_(None))
        .group_by(ExportRow.id, ExportRow.recipient)
        .order_by(ExportRow.id)
    )
    with store.reading() as connection:
        return [(number, to, count) for number, to, count in connection.execute(query)]


def of_person(connection: Connection, person: int) -> dict[int, tuple[int | None, int | None]]:
    """By export: when the person withdrew, and when the recipient acknowledged it."""
    query = sa.select(MarkRow.export, MarkRow.withdrawn_at, MarkRow.acknowledged_at).where(
        MarkRow.person == person
    )
    return {export: (at, done) for export, at, done in connection.execute(query)}


def _require(connection: Connection, export: int) -> None:
    if connection.scalar(sa.select(ExportRow.id).where(ExportRow.id == export)) is None:
        raise ConsentError(
            f"There is no export {export}.", remedy="`kesit client exports list` shows them."
        )
