"""Enrolment requests: who signs what, and that no byte of it can change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrolkit import NOW, changed, identity, leaves, pick, put
from kesit_privacy import canonical, node_keys
from kesit_privacy.enrolment import (
    MAX_AGE_DAYS,
    check_fresh,
    parse_request,
    read_request,
    sign_request,
)
from kesit_privacy.errors import ProtocolError

NODE_KEY = node_keys.new_node_key()
PLAIN = sign_request("Şişli Şubesi", identity(1), NODE_KEY, now=NOW)
VOUCHED = sign_request("Şişli Şubesi", identity(1), NODE_KEY, old=identity(2), now=NOW)
BOTH = pytest.mark.parametrize("data", [PLAIN, VOUCHED], ids=["plain", "vouched"])


def test_a_request_says_what_was_signed(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_bytes(VOUCHED)
    request = read_request(tmp_path / "request.json")
    assert request.name == "Şişli Şubesi"
    assert request.identity == identity(1).public
    assert request.node_key == node_keys.public_line(NODE_KEY)
    assert (request.created, request.replaces, request.vouched) == (NOW, identity(2).public, True)
    assert not parse_request(PLAIN).vouched


@BOTH
def test_no_private_key_is_in_it(data: bytes) -> None:
    assert b"PRIVATE" not in data
    assert identity(1)._key.private_bytes_raw().hex().encode() not in data


@BOTH
def test_every_field_that_is_changed_is_refused(data: bytes) -> None:
    value = canonical.decode(data)
    for way in leaves(value):
        old = pick(value, way)
        others: list[Any] = [None, 0, [], {}, "", "x", "ab" * 32, "AB" * 64]
        if isinstance(old, str):
            others += [old + "0", old[:-1], old.upper(), old.replace("a", "b", 1), old + " "]
        else:
            others += [old + 1, -old, str(old)]
        for other in (other for other in others if other != old):
            with pytest.raises(ProtocolError):
                parse_request(changed(data, lambda v, w=way, o=other: put(v, w, o)))


@BOTH
@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_byte_that_is_changed_is_refused(data: bytes, place: int, flip: int) -> None:
    broken = bytearray(data)
    broken[place % len(data)] ^= flip
    with pytest.raises(ProtocolError):
        parse_request(bytes(broken))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_request(data)


@pytest.mark.parametrize("data", [b"[]", b"{}", b"1", b'{"request":1}', b"[" * 100_000])
def test_what_is_no_request_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        parse_request(data)
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_request(tmp_path / "absent.json")
    (tmp_path / "large").write_bytes(b" " * (5 << 20))
    with pytest.raises(ProtocolError, match="too large"):
        read_request(tmp_path / "large")


def resigned(data: bytes, signer: int, change: Any) -> bytes:
    """A request that someone changed and then signed with a key of his own."""
    value = canonical.decode(data)
    change(value["request"])
    value["request"]["identity"] = identity(signer).public
    covered = [value["request"], value["possession"], value["vouching"]]
    value["signature"] = identity(signer).sign(canonical.encode(covered))
    return canonical.encode(value)


def test_another_s_node_key_cannot_be_taken_into_a_request_of_one_s_own() -> None:
    with pytest.raises(ProtocolError, match="does not hold the keys"):
        parse_request(resigned(PLAIN, 9, lambda body: None))


def test_another_s_vouching_cannot_be_taken_over() -> None:
    """What the old identity signed names the new one."""
    with pytest.raises(ProtocolError, match="does not hold the keys"):
        parse_request(resigned(VOUCHED, 9, lambda body: None))


def test_an_identity_that_is_replaced_must_sign() -> None:
    with pytest.raises(ProtocolError):
        parse_request(resigned(PLAIN, 1, lambda body: body.update(replaces=identity(2).public)))

    def without_vouching(value: Any) -> None:
        value["vouching"] = ""
        covered = [value["request"], value["possession"], ""]
        value["signature"] = identity(1).sign(canonical.encode(covered))

    with pytest.raises(ProtocolError, match="does not hold"):
        parse_request(changed(VOUCHED, without_vouching))


@pytest.mark.parametrize(
    "name",
    ["", " Ankara", "Ankara ", "a\nb", "a\tb", "x" * 121, "a\u202eb", "\u200bAnkara", "Is\u0327k"],
)
def test_names_that_could_deceive_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="short printable text"):
        sign_request(name, identity(1), NODE_KEY, now=NOW)


def test_old_requests_and_those_of_the_future_are_refused() -> None:
    request = parse_request(PLAIN)
    for days in (0, 1, MAX_AGE_DAYS):
        check_fresh(request, NOW + days * 86_400)
    check_fresh(request, NOW - 3600)
    with pytest.raises(ProtocolError, match="older than"):
        check_fresh(request, NOW + MAX_AGE_DAYS * 86_400 + 1)
    with pytest.raises(ProtocolError, match="in the future"):
        check_fresh(request, NOW - 2 * 86_400)
