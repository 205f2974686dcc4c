"""Requests of persons, and incidents: opened, counted down, closed.

An objection to automated decisions is recorded as a consent event, too, so that whoever objects is
suppressed from its opening to its closing. Closing an erasure erases; closing a rectification or an
erasure tells every recipient of the person's data (see `exports`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent import frames
from kesit_client.consent.events import Event, now_us, show_time
from kesit_client.consent.keeping import local_offset
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import EventType
from kesit_client.errors import ConsentError
from kesit_client.home import POLICY
from kesit_client.owner.policy import Policy
from kesit_client.rights import exports
from kesit_client.rights.clocks import (
    BREACH,
    ERASURE,
    KINDS,
    OBJECTION,
    OF_PERSONS,
    RECTIFICATION,
    complaint_until,
    due,
)
from kesit_client.rights.models import IncidentPersonRow, IncidentRow, RequestRow

DONE = "done"
REJECTED = "rejected"


@dataclass(frozen=True)
class Request:
    """A request or an incident. Times are µs; `principal` is None for an incident, or once erased.

    `outcome`: `DONE`, `REJECTED`, or None while it is open. `board_at`: of a breach, when the Board
    was told.
    """

    id: int
    kind: str
    principal: str | None
    note: str
    opened_at: int
    due_at: int
    closed_at: int | None
    outcome: str | None
    board_at: int | None = None

    @property
    def complaint_until(self) -> int | None:
        """Until when a person may complain to the Board (µs); None for an incident."""
        if self.kind not in OF_PERSONS:
            return None
        return complaint_until(self.opened_at, self.closed_at)

    def late(self, now: int) -> bool:
        """Whether its deadline passed unanswered, or it was answered after it."""
        answered = self.closed_at if self.board_at is None else self.board_at
        return (now if answered is None else answered) > self.due_at


def require_purposes(store: ConsentStore, home: Path, purposes: Iterable[str]) -> None:
    """Refuse a purpose that neither settings nor records name: it would be a typing error.

    Raises:
        ConsentError: there is one.
    """
    known = {*Policy.load(home / POLICY).purposes, *ConsentSettings.load(home).purposes}
    strange = sorted(set(purposes) - known)
    if strange:
        with store.reading() as connection:
            known |= set(connection.scalars(sa.select(EventRow.purpose).distinct()))
    strange = [purpose for purpose in strange if purpose not in known]
    if strange:
        names = ", ".join(sorted(known - {""})) or "none"
        raise ConsentError(
            f"There is no purpose {strange[0]!r} here.",
            remedy=f"Give one of policy.toml, consent.toml or the records: {names}.",
        )


def open_request(
    store: ConsentStore,
    kind: str,
    principal: str | None = None,
    *,
    note: str = "",
    purposes: Iterable[str] = (),
    received: int | None = None,
    now: int | None = None,
) -> Request:
    """Open a request of a person, or an incident.

    Args:
        purposes: of an objection: those whose automated decisions it is about.
        received: when (µs) it came in or became known, from which its clock runs; None for `now`.

    Raises:
        ConsentError: an unknown kind, a person missing or too much, an objection to nothing, or
            received in the future.
        ConsentStoreError: the store refuses.
    """
    wanted, moment = tuple(purposes), now_us() if now is None else now
    if kind not in KINDS:
        raise ConsentError(
            f"There is no kind {kind!r}.", remedy=f"Give one of: {', '.join(KINDS)}."
        )
    if (kind in OF_PERSONS) != (principal is not None):
        lacking = kind in OF_PERSONS
        needs = "needs the person's id" if lacking else "is about no single person"
        remedy = "Give --person ID." if lacking else "Leave --person out."
        raise ConsentError(f"A request of the kind {kind!r} {needs}.", remedy=remedy)
    if kind == OBJECTION and not wanted:
        raise ConsentError("An objection needs a purpose.", remedy="Give --purpose NAME.")
    since = moment if received is None else received
    if since > moment:
        raise ConsentError(
            f"{show_time(since)} has not come yet.", remedy="Say when it came in, or became known."
        )
    with store.writing() as connection:
        person = None
        if principal is not None:
            # A person who asks is known from then on, even if no record spoke of it before.
            what = wanted if kind == OBJECTION else ()
            mark = [_objection(principal, purpose, moment, EventType.OBJECTED) for purpose in what]
            [person] = store.people(connection, [principal])
            store.append(connection, frames.frame_of(mark), {"": "{}"}, moment)
        values = {
            "kind": kind,
            "person": person,
            "note": note,
            "opened_at": since,
            "due_at": due(kind, since),
        }
        made = connection.execute(sa.insert(RequestRow).values(**values)).inserted_primary_key
        assert made is not None
        if kind == BREACH:
            connection.execute(sa.insert(IncidentRow).values(request=int(made[0])))
        return _request(connection, int(made[0]))


def close_request(
    store: ConsentStore, number: int, outcome: str = DONE, *, note: str = "", now: int | None = None
) -> Request:
    """Close a request with its outcome. What it asks for is done with it.

    Raises:
        ConsentError: no such request, closed already, an unknown outcome, a breach of which the
            Board or the persons were not told, or an objection without a note of who reviewed it.
        ConsentStoreError: the store refuses; nothing was done.
    """
    moment = now_us() if now is None else now
    if outcome not in (DONE, REJECTED):
        raise ConsentError(
            f"There is no outcome {outcome!r}.", remedy=f"Give --outcome {DONE} or {REJECTED}."
        )
    with store.writing() as connection:
        request = _request(connection, number)
        if request.closed_at is not None:
            raise ConsentError(f"The request {number} is closed already.", remedy="Open a new one.")
        if request.kind == OBJECTION and not note.strip():
            raise ConsentError(
                "An objection ends when a human being has looked at it, and it is not said who.",
                remedy='Give --note "who looked at it, and what was found".',
            )
        if request.kind == BREACH and outcome == DONE:
            _require_told(connection, request)
        values: dict[str, object] = {"closed_at": moment, "outcome": outcome}
        if note:
            values["note"] = f"{request.note}; {note}" if request.note else note
        change = sa.update(RequestRow).where(RequestRow.id == number).values(**values)
        connection.execute(change)
        if request.principal is not None:
            _act(store, connection, request, outcome, moment)
        closed = _request(connection, number)
    store.settle()
    return closed


def requests(store: ConsentStore, *, only_open: bool = False) -> list[Request]:
    """All requests and incidents, the one that is due first at the top.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    query = _query().order_by(RequestRow.due_at, RequestRow.id)
    if only_open:
        query = query.where(RequestRow.closed_at.is_(None))
    with store.reading() as connection:
        return [Request(*row) for row in connection.execute(query)]


