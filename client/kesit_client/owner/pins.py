"""Pins: the peers and the coordinator with whom a client's owner lets it answer.

They live in the owner's policy file and change only when the owner gives a fingerprint that was
compared out of band. The member list serves as a dictionary, from a fingerprint to the key that has
it: a list with other keys finds nothing, and so pins nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kesit_client.errors import ClientError, PolicyError
from kesit_client.home import POLICY, own_request, read_members
from kesit_client.owner import toml_edit
from kesit_client.owner.policy import Policy
from kesit_privacy.errors import StudyError
from kesit_privacy.files import replacing
from kesit_privacy.identity import fingerprint, read_fingerprint
from kesit_privacy.membership import ACTIVE
from kesit_privacy.tables import validated

COORDINATOR: Final = "coordinator"
"""The name under which the coordinator is pinned, in the policy's `servers`."""

UNLISTED: Final = "not in the member list"
_WHOLE_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pin:
    """One pinned identity, and what the member list says of it: a status, or `UNLISTED`."""

    name: str
    identity: str
    status: str


def pins(home: Path) -> tuple[Pin, ...]:
    """All pins of a client, the coordinator's first.

    Raises:
        KesitError: the policy or the member list cannot be read.
    """
    policy, members = Policy.load(home / POLICY), read_members(home)
    found = []
    for server in policy.servers:
        listed = members is not None and members.coordinator == server
        found.append(Pin(COORDINATOR, server, ACTIVE if listed else UNLISTED))
    for name, identity in policy.peers.items():
        member = None if members is None else members.of_identity(identity)
        found.append(Pin(name, identity, UNLISTED if member is None else member.status))
    return tuple(found)


def pin(home: Path, name: str, text: str, *, replace: bool = False) -> Pin:
    """Pin a peer under a name of the owner's choice, or the coordinator under `COORDINATOR`.

    Args:
        text: the fingerprint that the peer itself told, or its whole key (64 hex digits).
        replace: the name is pinned to other keys, which this pin takes the place of.

    Raises:
        ClientError: no such key in the member list, a revoked one, one's own, or one that is
            pinned already.
        PolicyError: the policy cannot be read or edited.
    """
    policy = Policy.load(home / POLICY)
    if name == COORDINATOR:
        server = _coordinator(home, text)
        if server in policy.servers:
            raise _pinned_already(COORDINATOR)
        _edit(home, lambda old: toml_edit.add_item(old, "servers", server))
        return Pin(COORDINATOR, server, ACTIVE)
    identity, status = _peer(home, text)
    for other, known in policy.peers.items():
        if known == identity:
            if other != name:
                raise ClientError(
                    f"This is the fingerprint of {other!r}, not of {name!r}.",
                    remedy=f"Ask {name!r} for its own, by telephone or in person.",
                )
            raise _pinned_already(other)
    if name in policy.peers and not replace:
        raise ClientError(
            f"{name!r} is pinned to another key ({fingerprint(policy.peers[name])}).",
            remedy="If the member told you that it has new keys, repeat with --replace; if not,"
            " somebody may be impersonating it.",
        )
    _edit(home, lambda old: toml_edit.set_entry(old, "peers", name, identity))
    return Pin(name, identity, status)


def unpin(home: Path, name: str) -> None:
    """Take a pin back: runs with that peer, or that coordinator, are refused from now on.

    Raises:
        ClientError: there is no such pin.
        PolicyError: the policy cannot be read or edited.
    """
    policy = Policy.load(home / POLICY)
    if name == COORDINATOR and policy.servers:

        def without_servers(text: str) -> str:
            for server in policy.servers:
                text = toml_edit.remove_item(text, "servers", server)
            return text

        _edit(home, without_servers)
        return
    if name not in policy.peers:
        raise ClientError(
            f"{name!r} is not pinned.", remedy="`kesit client pins` lists the pinned peers."
        )
    _edit(home, lambda old: toml_edit.remove_entry(old, "peers", name))


def _coordinator(home: Path, text: str) -> str:
    if _WHOLE_KEY.fullmatch(text):
        return text
    members = read_members(home)
    wanted = read_fingerprint(text)
    if members is None or fingerprint(members.coordinator) != wanted:
        raise ClientError(
            f"No coordinator of the fingerprint {wanted} is known here.",
            remedy="Join its member list first (`kesit client join`); if you did, the fingerprint"
            " is another coordinator's.",
        )
    return members.coordinator


def _peer(home: Path, text: str) -> tuple[str, str]:
    members = read_members(home)
    if _WHOLE_KEY.fullmatch(text):
        identity, member = text, None if members is None else members.of_identity(text)
    else:
        wanted = read_fingerprint(text)
        member = None if members is None else members.of_fingerprint(wanted)
        if member is None:
            raise ClientError(
                f"No member of the fingerprint {wanted} is known here.",
                remedy="Join the newest member list first (`kesit client join`). If the list has"
                " the member with another fingerprint, do not pin it: ask the member.",
            )
        identity = member.identity
    if identity == own_request(home).identity:
        raise ClientError(
            "This is your own fingerprint.", remedy="Pin the others; nobody pins itself."
        )
    if member is not None and member.status != ACTIVE:
        raise ClientError(
            f"The keys of {member.name!r} were {member.status}.",
            remedy="Ask the member for its present fingerprint.",
        )
    return identity, UNLISTED if member is None else ACTIVE


def _edit(home: Path, change: Callable[[str], str]) -> None:
    path = home / POLICY
    try:
        old = path.read_bytes().decode("utf-8")
        new = change(old)
        validated(Policy, tomllib.loads(new))
        with replacing(path) as file:
            file.write(new.encode("utf-8"))
    except StudyError as error:
        raise PolicyError(
            f"{path}: the pin would not be valid.",
            remedy="Give a name of printable characters, without space around it.",
        ) from error
    except OSError as error:
        raise PolicyError(
            f"{path}: cannot be written ({error.strerror}).", remedy="Check the folder."
        ) from error


def _pinned_already(name: str) -> ClientError:
    return ClientError(f"This key is pinned already, as {name!r}.", remedy="Nothing is to be done.")
