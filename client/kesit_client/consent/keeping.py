"""What an owner does with the consent store: look, withdraw for a person, check."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
import sqlalchemy as sa

from kesit_client.consent import frames, standing
from kesit_client.consent.events import ISTANBUL, SECOND, Event, from_us, now_us
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.state import ConsentState, state
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import BASES, CONSENT, GRANTS, INVISIBLE, EventType, Reason
from kesit_client.consent.witness import CAUTION
from kesit_client.errors import ConsentError
from kesit_client.rights.marking import mark

SOON_DAYS: Final = 30
IYS_STATUSES: Final = ("ONAY", "RET")
"""What the message registry says: approved, refused."""
NO_RECORDS: Final = frozenset({EventType.ERASED, EventType.OBJECTED, EventType.OBJECTION_CLOSED})
"""Events that stand without a consent record, also for an id that was typed by hand."""


@dataclass(frozen=True)
class Standing:
    """How many persons stand how towards one purpose.

    Attributes:
        soon: who counts now and will not in `SOON_DAYS` days, if nothing happens.
        needless: persons with a consent although another ground is recorded for the purpose.
    """

    purpose: str
    basis: str
    counts: dict[Reason, int]
    soon: int
    needless: int

    @property
    def eligible(self) -> int:
        """Who would count now."""
        return self.counts.get(Reason.GIVEN, 0)


def person_id(text: str) -> str:
    """An id as the store has it: NFC, no space around it.

    Raises:
        ConsentError: it holds what cannot be seen, and would be another person's.
    """
    found = unicodedata.normalize("NFC", text.strip())
    lost = any(unicodedata.category(letter) == "Cs" for letter in found)
    if lost or pl.Series([found]).str.contains(INVISIBLE)[0]:
        raise ConsentError(
            f"The id {ascii(found)[:80]} holds characters that cannot be seen.",
            remedy="Type it anew, in UTF-8.",
        )
    return found


def stand(
    store: ConsentStore, purposes: Iterable[str], basis: str = CONSENT, now: int | None = None
) -> list[Standing]:
    """How everybody stands towards each purpose.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    moment = now_us() if now is None else now
    found = []
    for purpose in purposes:
        with store.reading() as connection:
            events = standing.read(connection, purpose, basis)
        table = standing.decide(events, moment, basis)
        later = standing.decide(events, moment + SOON_DAYS * 86_400 * SECOND, basis)
        counted = {Reason(reason): n for reason, n in table.group_by("reason").len().rows()}
        given = table.filter(pl.col("reason") == Reason.GIVEN.value)
        still = later.filter(pl.col("reason") == Reason.GIVEN.value)
        soon = len(given.join(still, on="person", how="anti"))
        grants = events.filter(
            pl.col("own") & pl.col("type").is_in([kind.value for kind in GRANTS])
        )
        kinds = grants.group_by("person").agg(pl.col("wanted").n_unique().alias("n"))
        needless = len(kinds.filter(pl.col("n") > 1)) if basis == CONSENT else 0
        found.append(Standing(purpose, basis, dict(sorted(counted.items())), soon, needless))
    return found


def stand_on_each(
    store: ConsentStore, purposes: Iterable[str], now: int | None = None
) -> list[Standing]:
    """How everybody stands towards each purpose, on each ground that anything was given on.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    wanted = tuple(purposes)
    query = sa.select(EventRow.purpose, EventRow.basis).where(
        EventRow.purpose.in_(wanted), EventRow.type.in_([kind.value for kind in GRANTS])
    )
    with store.reading() as connection:
        given = {(purpose, basis) for purpose, basis in connection.execute(query.distinct())}
    return [
        found
        for purpose in wanted
        for basis in BASES
        if basis == CONSENT or (purpose, basis) in given
        for found in stand(store, [purpose], basis, now)
    ]


def history(store: ConsentStore, principal: str, *, need: bool = True) -> list[Event]:
    """All events of one person, oldest first.

    Raises:
        ConsentError: the person is unknown; without `need` there are no events.
    """
    events = frames.events_of(_known(store, principal, need=need))
    return [event for event in events if event.type is not EventType.ERASED]


def with_records(store: ConsentStore, principals: Sequence[str]) -> int:
    """How many of these persons have a consent record, for whatever purpose.

    An export, a request or an incident makes a person known, too, by an id that says nothing of
    how the consents write it.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    keys = pl.Series("key", store.pseudonyms(principals), dtype=pl.Binary)
    kinds = [kind.value for kind in EventType if kind not in NO_RECORDS]
    persons = sa.select(EventRow.person).where(EventRow.type.in_(kinds))
    query = sa.select(Person.key).where(Person.no.in_(persons))
    with store.reading() as connection:
        recorded = fetch(connection, query, {"key": pl.Binary})
    return int(keys.is_in(recorded["key"].implode()).sum())


