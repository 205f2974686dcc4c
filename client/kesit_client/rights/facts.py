"""Counts over persons' requests that the rules of data protection look at; no person in them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from kesit_client.consent.events import SECOND
from kesit_client.consent.store import ConsentStore
from kesit_client.rights import exports, requests
from kesit_client.rights.clocks import ERASURE, OF_PERSONS, RECTIFICATION
from kesit_client.rights.models import DisposalRow
from kesit_privacy.rules import RequestFacts

DAY: Final = 86_400 * SECOND


def request_facts(store: ConsentStore, now: int) -> RequestFacts:
    """The counts at `now` (µs).

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    waiting = [item for item in requests.requests(store, only_open=True) if item.opened_at <= now]
    asked = [item for item in waiting if item.kind in OF_PERSONS]
    untold = exports.notices(store, only_open=True)

    def oldest(kinds: frozenset[str]) -> int:
        ages = [(now - item.opened_at) // DAY for item in asked if item.kind in kinds]
        return max(ages, default=0)

    return RequestFacts(
        oldest_days=oldest(OF_PERSONS),
        oldest_erasure_days=oldest(frozenset({ERASURE})),
        erasures_not_passed=sum(notice.kind == ERASURE for notice in untold),
        corrections_not_passed=sum(notice.kind == RECTIFICATION for notice in untold),
        objections_open=len(requests.open_objections(store)),
    )


def disposal_log_days(store: ConsentStore) -> int | None:
    """For how many days the records of disposals are kept, the shortest; None without any."""
    kept = sa.func.min(DisposalRow.keep_until - DisposalRow.disposed_at)
    with store.reading() as connection:
        shortest = connection.scalar(sa.select(kept))
    return None if shortest is None else int(shortest) // DAY