def of_person(store: ConsentStore, principal: str) -> list[Request]:
    """All requests of one person."""
    return [request for request in requests(store) if request.principal == principal]


def suppressed(store: ConsentStore, ids: Iterable[str]) -> frozenset[str]:
    """Those of `ids` whose segment code may not be used: an objection is open, for any purpose.

    It is open until its request is closed here, whatever records of other systems say of it.

    Raises:
        ConsentStoreError: the store cannot be read; then no code may be used.
    """
    return open_objections(store) & frozenset(ids)


def open_objections(store: ConsentStore) -> frozenset[str]:
    """Everybody whose objection is open.

    Raises:
        ConsentStoreError: the store cannot be read; then no code may be used.
    """
    with store.counting() as connection:
        return frozenset(open_since(connection)["principal"])


def open_since(connection: Connection) -> pl.DataFrame:
    """`person`, `principal` and `since` (µs) of everybody whose objection is open.

    Records of other systems open one, too; none of theirs closes a request that is open here.
    """
    row = EventRow
    query = (
        sa.select(row.person, Person.principal, row.purpose, row.type, row.time)
        .join(Person, Person.no == row.person)
        .where(
            row.type.in_([EventType.OBJECTED.value, EventType.OBJECTION_CLOSED.value]),
            Person.principal.is_not(None),
        )
    )
    names = {"person": pl.Int64, "principal": pl.String}
    kinds = {"purpose": pl.String, "type": pl.Int64, "since": pl.Int64}
    found = fetch(connection, query, {**names, **kinds})
    asked = fetch(connection, _open_requests(), {**names, "since": pl.Int64})
    opens = pl.col("type") == EventType.OBJECTED.value
    closed = found.filter(~opens).group_by("person", "purpose").agg(end=pl.col("since").max())
    both = found.filter(opens).join(closed, on=["person", "purpose"], how="left")
    still = both.filter(pl.col("end").is_null() | (pl.col("end") <= pl.col("since")))
    every = pl.concat([still.select(asked.columns), asked])
    return every.group_by("person", "principal").agg(pl.col("since").min())


