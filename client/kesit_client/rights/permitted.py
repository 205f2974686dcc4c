"""Who may be in an export at this moment: nothing is given out unless the consent store says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from kesit_client.consent import standing
from kesit_client.consent.events import now_us
from kesit_client.consent.gate import require_clock
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import CONSENT, Reason
from kesit_client.rights import iys
from kesit_client.rights.requests import suppressed

OBJECTED: Final = Reason.OBJECTED.word
NO_APPROVAL: Final = "no IYS approval"


@dataclass(frozen=True)
class Permitted:
    """`ids` that may be exported, in the order given; `refused`: persons by reason."""

    ids: list[str]
    refused: dict[str, int]


def permitted(
    store: ConsentStore,
    ids: Sequence[str],
    purpose: str,
    *,
    basis: str = CONSENT,
    channel: str | None = None,
    now: int | None = None,
) -> Permitted:
    """Divide persons into those who may be exported for a purpose and the others.

    An open objection to an automated decision keeps a person out, whatever its ground.

    Args:
        channel: the list is for messages on this channel, which need the approval of IYS.
        now: µs; None for the present, by a clock that must not be behind the store.

    Raises:
        ConsentStoreError: the store cannot be read or looks restored, or this clock is behind it;
            then nobody may be exported.
    """
    moment, people = now_us() if now is None else now, list(dict.fromkeys(ids))
    if now is None:
        with store.counting() as connection:
            require_clock(store, connection, moment)
    reasons = _reasons(store, people, purpose, basis, moment)
    objecting = suppressed(store, people)
    with store.counting() as connection:
        approved = iys.approved(connection, channel, moment) if channel is not None else None
        keys = dict(zip(people, store.pseudonyms(people), strict=True))
    fine, refused = [], dict[str, int]()
    for person in people:
        why = reasons[person]
        if why is None and person in objecting:
            why = OBJECTED
        if why is None and approved is not None and keys[person] not in approved:
            why = NO_APPROVAL
        if why is None:
            fine.append(person)
        else:
            refused[why] = refused.get(why, 0) + 1
    return Permitted(fine, dict(sorted(refused.items())))


def _reasons(
    store: ConsentStore, people: list[str], purpose: str, basis: str, now: int
) -> dict[str, str | None]:
    """What stands against each person's ground, or None."""
    keys = pl.Series("key", store.pseudonyms(people), dtype=pl.Binary)
    with store.counting() as connection:
        decided = standing.decide(standing.read(connection, purpose, basis), now, basis)
        numbers = store.numbers(connection, keys)
    table = pl.DataFrame({"id": people, "key": keys}).join(numbers, on="key", how="left")
    table = table.join(decided, left_on="no", right_on="person", how="left")
    table = table.with_columns(pl.col("reason").fill_null(Reason.UNKNOWN.value))
    return {
        name: None if Reason(reason) is Reason.GIVEN else Reason(reason).word
        for name, reason in table.select("id", "reason").rows()
    }
