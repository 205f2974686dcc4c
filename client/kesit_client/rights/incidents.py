"""Breaches of personal data: whose data they concern, and whether the Board and they were told.

An incident is a request of the kind `breach` (see `requests`), whose clock of 72 hours is the
Board's. The persons come after it (Law 6698 art. 12(5); Board decision 2019/10).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.events import from_us, now_us, show_time
from kesit_client.consent.models import Person
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError
from kesit_client.rights.models import IncidentPersonRow, IncidentRow, RequestRow
from kesit_client.rights.requests import REJECTED
from kesit_privacy.rules import Incident

BOARD: Final = "board"
PERSONS: Final = "persons"


@dataclass(frozen=True)
class Breach:
    """One incident. Times are µs.

    Attributes:
        known_at: when it became known; `due_at`: until when the Board must be told.
        board_at, persons_at: when they were told, or None.
        persons: how many it concerns; None if nobody looked.
        outcome: as of the request.
    """

    id: int
    note: str
    known_at: int
    due_at: int
    board_at: int | None
    persons_at: int | None
    persons: int | None
    outcome: str | None

    @property
    def persons_wait(self) -> bool:
        """Whether persons must still be told, for all that is known."""
        return self.outcome is None and self.persons_at is None and self.persons != 0


def incidents(store: ConsentStore) -> list[Breach]:
    """All incidents, the oldest first; those that were no breach included.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    with store.reading() as connection:
        return [Breach(*row) for row in connection.execute(_query())]


def incident(store: ConsentStore, number: int) -> Breach:
    """One incident.

    Raises:
        ConsentError: there is none with this number.
        ConsentStoreError: the store cannot be read.
    """
    with store.reading() as connection:
        return _one(connection, number)


def told(store: ConsentStore, number: int, whom: str, now: int | None = None) -> Breach:
    """Note that the Board or the persons were told of an incident at `now` (µs).

    Raises:
        ConsentError: no such incident, told already, or before it was known.
        ConsentStoreError: the store refuses; nothing was noted.
    """
    if whom not in (BOARD, PERSONS):
        raise ConsentError(f"Nobody is called {whom!r}.", remedy=f"Give {BOARD} or {PERSONS}.")
    moment = now_us() if now is None else now
    with store.writing() as connection:
        found = _one(connection, number)
        before = found.board_at if whom == BOARD else found.persons_at
        if before is not None:
            raise ConsentError(
                f"They were told at {show_time(before)} already.",
                remedy="`kesit client rights incidents` shows it.",
            )
        if moment < found.known_at:
            raise ConsentError(
                f"The breach became known at {show_time(found.known_at)}: nobody was told before.",
                remedy="Check --at.",
            )
        column = "board_at" if whom == BOARD else "persons_at"
        change = sa.update(IncidentRow).where(IncidentRow.request == number)
        connection.execute(change.values({column: moment}))
        return _one(connection, number)


def concern(
    store: ConsentStore, number: int, people: Iterable[int], now: int | None = None
) -> Breach:
    """Note whose data an incident concerns, beside those that are noted already.

    Args:
        people: numbers of persons in the store (`affected.Affected.people`); nobody is an answer.

    Raises:
        ConsentError: there is no such incident.
        ConsentStoreError: the store refuses; nothing was noted.
    """
    moment = now_us() if now is None else now
    with store.writing() as connection:
        _one(connection, number)
        new = pl.DataFrame({"person": list(people)}, schema={"person": pl.Int64})
        rows = new.unique().select(request=pl.lit(number), person="person")
        store.add(connection, IncidentPersonRow, rows)
        change = sa.update(IncidentRow).where(IncidentRow.request == number)
        connection.execute(change.values(looked_at=moment))
        return _one(connection, number)


def of_person(store: ConsentStore, principal: str) -> list[Breach]:
    """Incidents that concern one person's data."""
    key = store.pseudonyms([principal])[0]
    own = (
        sa.select(IncidentPersonRow.request)
        .join(Person, Person.no == IncidentPersonRow.person)
        .where(Person.key == key)
    )
    with store.reading() as connection:
        return [Breach(*row) for row in connection.execute(_query().where(RequestRow.id.in_(own)))]


def incident_facts(store: ConsentStore, now: int) -> tuple[Incident, ...]:
    """What the rules look at; incidents that were none are left out. No person is in it.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    return tuple(
        Incident(
            f"{found.id} {found.note}".strip(),
            from_us(found.known_at),
            None if found.board_at is None else from_us(found.board_at),
            found.persons,
            None if found.persons_at is None else from_us(found.persons_at),
        )
        for found in incidents(store)
        if found.outcome != REJECTED and found.known_at <= now
    )


def _query() -> Any:
    counted = (
        sa.select(sa.func.count())
        .where(IncidentPersonRow.request == IncidentRow.request)
        .scalar_subquery()
    )
    return (
        sa.select(
            RequestRow.id,
            RequestRow.note,
            RequestRow.opened_at,
            RequestRow.due_at,
            IncidentRow.board_at,
            IncidentRow.persons_at,
            sa.case((IncidentRow.looked_at.is_not(None), counted), else_=None),
            RequestRow.outcome,
        )
        .join(IncidentRow, IncidentRow.request == RequestRow.id)
        .order_by(RequestRow.opened_at, RequestRow.id)
    )


def _one(connection: Connection, number: int) -> Breach:
    found = connection.execute(_query().where(RequestRow.id == number)).one_or_none()
    if found is None:
        raise ConsentError(
            f"There is no incident {number}.",
            remedy="`kesit client rights incidents` shows them; `rights open breach` makes one.",
        )
    return Breach(*found)
