"""Masks: they cancel to the bit over a whole roster, and hide everything over any part of it.

Each test of uniformity raises a false alarm with probability 1e-9 (`kit.uniformity`); fewer than
200 are made in a run of this file.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, maximum_flow

from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import IntArray
from kesit_privacy.masking import (
    COMPLETE_UP_TO,
    SharedSecrets,
    WordArray,
    connectivity,
    mask,
    neighbours,
    new_ephemeral,
    open_sum,
    stream,
)
from kit import uniformity

FALSE_ALARM = 1e-9
SALT, ORDER = bytes(32), bytes(range(32))
EDGES = (-(2**63), -(2**63) + 1, -1, 0, 1, 2**62, 2**63 - 2, 2**63 - 1)
WORDS = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)


def names(size: int) -> list[str]:
    """Sorted identities."""
    return sorted(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(size))


@lru_cache(maxsize=8)
def federation(size: int) -> tuple[tuple[str, dict[str, bytes]], ...]:
    """Each member with the secrets that it shares with its neighbours, from keys of its own."""
    roster = names(size)
    keys = {member: new_ephemeral() for member in roster}
    members = []
    for me in roster:
        shared = SharedSecrets(keys[me][0])
        members.append((me, {peer: shared(keys[peer][1]) for peer in neighbours(roster, me)}))
    return tuple(members)


def answers(
    size: int, values: IntArray, *, instruction: bytes = ORDER, salt: bytes = SALT
) -> list[WordArray]:
    return [
        mask(part, me=me, secrets=secrets, salt=salt, instruction=instruction)
        for (me, secrets), part in zip(federation(size), values, strict=True)
    ]


def wrapped(values: Iterable[Iterable[int]]) -> list[int]:
    """Column sums in Python's whole numbers, then modulo 2^64 and signed."""
    return [(sum(column) + 2**63) % 2**64 - 2**63 for column in zip(*values, strict=True)]


def check_cancels(values: IntArray) -> None:
    opened = open_sum(answers(len(values), values))
    assert opened.dtype == np.int64
    assert opened.tolist() == wrapped(values.tolist())


@given(arrays(np.int64, (2, 5), elements=WORDS))
@settings(deadline=None)
def test_two_members_cancel(values: IntArray) -> None:
    check_cancels(values)


@given(arrays(np.int64, (3, 5), elements=WORDS))
@settings(deadline=None)
def test_three_members_cancel(values: IntArray) -> None:
    check_cancels(values)


@given(arrays(np.int64, (41, 3), elements=WORDS, fill=st.sampled_from(EDGES)))
@settings(max_examples=15, deadline=None)
def test_41_members_on_the_circle_cancel(values: IntArray) -> None:
    check_cancels(values)


@given(arrays(np.int64, (500, 2), elements=WORDS, fill=st.sampled_from(EDGES)))
@settings(max_examples=3, deadline=None)
def test_500_members_cancel(values: IntArray) -> None:
    check_cancels(values)


@pytest.mark.parametrize("size", [2, 3, 40, 41])
def test_sums_beyond_64_bits_wrap_around(size: int) -> None:
    for edge in EDGES:
        check_cancels(np.full((size, 2), edge, dtype=np.int64))


@given(st.sampled_from([2, 3, 5, 41]), st.data())
@settings(max_examples=40, deadline=None)
def test_any_part_of_the_roster_is_noise(size: int, data: st.DataObject) -> None:
    """All zeros below the masks, so that any structure would show."""
    masked = answers(size, np.zeros((size, 1000), dtype=np.int64))
    members = st.sets(st.integers(0, size - 1), min_size=1, max_size=size - 1)
    part = data.draw(members)
    assert uniformity(open_sum([masked[member] for member in part])) >= FALSE_ALARM


def test_500_members_without_one_are_noise_and_with_it_nothing_is_left() -> None:
    masked = answers(500, np.zeros((500, 1000), dtype=np.int64))
    assert not open_sum(masked).any()
    for absent in (0, 250, 499):
        rest = [words for member, words in enumerate(masked) if member != absent]
        assert uniformity(open_sum(rest)) >= FALSE_ALARM
    # An arc, whose ends alone keep it from opening.
    assert uniformity(open_sum(masked[:250])) >= FALSE_ALARM


