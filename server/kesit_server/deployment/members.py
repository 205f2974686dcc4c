"""Changes to the member list: each is checked, signed and written whole, with a higher serial.

The coordinator's owner decides by fingerprints that were compared with the member itself. What
these functions refuse is what no comparison would show: a name or a key that is taken, a request
that was sent before, keys that were revoked.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from kesit_privacy.enrolment import EnrolmentRequest, check_fresh
from kesit_privacy.errors import ProtocolError
from kesit_privacy.identity import fingerprint, read_fingerprint
from kesit_privacy.keyfiles import Unlock, from_environment
from kesit_privacy.membership import (
    ACTIVE,
    RETIRED,
    REVOKED,
    Member,
    MemberList,
    sign_list,
)
from kesit_privacy.signed import folded
from kesit_server.deployment.home import (
    MEMBERS,
    Coordinator,
    open_coordinator,
    replace_file,
    write_certificate,
)
from kesit_server.errors import DeploymentError

LOCK = ".lock.sqlite"
BUSY_SECONDS = 10.0


def admit(
    home: Path,
    request: EnrolmentRequest,
    expected: str,
    *,
    unlock: Unlock = from_environment,
    now: float | None = None,
) -> MemberList:
    """Enrol a member.

    Args:
        expected: the fingerprint that the member itself told the coordinator's owner.

    Raises:
        ProtocolError: another fingerprint, an old request, or one to change keys.
        DeploymentError: the name or a key stands in the list already.
    """
    _check_expected(request, expected)
    check_fresh(request, now)
    if request.replaces:
        raise ProtocolError(
            "The request changes an enrolled member's keys.",
            remedy="Use `kesit server rotate NAME REQUEST.json`.",
        )

    def change(members: MemberList, moment: int) -> MemberList:
        _check_new_keys(request, members)
        known = members.current(request.name)
        if known is not None:
            raise DeploymentError(
                f"The name {request.name!r} belongs to {known.name!r}, who is {known.status}.",
                remedy="Ask for a request with another name; for new keys of that member use"
                " `kesit server rotate`.",
            )
        return replace(members, members=(*members.members, _entry(request, request.name, moment)))

    return _change(home, change, unlock, now)


def revoke(
    home: Path, name: str, *, unlock: Unlock = from_environment, now: float | None = None
) -> MemberList:
    """End a membership: the member left, or its keys are in wrong hands.

    Raises:
        DeploymentError: there is no active member of that name.
    """

    def change(members: MemberList, moment: int) -> MemberList:
        member = _current(members, name)
        if member.status != ACTIVE:
            raise DeploymentError(
                f"{member.name!r} is {member.status} already.", remedy="Nothing is to be done."
            )
        return _with_status(members, member, REVOKED, moment)

    return _change(home, change, unlock, now)


def rotate(
    home: Path,
    name: str,
    request: EnrolmentRequest,
    expected: str | None = None,
    *,
    lost_key: bool = False,
    unlock: Unlock = from_environment,
    now: float | None = None,
) -> MemberList:
    """Give a member new keys; the old ones are retired for ever.

    Args:
        expected: the new identity's fingerprint, as the member itself told it. Needed with
            `lost_key`, checked if given.
        lost_key: the old identity cannot sign, so only the fingerprint speaks for the request.

    Raises:
        ProtocolError: not signed by the old identity, another fingerprint, or an old request.
        DeploymentError: no such member, another member's request, or keys that are known already.
    """
    if lost_key and expected is None:
        raise ProtocolError(
            "Without the old key nothing but the fingerprint tells whose request this is.",
            remedy="Compare it with the member by telephone or in person, and give it.",
        )
    if expected is not None:
        _check_expected(request, expected)
    check_fresh(request, now)

    def change(members: MemberList, moment: int) -> MemberList:
        member = _current(members, name)
        _check_new_keys(request, members)
        _check_renews(request, member, lost_key)
        retired = _with_status(members, member, RETIRED, moment)
        return replace(retired, members=(*retired.members, _entry(request, member.name, moment)))

    return _change(home, change, unlock, now)


def set_bundles(
    home: Path,
    bundles: Sequence[str],
    *,
    unlock: Unlock = from_environment,
    now: float | None = None,
) -> MemberList:
    """Name the Flower bundles (SHA-256, hex) that this coordinator's runs use.

    Raises:
        ProtocolError: one is no hash.
    """
    return _change(
        home, lambda members, moment: replace(members, bundles=tuple(bundles)), unlock, now
    )


def renew_certificate(
    home: Path, *, unlock: Unlock = from_environment, now: float | None = None
) -> MemberList | None:
    """A new server certificate for the hosts in `coordinator.toml`.

    Returns:
        The new member list if the public address changed, else None: members notice nothing.
    """
    with _locked(home):
        coordinator = open_coordinator(home)
        write_certificate(coordinator, unlock)
        settings, members = coordinator.settings, coordinator.members
        if (settings.hosts[0], settings.port) == (members.host, members.port):
            return None
        moved = replace(members, host=settings.hosts[0], port=settings.port)
        return _write(coordinator, moved, unlock, now)


def _change(
    home: Path,
    change: Callable[[MemberList, int], MemberList],
    unlock: Unlock,
    now: float | None,
) -> MemberList:
    with _locked(home):
        coordinator = open_coordinator(home)
        moment = int(time.time() if now is None else now)
        return _write(coordinator, change(coordinator.members, moment), unlock, now)


def _write(
    coordinator: Coordinator, members: MemberList, unlock: Unlock, now: float | None
) -> MemberList:
    moment = int(time.time() if now is None else now)
    new = replace(members, serial=coordinator.members.serial + 1, created=moment)
    data = sign_list(new, coordinator.identity(unlock))
    replace_file(coordinator.home / MEMBERS, data)
    return new


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One change at a time. SQLite's lock ends with its process, on every system."""
    open_coordinator(home)
    try:
        with closing(
            sqlite3.connect(home / LOCK, timeout=BUSY_SECONDS, isolation_level=None)
        ) as db:
            db.execute("BEGIN EXCLUSIVE")
            yield
    except sqlite3.Error as error:
        raise DeploymentError(
            f"{home}: cannot be changed now ({error}).",
            remedy="Wait until the other command has ended; check that you may write there.",
        ) from error


