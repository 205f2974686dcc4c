"""Member lists: signed, strict, and followed only by what may follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrolkit import NOW, changed, identity, leaves, pick, put
from kesit_privacy import canonical, node_keys
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import fingerprint
from kesit_privacy.membership import (
    ACTIVE,
    RETIRED,
    REVOKED,
    Member,
    MemberList,
    check_coordinator,
    check_successor,
    parse_list,
    sign_list,
)
from kesit_server.deployment import authority

COORDINATOR = identity(100)
LINES = [node_keys.public_line(node_keys.new_node_key()) for _ in range(5)]


def member(number: int, name: str, status: str = ACTIVE) -> Member:
    return Member(name, identity(number).public, LINES[number], status, NOW, NOW)


LIST = MemberList(
    federation="ab" * 16,
    serial=3,
    created=NOW,
    coordinator=COORDINATOR.public,
    authority=authority.as_pem(authority.new_authority()[0]).decode(),
    host="kesit.example.org",
    port=9092,
    bundles=("cd" * 32,),
    members=(member(0, "Ankara"), member(1, "İzmir"), member(2, "Şişli", REVOKED)),
)
DATA = sign_list(LIST, COORDINATOR)


def signed_anyway(value: Any) -> bytes:
    """A body with a signature that holds, whatever it says: what a bad coordinator could send."""
    signature = COORDINATOR.sign(canonical.encode(value["list"]))
    return canonical.encode({"list": value["list"], "signature": signature})


def test_a_list_comes_back_and_finds_its_members() -> None:
    read = parse_list(DATA)
    assert read == LIST
    assert [m.name for m in read.active] == ["Ankara", "İzmir"]
    assert read.of_identity(identity(1).public) == LIST.members[1]
    assert read.of_identity("00" * 32) is None
    assert read.of_fingerprint(fingerprint(identity(1).public).upper()) == LIST.members[1]
    for name in ("İzmir", "izmir", "IZMIR", "ızmir"):
        assert read.current(name) == LIST.members[1], name
    assert read.current("Bursa") is None


def test_every_field_that_is_changed_is_refused() -> None:
    value = canonical.decode(DATA)
    for way in leaves(value):
        old = pick(value, way)
        others: list[Any] = [None, 0, [], "", "x", "ab" * 32]
        others += [old + "0", old[:-1]] if isinstance(old, str) else [old + 1, str(old)]
        for other in (other for other in others if other != old):
            with pytest.raises(ProtocolError):
                parse_list(changed(DATA, lambda v, w=way, o=other: put(v, w, o)))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_byte_that_is_changed_is_refused(place: int, flip: int) -> None:
    broken = bytearray(DATA)
    broken[place % len(DATA)] ^= flip
    with pytest.raises(ProtocolError):
        parse_list(bytes(broken))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_list(data)


BAD: dict[str, Callable[[Any], Any]] = {
    "another tag": lambda body: body.update(tag="kesit member list v2"),
    "a field more": lambda body: body.update(more=1),
    "no serial": lambda body: body.pop("serial"),
    "serial 0": lambda body: body.update(serial=0),
    "serial true": lambda body: body.update(serial=True),
    "a port too high": lambda body: body.update(port=70_000),
    "a host with a slash": lambda body: body.update(host="a/b"),
    "a host in capitals": lambda body: body.update(host="Kesit.example.org"),
    "a bundle that is no hash": lambda body: body.update(bundles=["x"]),
    "members that are no list": lambda body: body.update(members={}),
    "another status": lambda body: body["members"][0].update(status="boss"),
    "one identity twice": lambda body: body["members"][0].update(identity=identity(1).public),
    "one node key twice": lambda body: body["members"][0].update(node_key=LINES[1]),
    "one name twice": lambda body: body["members"][0].update(name="IZMIR"),
    "a name of a revoked one": lambda body: body["members"][0].update(name="Şişli"),
    "a node key that is none": lambda body: body["members"][0].update(node_key="ssh-rsa AAAA"),
    "no certificate": lambda body: body.update(authority="-----BEGIN CERTIFICATE-----"),
    "a leaf for a CA": lambda body: body.update(authority=LEAF),
}
CA, CA_KEY = authority.new_authority()
LEAF = authority.as_pem(authority.new_leaf(CA, CA_KEY, ["a.example"])[0]).decode()


@pytest.mark.parametrize("name", BAD)
def test_a_signature_does_not_make_a_bad_list_good(name: str) -> None:
    value = canonical.decode(DATA)
    BAD[name](value["list"])
    with pytest.raises(ProtocolError, match="The member list holds"):
        parse_list(signed_anyway(value))


def test_a_list_is_signed_by_its_own_coordinator_only() -> None:
    with pytest.raises(ProtocolError, match="did not sign"):
        sign_list(LIST, identity(5))


def test_a_stranger_s_list_is_told_from_the_coordinator_s_by_its_fingerprint() -> None:
    stranger = replace(LIST, coordinator=identity(5).public)
    read = parse_list(sign_list(stranger, identity(5)))
    check_coordinator(LIST, fingerprint(COORDINATOR.public))
    with pytest.raises(ProtocolError, match="not by the one that you gave"):
        check_coordinator(read, fingerprint(COORDINATOR.public))
    with pytest.raises(KesitError, match="not a fingerprint"):
        check_coordinator(LIST, fingerprint(COORDINATOR.public)[:19])


NEXT = replace(LIST, serial=4, created=NOW + 5)


def test_what_may_follow() -> None:
    check_successor(LIST, LIST)
    check_successor(LIST, NEXT)
    check_successor(LIST, replace(NEXT, serial=400, host="10.1.2.3", bundles=()))
    check_successor(LIST, replace(NEXT, members=(*LIST.members, member(3, "Bursa"))))
    left = replace(LIST.members[0], status=REVOKED)
    check_successor(LIST, replace(NEXT, members=(left, *LIST.members[1:])))
    rotated = (
        replace(LIST.members[0], status=RETIRED),
        *LIST.members[1:2],
        replace(LIST.members[2], status=RETIRED),
        member(3, "Ankara"),
        member(4, "Şişli"),
    )
    check_successor(LIST, replace(NEXT, members=rotated))


NEVER: dict[str, MemberList] = {
    "an older list": replace(LIST, serial=2),
    "another list of one number": replace(LIST, created=NOW + 1),
    "another federation": replace(NEXT, federation="00" * 16),
    "another coordinator": replace(NEXT, coordinator=identity(5).public),
    "a member forgotten": replace(NEXT, members=LIST.members[:2]),
    "a member with another node key": replace(
        NEXT, members=(replace(LIST.members[0], node_key=LINES[4]), *LIST.members[1:])
    ),
    "a member renamed": replace(
        NEXT, members=(replace(LIST.members[0], name="Bursa"), *LIST.members[1:])
    ),
    "a revoked member brought back": replace(
        NEXT, members=(*LIST.members[:2], replace(LIST.members[2], status=ACTIVE))
    ),
}


@pytest.mark.parametrize("name", NEVER)
def test_what_may_not_follow(name: str) -> None:
    with pytest.raises(ProtocolError, match="treat it as an attack"):
        check_successor(LIST, NEVER[name])


def test_a_retired_key_does_not_come_back() -> None:
    old = replace(LIST, members=(replace(LIST.members[0], status=RETIRED),))
    for status in (ACTIVE, REVOKED):
        new = replace(old, serial=9, members=(replace(LIST.members[0], status=status),))
        with pytest.raises(ProtocolError, match="brings back"):
            check_successor(old, new)