def objecting(connection: Connection) -> frozenset[str]:
    """Persons with an open request that objects to automated decisions."""
    names = {"person": pl.Int64, "principal": pl.String, "since": pl.Int64}
    return frozenset(fetch(connection, _open_requests(), names)["principal"])


def _open_requests() -> Any:
    return (
        sa.select(Person.no, Person.principal, RequestRow.opened_at)
        .join(RequestRow, RequestRow.person == Person.no)
        .where(
            RequestRow.kind == OBJECTION,
            RequestRow.closed_at.is_(None),
            Person.principal.is_not(None),
        )
    )


def _act(
    store: ConsentStore, connection: Connection, request: Request, outcome: str, moment: int
) -> None:
    """What the closing of a person's request does beyond noting it."""
    principal = request.principal
    assert principal is not None
    if request.kind == OBJECTION and principal not in objecting(connection):
        # Rejected or not, a person has looked at it: that is what the objection asks for. A second
        # objection that is still open keeps all of them open.
        marks = [
            _objection(principal, purpose, moment, EventType.OBJECTION_CLOSED)
            for purpose in _objected(store, connection, principal)
        ]
        store.append(connection, frames.frame_of(marks), {"": "{}"}, moment)
    if outcome != DONE:
        return
    if request.kind in (RECTIFICATION, ERASURE):
        exports.tell_recipients(store, connection, principal, request.id, request.kind, moment)
    if request.kind == ERASURE:
        store.erase_within(connection, principal, moment)


def _require_told(connection: Connection, breach: Request) -> None:
    """A breach is done with when the Board knows, and then the persons."""
    found = connection.execute(
        sa.select(
            IncidentRow.persons_at,
            IncidentRow.looked_at,
            sa.select(sa.func.count())
            .where(IncidentPersonRow.request == IncidentRow.request)
            .scalar_subquery(),
        ).where(IncidentRow.request == breach.id)
    ).one()
    nobody = found.looked_at is not None and not found[2]
    whom, verb = ("the Board", "was") if breach.board_at is None else ("the persons", "were")
    if breach.board_at is None or (found.persons_at is None and not nobody):
        raise ConsentError(
            f"The breach {breach.id} cannot be closed as done: {whom} {verb} not told.",
            remedy=f"`kesit client rights told {breach.id} --whom board` (or persons) once it is"
            " done; --outcome rejected if it was no breach.",
        )


def _objected(store: ConsentStore, connection: Connection, principal: str) -> list[str]:
    events = store.events(principal, connection)
    return events.filter(pl.col("type") == EventType.OBJECTED.value)["purpose"].unique().to_list()


def _objection(principal: str, purpose: str, moment: int, kind: EventType) -> Event:
    name = f"objection-{secrets.token_hex(8)}"
    return Event(name, principal, purpose, kind, moment, local_offset(moment))


def _query() -> Any:
    row = RequestRow
    return sa.select(
        row.id,
        row.kind,
        Person.principal,
        row.note,
        row.opened_at,
        row.due_at,
        row.closed_at,
        row.outcome,
        IncidentRow.board_at,
    ).select_from(
        sa.outerjoin(
            sa.outerjoin(row, Person, Person.no == row.person),
            IncidentRow,
            IncidentRow.request == row.id,
        )
    )


def _request(connection: Connection, number: int) -> Request:
    found = connection.execute(_query().where(RequestRow.id == number)).one_or_none()
    if found is None:
        raise ConsentError(
            f"There is no request {number}.", remedy="`kesit client rights list` shows them."
        )
    return Request(*found)