def _check_expected(request: EnrolmentRequest, expected: str) -> None:
    found = fingerprint(request.identity)
    if found != read_fingerprint(expected):
        raise ProtocolError(
            f"The request has the fingerprint {found}, not the one that you gave.",
            remedy="Do not admit it: ask the member for its fingerprint and for the file again.",
        )


def _check_new_keys(request: EnrolmentRequest, members: MemberList) -> None:
    for member in members.members:
        if request.identity == member.identity or request.node_key == member.node_key:
            raise DeploymentError(
                f"The request's keys stand in the list already ({member.name!r}, {member.status}).",
                remedy="A request serves once; keys that were revoked or retired never again. Ask"
                " for new keys (`kesit client rotate`).",
            )


def _check_renews(request: EnrolmentRequest, member: Member, lost_key: bool) -> None:
    if folded(request.name) != folded(member.name):
        raise DeploymentError(
            f"The request is {request.name!r}'s, not {member.name!r}'s.",
            remedy="Give the name of the member that made it.",
        )
    if lost_key:
        return
    if request.replaces != member.identity:
        raise ProtocolError(
            f"The request is not signed by the present key of {member.name!r}.",
            remedy="Ask for a request that `kesit client rotate` wrote; if the old key is lost,"
            " compare fingerprints and use --lost-key.",
        )
    if member.status != ACTIVE:
        raise DeploymentError(
            f"{member.name!r} is {member.status}: its old key vouches for nothing.",
            remedy="Compare fingerprints with the member itself and use --lost-key.",
        )


def _current(members: MemberList, name: str) -> Member:
    member = members.current(name)
    if member is None:
        known = ", ".join(m.name for m in members.members if m.status != RETIRED) or "nobody"
        raise DeploymentError(f"There is no member {name!r}.", remedy=f"The list holds: {known}.")
    return member


def _with_status(members: MemberList, member: Member, status: str, moment: int) -> MemberList:
    changed = replace(member, status=status, changed=moment)
    return replace(members, members=tuple(changed if m is member else m for m in members.members))


def _entry(request: EnrolmentRequest, name: str, moment: int) -> Member:
    return Member(name, request.identity, request.node_key, ACTIVE, moment, moment)