def test_the_lower_identity_adds_what_the_higher_subtracts() -> None:
    zeros = np.zeros((2, 50), dtype=np.int64)
    low, high = answers(2, zeros)
    [(me, secrets), _] = federation(2)
    [(peer, secret)] = secrets.items()
    assert me < peer
    pad = stream(secret, salt=SALT, low=me, high=peer, instruction=ORDER, size=50)
    np.testing.assert_array_equal(low, pad)
    np.testing.assert_array_equal(high, -pad)


CHANGES: dict[str, dict[str, object]] = {
    "secret": {"secret": b"\x01" + bytes(31)},
    "salt": {"salt": b"\x01" + bytes(31)},
    "low": {"low": "00" * 31 + "02"},
    "high": {"high": "00" * 31 + "03"},
    "swapped": {"low": "00" * 31 + "ff", "high": "00" * 31 + "01"},
    "instruction": {"instruction": bytes(31) + b"\x01"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_input_of_a_mask_changes_all_of_it(name: str) -> None:
    """Streams of one pair for two instructions, transcripts or secrets have nothing in common."""
    inputs: dict[str, object] = {
        "secret": bytes(32),
        "salt": bytes(32),
        "low": "00" * 31 + "01",
        "high": "00" * 31 + "ff",
        "instruction": bytes(32),
        "size": 1000,
    }
    one = stream(**inputs)  # type: ignore[arg-type]
    other = stream(**(inputs | CHANGES[name]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(one, stream(**inputs))  # type: ignore[arg-type]
    for words in (one, other, one - other, one + other, one ^ other):
        assert uniformity(words) >= FALSE_ALARM


# --- the stream, from the two RFCs ---------------------------------------------------------------


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def chacha20_block(key: bytes, counter: int) -> bytes:
    """RFC 8439, section 2.3, with a nonce of zeros."""
    start = [
        *struct.unpack("<4I", b"expand 32-byte k"),
        *struct.unpack("<8I", key),
        counter,
        0,
        0,
        0,
    ]
    state = list(start)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[x] = (state[x] + state[y]) % 2**32
            mixed = state[z] ^ state[x]
            state[z] = (mixed << turn | mixed >> (32 - turn)) % 2**32

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for column in range(4):
            quarter(column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
    return struct.pack("<16I", *((x + y) % 2**32 for x, y in zip(start, state, strict=True)))


def test_the_stream_is_hkdf_and_chacha20_as_the_protocol_says() -> None:
    low, high = "0a" * 32, "0b" * 32
    info = b"kesit mask v1" + bytes.fromhex(low) + bytes.fromhex(high) + ORDER
    key = hkdf(b"\x07" * 32, b"\x09" * 32, info)
    expected = np.frombuffer(chacha20_block(key, 0) + chacha20_block(key, 1), dtype="<u8")
    pad = stream(b"\x07" * 32, salt=b"\x09" * 32, low=low, high=high, instruction=ORDER, size=16)
    np.testing.assert_array_equal(pad, expected)


def test_a_secret_is_the_same_from_both_ends_and_refused_from_low_order() -> None:
    (one, one_public), (two, two_public) = new_ephemeral(), new_ephemeral()
    assert SharedSecrets(one)(two_public) == SharedSecrets(two)(one_public)
    with pytest.raises(ProtocolError):
        SharedSecrets(one)("00" * 32)


# --- the masking graph ---------------------------------------------------------------------------


def adjacency(size: int) -> list[list[int]]:
    """Each member's neighbours, by place on the circle."""
    roster = names_by_place(size)
    return [[int(peer) for peer in neighbours(roster, me)] for me in roster]


@lru_cache(maxsize=2)
def names_by_place(size: int) -> list[str]:
    return [f"{place:04d}" for place in range(size)]


def matrix(edges: list[list[int]], removed: Iterable[int] = ()) -> csr_matrix:
    """The graph without some members, as a sparse matrix over those who stay."""
    gone = set(removed)
    stay = [member for member in range(len(edges)) if member not in gone]
    place = {member: index for index, member in enumerate(stay)}
    pairs = [(place[a], place[b]) for a in stay for b in edges[a] if b in place]
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    return csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(stay), len(stay)))


def parts(edges: list[list[int]], removed: Iterable[int]) -> int:
    count, _ = connected_components(matrix(edges, removed), directed=False)
    return int(count)


def test_the_graph_is_regular_symmetric_and_the_same_from_everywhere() -> None:
    """For every n up to 1,000: k distinct neighbours, mutual, at the same offsets for all.

    Every member is looked at up to n = 250 and for n = 1,000, a few of them in between.
    """
    for size in range(2, 1001):
        roster = names_by_place(size)
        every = size <= 250 or size == 1000
        places = range(size) if every else sorted({0, 1, size // 3, size // 2, size - 1})
        k = connectivity(size)
        offsets = {int(peer) for peer in neighbours(roster, roster[0])}
        assert len(offsets) == k
        assert 0 not in offsets
        assert offsets == {-offset % size for offset in offsets}, "not mutual"
        for me in places:
            peers = [int(peer) for peer in neighbours(roster, roster[me])]
            assert len(peers) == k
            assert {(peer - me) % size for peer in peers} == offsets


def test_connectivity_follows_its_formula_and_leaves_someone_out_only_above_40() -> None:
    for size in range(2, 1001):
        expected = size - 1
        if size > COMPLETE_UP_TO:
            expected = 2 * math.ceil((4 * math.log2(size) + 16) / 2)
        assert connectivity(size) == expected < size
    assert COMPLETE_UP_TO == 40


def disjoint_paths(edges: list[list[int]], start: int, goal: int) -> int:
    """Paths from `start` to `goal` that share no member: max flow with members of capacity 1."""
    size = len(edges)
    arcs = {(member, size + member): 1 for member in range(size)}
    arcs |= {(size + a, b): 1 for a in range(size) for b in edges[a]}
    rows, columns = np.array(list(arcs)).T
    graph = csr_matrix((np.ones(len(arcs), dtype=np.int32), (rows, columns)), (2 * size, 2 * size))
    return int(maximum_flow(graph, size + start, goal).flow_value)


@pytest.mark.parametrize("size", [41, 42, 43, 64, 100, 129])
def test_connectivity_is_exactly_k(size: int) -> None:
    """Menger: every two members without an edge have k disjoint paths. All look alike (above)."""
    edges = adjacency(size)
    apart = [goal for goal in range(1, size // 2 + 1) if goal not in edges[0]]
    assert apart
    assert {disjoint_paths(edges, 0, goal) for goal in apart} == {connectivity(size)}


@pytest.mark.parametrize("size", [257, 1000])
def test_connectivity_is_exactly_k_in_large_rosters(size: int) -> None:
    edges, k = adjacency(size), connectivity(size)
    for goal in (k // 2 + 1, k, size // 3, size // 2):
        assert disjoint_paths(edges, 0, goal) == k


@pytest.mark.parametrize("size", [*range(41, 60), 64, 100, 250, 500, 1000])
def test_fewer_than_k_who_leave_do_not_split_the_rest_and_k_can(size: int) -> None:
    """The best that leavers can do is two arcs of k/2; one member less, and the rest holds."""
    edges, k = adjacency(size), connectivity(size)
    middle = size // 2
    assert parts(edges, range(1, k)) == 1
    for left in range(0, k, max(1, k // 7)):
        gap = [*range(1, 1 + left), *range(middle, middle + k - 1 - left)]
        assert parts(edges, gap) == 1
    if size - k >= 4 and middle + k // 2 < size:
        assert parts(edges, [*range(1, 1 + k // 2), *range(middle, middle + k // 2)]) == 2


@given(st.sampled_from([41, 50, 100, 300]), st.data())
@settings(max_examples=40, deadline=None)
def test_any_fewer_than_k_who_leave_do_not_split_the_rest(size: int, data: st.DataObject) -> None:
    count = connectivity(size) - 1
    gone = data.draw(st.sets(st.integers(0, size - 1), min_size=count, max_size=count))
    assert parts(cached_adjacency(size), gone) == 1


@lru_cache(maxsize=8)
def cached_adjacency(size: int) -> list[list[int]]:
    return adjacency(size)
