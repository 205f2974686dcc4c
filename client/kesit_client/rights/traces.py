"""Where one person's data went: runs in which it was counted, exports, and withdrawals since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.models import EventRow, LeafRow, Person, TreeRow
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import EventType
from kesit_client.rights import marking
from kesit_client.rights.models import ExportPersonRow, ExportRow

RUN: Final = "run"
EXPORT: Final = "export"


@dataclass(frozen=True)
class Trace:
    """One place where the data went. Times are µs.

    Attributes:
        kind, name: `RUN` and its id, or `EXPORT` and its number.
        what: the decision about the person in a run; the content of an export.
        recipient: of an export.
        withdrawn_at: the first withdrawal after it. A run's sums stay; it counted lawfully then.
        acknowledged_at: of an export, when its recipient said that it knows of the withdrawal.
    """

    at: int
    kind: str
    name: str
    what: str
    withdrawn_at: int | None
    recipient: str | None = None
    acknowledged_at: int | None = None


def traces(store: ConsentStore, principal: str) -> list[Trace]:
    """All of one person's, oldest first; none for a person who is not known.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    key = store.pseudonyms([principal])[0]
    with store.reading() as connection:
        person = connection.scalar(sa.select(Person.no).where(Person.key == key))
        if person is None:
            return []
        found = [*_runs(connection, person), *_exports(connection, person)]
    return sorted(found, key=lambda trace: (trace.at, trace.name))


def _runs(connection: Connection, person: int) -> list[Trace]:
    query = (
        sa.select(LeafRow.run, LeafRow.decision, TreeRow.moment)
        .join(TreeRow, TreeRow.run == LeafRow.run)
        .where(LeafRow.person == person)
    )
    withdrawn = sa.select(EventRow.time).where(
        EventRow.person == person, EventRow.type == EventType.WITHDRAWN.value
    )
    times = sorted(connection.scalars(withdrawn))
    return [
        Trace(moment, RUN, run, decision or "", next((t for t in times if t > moment), None))
        for run, decision, moment in connection.execute(query)
    ]


def _exports(connection: Connection, person: int) -> list[Trace]:
    query = (
        sa.select(ExportRow.id, ExportRow.recipient, ExportRow.what, ExportRow.exported_at)
        .join(ExportPersonRow, ExportPersonRow.export == ExportRow.id)
        .where(ExportPersonRow.person == person)
    )
    marked = marking.of_person(connection, person)
    return [
        Trace(at, EXPORT, str(number), what, withdrawn, recipient, known)
        for number, recipient, what, at in connection.execute(query)
        for withdrawn, known in [marked.get(number, (None, None))]
    ]
