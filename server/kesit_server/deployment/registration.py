"""The SuperLink's node keys, brought in line with the member list, which is the truth.

`reconcile` runs when the server starts, before each run and after each change of the list. It keeps
nothing of its own: the SuperLink knows which keys it admits, so a crash half-way is mended by the
next call.
"""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy.membership import Member, MemberList
from kesit_server.deployment import nodes
from kesit_server.deployment.door import Door

UNREGISTERED = "unregistered"


@dataclass(frozen=True)
class Reconciled:
    """Names of members whose nodes were let in, and of those that were put out."""

    registered: tuple[str, ...]
    unregistered: tuple[str, ...]


@dataclass(frozen=True)
class MemberNode:
    """A member, the SuperLink's id of its node, and whether that is online, offline or new."""

    member: Member
    node_id: int
    status: str


def reconcile(members: MemberList, door: Door) -> Reconciled:
    """Register the node of every active member, and unregister all others.

    Raises:
        DeploymentError: the server does not run, or refuses a key.
    """
    wanted = {_pem(member): member for member in members.active}
    known = {state.public_key: state for state in nodes.nodes(door)}
    came, went = [], []
    for key, state in known.items():
        if key not in wanted and state.status != UNREGISTERED:
            nodes.revoke(door, state.node_id)
            went.append(state.name)
    for key, member in wanted.items():
        if key not in known:
            nodes.admit(door, key, member.name)
            came.append(member.name)
    return Reconciled(tuple(came), tuple(went))


def member_nodes(members: MemberList, door: Door) -> tuple[MemberNode, ...]:
    """The registered nodes of active members.

    Raises:
        DeploymentError: the server does not run.
    """
    known = {state.public_key: state for state in nodes.nodes(door)}
    found = []
    for member in members.active:
        state = known.get(_pem(member))
        if state is not None and state.status != UNREGISTERED:
            found.append(MemberNode(member, state.node_id, state.status))
    return tuple(found)


def _pem(member: Member) -> bytes:
    return nodes.canonical_key(member.node_key.encode("ascii"))
