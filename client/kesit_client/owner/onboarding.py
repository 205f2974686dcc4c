"""How a client comes into a federation: its folder, its member list, its change of keys.

Private keys are made here and never leave. New keys of a member wait in `next/` until the
coordinator's list names them; until then the old ones answer.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from kesit_client.consent.settings import CONSENT
from kesit_client.errors import ClientError
from kesit_client.home import (
    BOOKS,
    FORMER,
    IDENTITY,
    MEMBERS,
    NEXT,
    NODE_KEY,
    POLICY,
    REQUEST,
    SOURCE,
    STUDIES,
    former_identities,
    own_request,
    read_members,
)
from kesit_client.ledger.store import Store
from kesit_privacy import node_keys
from kesit_privacy.enrolment import EnrolmentRequest, parse_request, read_request, sign_request
from kesit_privacy.errors import ProtocolError
from kesit_privacy.files import new_folder, replacing
from kesit_privacy.identity import Identity, fingerprint
from kesit_privacy.keyfiles import Unlock, from_environment
from kesit_privacy.membership import (
    ACTIVE,
    Member,
    MemberList,
    check_coordinator,
    check_successor,
    parse_list,
)
from kesit_privacy.membership import REMEDY as LIST_REMEDY
from kesit_privacy.signed import read_bytes


@dataclass(frozen=True)
class Joined:
    """The list that is held now; `me`: this client's entry; `rotated`: new keys came into use."""

    members: MemberList
    me: Member | None
    rotated: bool


def create_client(
    home: Path, name: str, *, passphrase: bytes | None = None, now: float | None = None
) -> EnrolmentRequest:
    """Make a client's folder, whole or not at all: keys, templates, books, enrolment request.

    Args:
        name: what the other members will call it.
        passphrase: locks the identity.
        now: Unix seconds; None for the present.

    Raises:
        ClientError: the folder holds something, or cannot be written.
        ProtocolError: the name cannot be one.
    """
    identity, node_key = Identity.new(), node_keys.new_node_key()
    data = sign_request(unicodedata.normalize("NFC", name), identity, node_key, now=now)
    try:
        with new_folder(home) as place:
            identity.save(place / IDENTITY, passphrase)
            node_keys.save_node_key(node_key, place / NODE_KEY)
            (place / REQUEST).write_bytes(data)
            for template in (POLICY, SOURCE, CONSENT):
                (place / template).write_bytes(_template(template))
            (place / STUDIES).mkdir()
            Store.open(place / BOOKS).close()
    except OSError as error:
        raise ClientError(
            f"{home}: cannot become a client's folder ({error.strerror}).",
            remedy="Give a folder that does not exist yet, in a place where you may write.",
        ) from error
    return parse_request(data)


def renew_request(
    home: Path,
    *,
    name: str | None = None,
    unlock: Unlock = from_environment,
    now: float | None = None,
) -> EnrolmentRequest:
    """Write the request anew, for the same keys: the old one expired, or the name was taken.

    Raises:
        KesitError: a key cannot be read, the name cannot be one, or the disk refuses.
    """
    wanted = own_request(home).name if name is None else unicodedata.normalize("NFC", name)
    identity = Identity.load(home / IDENTITY, unlock)
    data = sign_request(wanted, identity, node_keys.load_node_key(home / NODE_KEY), now=now)
    _replace(home / REQUEST, data)
    return parse_request(data)


def join(home: Path, file: Path, expected: str | None = None) -> Joined:
    """Take over a member list: the first one, or a newer one. Pins nobody.

    Args:
        expected: the coordinator's fingerprint, compared out of band; needed the first time.

    Raises:
        ProtocolError: not signed, another coordinator's, older than the one held, or one that gives
            this client's name or key to somebody else.
        ClientError: no fingerprint at the first time, or the disk refuses.
    """
    data = read_bytes(file, "a member list", LIST_REMEDY)
    new, old = parse_list(data), read_members(home)
    if expected is not None:
        check_coordinator(new, expected)
    elif old is None:
        raise ClientError(
            "The first member list needs the coordinator's fingerprint.",
            remedy="Ask the coordinator for it by telephone or in person, then give --coordinator.",
        )
    if old is not None:
        check_successor(old, new)
    present, pending = own_request(home), pending_request(home)
    _check_own(new, [present] if pending is None else [present, pending])
    _replace(home / MEMBERS, data)
    rotated = pending is not None and _is_active(new, pending)
    if pending is not None and rotated:
        _finish_rotation(home, pending)
    return Joined(new, new.of_identity(own_request(home).identity), rotated)