def states_of(events: Sequence[Event], now: int) -> list[tuple[str, str, ConsentState]]:
    """(purpose, ground, state) of one person whose events these are, for all that was given."""
    given = dict.fromkeys((event.purpose, event.basis) for event in events if event.grants)
    granted = {purpose for purpose, _ in given}
    bare = [event.purpose for event in events if event.purpose not in granted]
    pairs = [*given, *dict.fromkeys((purpose, CONSENT) for purpose in bare)]
    return [(to, on, state(events, now, purpose=to, basis=on)) for to, on in pairs]


def states(
    store: ConsentStore, principal: str, purposes: Iterable[str], now: int | None = None
) -> dict[str, ConsentState]:
    """How one person stands towards each purpose.

    Raises:
        ConsentError: the person is unknown.
    """
    events, moment = history(store, principal), now_us() if now is None else now
    return {purpose: state(events, moment, purpose=purpose) for purpose in purposes}


def withdraw(
    store: ConsentStore,
    principal: str,
    purposes: Sequence[str] | None = None,
    *,
    channel: str = "client",
    now: int | None = None,
) -> tuple[str, ...]:
    """Record that a person takes its consents back, from now on; for which purposes.

    Args:
        purposes: None for all for which the person ever gave one.

    Raises:
        ConsentError: the person is unknown, or gave nothing for such a purpose.
        ConsentStoreError: the store refuses; nothing was recorded.
    """
    events = history(store, principal)
    given = dict.fromkeys(event.purpose for event in events if event.grants)
    wanted = tuple(given) if purposes is None else tuple(purposes)
    strange = [purpose for purpose in wanted if purpose not in given]
    if strange or not wanted:
        raise ConsentError(
            f"This person gave nothing for {', '.join(strange) or 'any purpose'}.",
            remedy="`kesit client consent history ID` shows what was given.",
        )
    # A grant may be ahead of this clock by the skew that imports allow; the withdrawal still wins.
    last = max(event.time for event in events if event.grants)
    recorded = now_us() if now is None else now
    moment = max(recorded, last)
    add(store, [_withdrawal(principal, each, moment, channel) for each in wanted], recorded)
    return wanted


def record_iys(
    store: ConsentStore,
    principal: str,
    purpose: str,
    *,
    channel: str,
    status: str,
    checked_at: int | None = None,
) -> Event:
    """Record what the message registry (IYS) says of one person's channel; the latest counts.

    Args:
        checked_at: when it was looked up (µs); None for now.

    Raises:
        ConsentError: the person is unknown, or the status is none of `IYS_STATUSES`.
        ConsentStoreError: the store refuses; nothing was recorded.
    """
    history(store, principal)
    word = status.strip().upper()
    if word not in IYS_STATUSES:
        raise ConsentError(
            f"IYS has no status {status!r}.", remedy=f"Give one of: {', '.join(IYS_STATUSES)}."
        )
    if not channel.strip():
        raise ConsentError("The channel has no name.", remedy="Give one, such as sms.")
    moment = now_us() if checked_at is None else checked_at
    event = Event(
        f"iys-{secrets.token_hex(8)}",
        principal,
        purpose,
        EventType.IYS_STATUS,
        moment,
        local_offset(moment),
        iys_channel=channel.strip().lower(),
        iys_status=word,
        iys_checked_at=moment,
    )
    add(store, [event])
    return event


def add(store: ConsentStore, events: Sequence[Event], now: int | None = None) -> None:
    """Record events that were not read from a file, at `now` (µs; None for the present).

    A withdrawal marks earlier exports.

    Raises:
        ConsentStoreError: the store refuses; nothing was recorded.
    """
    with store.writing() as connection:
        store.append(connection, frames.frame_of(events), {"": "{}"}, now)
        if any(event.type is EventType.WITHDRAWN for event in events):
            mark(connection, now_us() if now is None else now)


def local_offset(moment: int) -> int:
    """Seconds east of UTC on the clocks of Istanbul."""
    offset = from_us(moment).astimezone(ISTANBUL).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _known(store: ConsentStore, principal: str, *, need: bool) -> pl.DataFrame:
    found = store.events(principal)
    if need and found.filter(pl.col("type") != EventType.ERASED.value).is_empty():
        remedy = "Check the id, leading zeros included; its data may have been erased."
        raise ConsentError(
            f"No record speaks of {principal!r}.",
            remedy=remedy if store.restored is None else f"{remedy} {CAUTION['en']}",
        )
    return found.with_columns(principal=pl.lit(principal))


def _withdrawal(principal: str, purpose: str, moment: int, channel: str) -> Event:
    return Event(
        f"withdrawal-{secrets.token_hex(8)}",
        principal,
        purpose,
        EventType.WITHDRAWN,
        moment,
        local_offset(moment),
        channel=channel,
    )
