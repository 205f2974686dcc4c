"""Runs of which the consent store says nothing about a person: made without consents, or unknown.

A leaf of a run's tree says what was decided about a person (`traces`). No tree is built of a run
whose rows passed no gate: it counted every customer of the source, and the books alone know it. So
"nothing" may be said only where the books are whole and every run of theirs has a tree here.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from kesit_client.consent.attesting import place_of
from kesit_client.consent.gate import MOMENTS
from kesit_client.consent.models import EventRow, Person, TreeRow
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import EventType
from kesit_client.errors import StoreError
from kesit_client.home import BOOKS
from kesit_client.owner.preflight import existing_books
from kesit_privacy.attestation import read_attestation
from kesit_privacy.errors import ProtocolError

NOT_KEPT: Final = "not-kept"


@dataclass(frozen=True)
class Booked:
    """A run of the books. `at`: Unix seconds of its first charge.

    `own`: an answer of this client is in the books; else a coordinator's log alone speaks of it.
    """

    run: str
    at: float
    own: bool


@dataclass(frozen=True)
class Untold:
    """What no leaf tells one person.

    Attributes:
        all_counted: runs that were made while no consents were kept.
        unrecorded: runs of which nothing here says whether the person was counted.
        whole: whether the books say all; not if they are missing, broken, or look restored.
    """

    all_counted: tuple[Booked, ...]
    unrecorded: tuple[Booked, ...]
    whole: bool


def untold(store: ConsentStore, principal: str, told: Collection[str]) -> Untold:
    """The runs of a client's books of which no leaf speaks to a person.

    Args:
        told: runs of which one does.

    Raises:
        ConsentStoreError: the consent store cannot be read.
    """
    booked, whole = _booked(store.home)
    decided = {*told, *_decided(store, principal)}
    rest = [item for item in booked if item.run not in decided]
    free = {item.run for item in rest if _without_consents(store, item)}
    return Untold(
        tuple(item for item in rest if item.run in free),
        tuple(item for item in rest if item.run not in free),
        whole,
    )


def _booked(home: Path) -> tuple[list[Booked], bool]:
    """Runs in which something was answered, oldest first; and whether the books say all."""
    try:
        with closing(existing_books(home / BOOKS)) as books:
            whole = books.restored is None
            with books.transaction() as read:
                rows = read.rows(_RUNS)
    except StoreError:
        return [], False
    return [Booked(run, at, bool(own)) for run, at, own in rows], whole


def _decided(store: ConsentStore, principal: str) -> set[str]:
    """Runs whose tree would hold a leaf of this person, had it been known then.

    An erasure takes the leaves of earlier runs away; of these nothing is known any more.
    """
    key = store.pseudonyms([principal])[0]
    erased = (
        sa.select(sa.func.max(EventRow.time))
        .join(Person, Person.no == EventRow.person)
        .where(Person.key == key, EventRow.type == EventType.ERASED.value)
    )
    with store.reading() as connection:
        since = connection.scalar(erased) or 0
        return set(connection.scalars(sa.select(TreeRow.run).where(TreeRow.moment > since)))


def _without_consents(store: ConsentStore, item: Booked) -> bool:
    """Whether a run passed no gate: as attested, or else by what the gate would have left.

    The gate notes its moment before each sum, so an answer without one passed no gate; that is
    also what an attestation would say (`attesting.attest`).
    """
    with store.reading() as connection:
        tree = connection.scalar(sa.select(TreeRow.run).where(TreeRow.run == item.run))
    if tree is not None or (store.home / MOMENTS / f"{item.run}.json").exists():
        return False
    try:
        said = read_attestation(place_of(store.home, item.run).read_bytes())
    except FileNotFoundError:
        return item.own
    except (OSError, ProtocolError):
        return False
    return said.run == item.run and said.consent == NOT_KEPT


_RUNS: Final = (
    "SELECT run, min(charged_at), max(origin = 'own') FROM charge WHERE origin <> 'own' OR EXISTS"
    " (SELECT 1 FROM answer WHERE answer.run = charge.run AND answer.step = charge.step"
    " AND answer.attempt = charge.attempt) GROUP BY run ORDER BY min(charged_at), run"
)