def rotate(
    home: Path,
    *,
    passphrase: bytes | None = None,
    unlock: Unlock = from_environment,
    now: float | None = None,
) -> EnrolmentRequest:
    """Make new keys, and a request for them that the present identity signs, in `next/`.

    Raises:
        ClientError: new keys wait there already, or the disk refuses.
        KesitError: the present identity cannot be read.
    """
    if (home / NEXT).exists():
        raise ClientError(
            f"{home / NEXT}: new keys wait there for the coordinator.",
            remedy=f"Send {home / NEXT / REQUEST} to the coordinator and join its next list; or"
            f" delete the folder {NEXT} and repeat this command.",
        )
    old = Identity.load(home / IDENTITY, unlock)
    identity, node_key = Identity.new(), node_keys.new_node_key()
    data = sign_request(own_request(home).name, identity, node_key, old=old, now=now)
    try:
        with new_folder(home / NEXT) as place:
            identity.save(place / IDENTITY, passphrase)
            node_keys.save_node_key(node_key, place / NODE_KEY)
            (place / REQUEST).write_bytes(data)
    except OSError as error:
        raise ClientError(
            f"{home / NEXT}: cannot be written ({error.strerror}).", remedy="Check the folder."
        ) from error
    return parse_request(data)


def pending_request(home: Path) -> EnrolmentRequest | None:
    """The request for new keys that wait for the coordinator, if there are any.

    Raises:
        ProtocolError: it is broken.
    """
    path = home / NEXT / REQUEST
    return read_request(path) if path.exists() else None


def _finish_rotation(home: Path, pending: EnrolmentRequest) -> None:
    """Bring the new keys into use; after a crash in between, joining again ends it."""
    former = [*former_identities(home), pending.replaces]
    _replace(home / FORMER, json.dumps(list(dict.fromkeys(former))).encode())
    # The request is last: while it lies in `next/`, the change is not over.
    for name in (NODE_KEY, IDENTITY, REQUEST):
        source = home / NEXT / name
        try:
            if source.exists():
                source.replace(home / name)
        except OSError as error:
            raise ClientError(
                f"{source}: cannot be moved ({error.strerror}).",
                remedy="Check the folder, then join the same list again.",
            ) from error
    (home / NEXT).rmdir()


def _check_own(members: MemberList, own: list[EnrolmentRequest]) -> None:
    identities = {request.identity: request.node_key for request in own}
    for member in members.members:
        if identities.get(member.identity, member.node_key) != member.node_key:
            raise _impersonated("names this client's identity with another node key")
        if member.node_key in identities.values() and member.identity not in identities:
            raise _impersonated("gives this client's node key to somebody else")
    named = members.current(own[0].name)
    if named is not None and named.identity not in identities:
        raise _impersonated(
            f"knows {named.name!r} with the fingerprint {fingerprint(named.identity)}, which is not"
            " this client's"
        )


def _is_active(members: MemberList, request: EnrolmentRequest) -> bool:
    member = members.of_identity(request.identity)
    return member is not None and member.status == ACTIVE


def _impersonated(what: str) -> ProtocolError:
    return ProtocolError(
        f"The member list {what}.",
        remedy="Do not use it: tell the coordinator. If you lost your old keys, it must first"
        " exchange them (`kesit server rotate --lost-key`).",
    )


def _replace(path: Path, data: bytes) -> None:
    try:
        with replacing(path) as file:
            file.write(data)
    except OSError as error:
        raise ClientError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Check the folder and the room on the disk.",
        ) from error


def _template(name: str) -> bytes:
    return resources.files("kesit_client").joinpath("templates", name).read_bytes()
