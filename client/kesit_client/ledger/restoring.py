"""After a restored backup: the coordinator's signed log brings the books up to date."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kesit_client.home import BOOKS, POLICY, former_identities, own_request, read_members
from kesit_client.owner.policy import Policy
from kesit_client.owner.preflight import existing_books
from kesit_privacy.signed import folded
from kesit_privacy.spending import read_log


@dataclass(frozen=True)
class Merged:
    """What merging did. `restored`: why the books are still refused, or None.

    `own`: charges of this client that the logs named; `added`: those that were new.
    """

    own: int
    added: int
    restored: str | None


def merge_logs(home: Path, logs: Sequence[Path]) -> Merged:
    """Add the charges of logs that pinned coordinators signed.

    Charges of this client's former identities count, too: those that it noted, and those that the
    member list gives to its name (a backup may be older than a change of keys). A list that named
    too many could only make the books count more than was spent.

    Raises:
        ProtocolError: a log is broken, or not signed by a pinned coordinator.
        ClientError: the policy or the books cannot be used.
    """
    request, members = own_request(home), read_members(home)
    servers = frozenset(Policy.load(home / POLICY).servers)
    entries = [entry for log in logs for entry in read_log(log, servers)]
    former = set(former_identities(home))
    if members is not None:
        same = (m for m in members.members if folded(m.name) == folded(request.name))
        former |= {member.identity for member in same}
    mine = {request.identity, *former}
    with closing(existing_books(home / BOOKS)) as store:
        added = store.merge(entries, request.identity, former)
        own = sum(bool(mine & set(entry.roster)) for entry in entries)
        return Merged(own, added, store.restored)
