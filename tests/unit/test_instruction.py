"""The instruction: one canonical form, and no field that two members may be told differently.

Noise is off in these federations, so an honest sum opens exactly; one flipped field must leave
nothing but uniform words, or a refusal from the fixed list. Each uniformity test raises a false
alarm with probability 1e-9 (`kit.uniformity`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_privacy import canonical, instruction
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import GRID
from kesit_privacy.instruction import SCALE_BITS, Canaries, Instruction
from kesit_privacy.masking import open_sum
from kesit_privacy.noise import LARGEST_SHARE_VARIANCE
from kesit_privacy.queries import ClusterSums, Marginals
from kesit_privacy.wire import RefusalCode, unpack_words
from kit import Session, ask, begin, instruct, opened, uniformity

FALSE_ALARM = 1e-9

ORDER = Instruction(
    study="ab" * 32,
    run="cd" * 16,
    transcript="ef" * 32,
    step="marginals",
    attempt=1,
    query="marginals",
    query_version=1,
    params={"bins": 32},
    scale_bits=SCALE_BITS,
    variance=(7, 2),
    delta_sq=5 << 56,
    colluders=1,
    multiplicity=1,
    length=64,
    roster=("0" * 64, "1" * 64, "2" * 64),
)


def value() -> dict[str, Any]:
    """The decoded form of `ORDER`, fresh."""
    decoded: dict[str, Any] = json.loads(ORDER.encode())
    return decoded


def written(changed: Any) -> bytes:
    """Bytes in the canonical layout, of values that `canonical.encode` itself would refuse."""
    return json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()


def with_field(name: str, other: Any) -> bytes:
    return written(value() | {name: other})


def test_an_instruction_reads_back_what_was_written() -> None:
    data = ORDER.encode()
    assert instruction.read(data) == ORDER
    assert instruction.read(data).encode() == data
    assert written(value()) == data


NESTED = b"[" * 100_000 + b"]" * 100_000

NOT_CANONICAL = {
    "empty": b"",
    "no json": b"\xff\xfe\x00",
    "another encoding": ORDER.encode().decode().encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + ORDER.encode(),
    "space at the end": ORDER.encode() + b" ",
    "newline in front": b"\n" + ORDER.encode(),
    "space inside": ORDER.encode().replace(b":", b": ", 1),
    "keys out of order": json.dumps(
        dict(reversed(value().items())), separators=(",", ":")
    ).encode(),
    "one key twice": ORDER.encode().replace(b'"attempt":1', b'"attempt":1,"attempt":1'),
    "two values for a key": ORDER.encode().replace(b'"attempt":1', b'"attempt":2,"attempt":1'),
    "escape of a plain letter": ORDER.encode().replace(b'"marginals"', b'"\\u006darginals"', 1),
    "float that is whole": ORDER.encode().replace(b'"attempt":1', b'"attempt":1.0'),
    "exponent": ORDER.encode().replace(b'"attempt":1', b'"attempt":1e0'),
    "negative zero": ORDER.encode().replace(b'"colluders":1', b'"colluders":-0'),
    "leading zero": ORDER.encode().replace(b'"attempt":1', b'"attempt":01'),
    "NaN": with_field("colluders", float("nan")),
    "infinity": with_field("colluders", float("inf")),
    "float in the parameters": with_field("params", {"bins": 32.0}),
    "overflowing float": ORDER.encode().replace(b'"attempt":1', b'"attempt":1e999'),
    "number of 10,000 digits": ORDER.encode().replace(b'"attempt":1', b'"attempt":' + b"9" * 10**4),
    "deeply nested": NESTED,
    "deeply nested parameters": ORDER.encode().replace(b'{"bins":32}', NESTED),
    "cut": ORDER.encode()[:-1],
    "two values": ORDER.encode() + ORDER.encode(),
}


@pytest.mark.parametrize("name", NOT_CANONICAL)
def test_bytes_that_are_not_canonical_are_refused(name: str) -> None:
    assert NOT_CANONICAL[name] != ORDER.encode()
    with pytest.raises(ProtocolError):
        instruction.read(NOT_CANONICAL[name])


A, B, C = ORDER.roster
SMALL_HEX = ("0" * 63, "0" * 65, "G" * 64, "A" * 64, "٠" * 64, "", 7, None, ["0" * 64], True)
NO_INTEGERS = (True, False, None, "1", [1], {}, -1, 10**400)

WRONG_FIELDS: list[tuple[str, Any]] = [
    *((name, bad) for name in ("study", "transcript") for bad in SMALL_HEX),
    *(("run", bad) for bad in ("0" * 64, "", 0, None)),
    *((name, bad) for name in ("step", "query") for bad in ("", "x" * 121, 1, None, ["x"])),
    *(
        (name, bad)
        for name in (
            "attempt",
            "query_version",
            "scale_bits",
            "delta_sq",
            "colluders",
            "multiplicity",
            "length",
            "protocol",
        )
        for bad in NO_INTEGERS
    ),
    *(("attempt", bad) for bad in (0, 4)),
    *(("scale_bits", bad) for bad in (11, 33)),
    *((name, 0) for name in ("query_version", "delta_sq", "multiplicity", "length")),
    *(("protocol", bad) for bad in (0, 2)),
    *(("params", bad) for bad in ([], "bins", 32, None, [["bins", 32]])),
    *(
        ("variance", bad)
        for bad in (
            [14, 4],
            [0, 1],
            [-7, 2],
            [7, -2],
            [-7, -2],
            [7, 0],
            [7],
            [7, 2, 1],
            [True, 2],
            [7, True],
            ["7", "2"],
            7,
            "7/2",
            None,
            {"7": 2},
            [7, None],
            [2 * 10**4000, 2],
            [LARGEST_SHARE_VARIANCE + 1, 1],
            [10**300, 1],
        )
    ),
    *(
        ("roster", bad)
        for bad in (
            [],
            [B, A, C],
            [A, C, B],
            [A, A, B],
            [A, B, B],
            [A, B, C, C],
            A,
            None,
            {A: B},
            3,
            [A, B, "3" * 63],
            [A, B, 3],
            [A, B, None],
            [[A], [B]],
            [A.upper(), B, "f" * 63 + "F"],
        )
    ),
    *(
        ("canaries", {"count": 0, "holder": "", "amplitude": 0} | bad)
        for bad in (
            {"count": -1},
            {"count": True},
            {"count": 64, "holder": A},
            {"count": 65, "holder": A},
            {"count": "1"},
            {"count": 1},
            {"count": 1, "holder": None},
            {"count": 1, "holder": 3},
            {"count": 1, "holder": A[:-1]},
            {"holder": A},
            {"holder": None},
            {"holder": []},
            {"amplitude": 1},
            {"count": 1, "holder": A, "amplitude": -1},
            {"count": 1, "holder": A, "amplitude": True},
            {"bits": "101"},
            {"count": 1, "holder": A, "amplitude": (1 << 50) + 1},
        )
    ),
    *(("canaries", bad) for bad in (None, [], {}, 0, {"count": 0}, {"holder": "", "amplitude": 0})),
]


@pytest.mark.parametrize(
    ("name", "bad"), WRONG_FIELDS, ids=[f"{n}-{str(b)[:24]}" for n, b in WRONG_FIELDS]
)
def test_a_field_of_the_wrong_type_or_range_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(ProtocolError):
        instruction.read(with_field(name, bad))


@pytest.mark.parametrize("name", [field.name for field in fields(Instruction)])
def test_every_field_must_be_there_and_no_other(name: str) -> None:
    lacking = value()
    del lacking[name]
    with pytest.raises(ProtocolError):
        instruction.read(written(lacking))
    with pytest.raises(ProtocolError):
        instruction.read(written(value() | {name + "_": value()[name]}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def accepted_or_refused(data: bytes) -> None:
    """`read` yields an instruction with these very bytes, or raises ProtocolError; nothing else."""
    try:
        order = instruction.read(data)
    except ProtocolError:
        return
    assert order.encode() == data


@given(st.sampled_from([field.name for field in fields(Instruction)]), JSON)
@settings(max_examples=150, deadline=None)
def test_any_value_in_any_field_is_accepted_or_refused(name: str, other: Any) -> None:
    accepted_or_refused(with_field(name, other))


@given(st.binary(max_size=200) | JSON.map(written))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    accepted_or_refused(data)


@given(st.integers(0, len(ORDER.encode()) - 1), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_another_byte_is_another_instruction(place: int, flip: int) -> None:
    data = bytearray(ORDER.encode())
    data[place] ^= flip
    accepted_or_refused(bytes(data))
    assert instruction.instruction_hash(bytes(data)) != instruction.instruction_hash(ORDER.encode())


@given(JSON)
@settings(max_examples=150, deadline=None)
def test_canonical_bytes_are_a_bijection(value: Any) -> None:
    """What `encode` accepts, `decode` gives back; equal bytes only for equal values."""
    try:
        data = canonical.encode(value)
    except ProtocolError:
        return
    assert canonical.encode(canonical.decode(data)) == data
    assert canonical.decode(data) == value


# --- one member is told something else -----------------------------------------------------------


@pytest.fixture
def session() -> Session:
    return begin()


def cluster_order(session: Session) -> Instruction:
    """An honest instruction for the codebook step, around 120 random centres."""
    space = Embedding.of(session.study)
    rng = np.random.default_rng(1)
    centres = tuple(tuple(map(int, rng.integers(0, GRID, space.dimensions))) for _ in range(120))
    fill = (0,) * len(space.features)
    query = ClusterSums(space, centres, (5000,) * 120, fill, 30, SCALE_BITS)
    return instruct(session.study, session.transcript, "cells-1", query)


def everything_else_opens_as_noise(session: Session, order: Instruction, payload: bytes) -> None:
    """The sum of all honest answers but the liar's victim, with the victim's answer to the lie."""
    honest = {
        member: ask(session.by_identity(member), order, session.transcript)[1]
        for member in order.roster
        if member != order.roster[1]
    }
    words = [unpack_words(part, len(part) // 8) for part in (payload, *honest.values())]
    shortest = min(len(part) for part in words)
    assert uniformity(open_sum([part[:shortest] for part in words])) >= FALSE_ALARM


def test_without_a_lie_the_sum_is_exact_and_fails_the_test_of_noise(session: Session) -> None:
    total = opened(session.answers(session.order), session.order)
    np.testing.assert_array_equal(total, session.exact())
    assert uniformity(total) < FALSE_ALARM
    order = cluster_order(session)
    total = opened(session.answers(order), order)
    assert uniformity(total) < FALSE_ALARM
    assert np.abs(total).max() < 1 << 40


Lie = Callable[[Session, Instruction], Any]
NOISE = RefusalCode.OK

LIES: list[tuple[str, Lie, RefusalCode]] = [
    ("study", lambda s, o: "00" * 32, RefusalCode.NOT_APPROVED),
    ("run", lambda s, o: "00" * 16, RefusalCode.BAD_REQUEST),
    ("transcript", lambda s, o: "00" * 32, RefusalCode.BAD_REQUEST),
    ("step", lambda s, o: "cells-1", RefusalCode.NOT_IN_PLAN),
    ("step", lambda s, o: "no such step", RefusalCode.NOT_IN_PLAN),
    ("attempt", lambda s, o: 2, NOISE),
    ("attempt", lambda s, o: 3, NOISE),
    ("query", lambda s, o: "cluster-sums", RefusalCode.NOT_IN_PLAN),
    ("query", lambda s, o: "grid", RefusalCode.NOT_IN_PLAN),
    ("query_version", lambda s, o: 2, RefusalCode.BAD_REQUEST),
    ("params", lambda s, o: {"bins": 255}, RefusalCode.BAD_REQUEST),
    ("params", lambda s, o: {}, RefusalCode.BAD_REQUEST),
    ("scale_bits", lambda s, o: o.scale_bits - 1, RefusalCode.NOT_IN_PLAN),
    ("scale_bits", lambda s, o: o.scale_bits + 1, RefusalCode.NOT_IN_PLAN),
    ("variance", lambda s, o: (o.variance[0] + 1, 1), NOISE),
    ("variance", lambda s, o: (o.variance[0] * 2 + 1, 2), NOISE),
    ("variance", lambda s, o: (o.variance[0] - o.variance[0] // 100, 1), RefusalCode.NOT_IN_PLAN),
    ("delta_sq", lambda s, o: o.delta_sq - 1, RefusalCode.NOT_IN_PLAN),
    ("delta_sq", lambda s, o: o.delta_sq + 1, RefusalCode.NOT_IN_PLAN),
    ("colluders", lambda s, o: 0, RefusalCode.NOT_IN_PLAN),
    ("colluders", lambda s, o: 2, RefusalCode.NOT_IN_PLAN),
    ("multiplicity", lambda s, o: 2, RefusalCode.NOT_IN_PLAN),
    ("length", lambda s, o: o.length + 1, RefusalCode.BAD_REQUEST),
    ("length", lambda s, o: o.length - 1, RefusalCode.BAD_REQUEST),
    ("roster", lambda s, o: o.roster[:-1], RefusalCode.NOT_IN_PLAN),
    ("roster", lambda s, o: (*o.roster, "f" * 64), RefusalCode.ROSTER),
    ("canaries", lambda s, o: Canaries(1, o.roster[0], 1), RefusalCode.BAD_REQUEST),
    ("protocol", lambda s, o: 2, RefusalCode.BAD_REQUEST),
]


def test_every_field_has_a_lie() -> None:
    assert {name for name, _, _ in LIES} == {field.name for field in fields(Instruction)}


@pytest.mark.parametrize(
    ("name", "lie", "expected"), LIES, ids=[f"{n}-{c.name}-{i}" for i, (n, _, c) in enumerate(LIES)]
)
def test_one_field_flipped_for_one_member_opens_nothing(
    session: Session, name: str, lie: Lie, expected: RefusalCode
) -> None:
    order = session.order
    told = replace(order, **{name: lie(session, order)})
    assert told != order
    code, payload = ask(session.by_identity(order.roster[1]), told, session.transcript)
    assert code is expected
    if expected is NOISE:
        everything_else_opens_as_noise(session, order, payload)
    else:
        assert payload == b""


def _centre_moved(order: Instruction) -> dict[str, Any]:
    first, *others = order.params["centres"]
    return order.params | {"centres": [[first[0] ^ 1, *first[1:]], *others]}


CONSISTENT_LIES: dict[str, Callable[[Session, Instruction], Instruction]] = {
    "one centre moved by one step": lambda s, o: replace(o, params=_centre_moved(o)),
    "one radius larger by one": lambda s, o: replace(
        o, params=o.params | {"radii": [5001, *o.params["radii"][1:]]}
    ),
    "another place for missing numbers": lambda s, o: replace(
        o, params=o.params | {"fill": [1, *o.params["fill"][1:]]}
    ),
    "another share of counts": lambda s, o: replace(o, params=o.params | {"count_share": 31}),
    "another Lloyd step": lambda s, o: replace(o, step="lloyd-1", variance=(3 * o.variance[0], 1)),
    "a finer lattice": lambda s, o: replace(
        o, scale_bits=o.scale_bits + 1, delta_sq=4 * o.delta_sq, variance=(4 * o.variance[0], 1)
    ),
    "a smaller roster, with its noise": lambda s, o: replace(
        o, roster=o.roster[:-1], variance=(2 * o.variance[0], 1)
    ),
    "one more coordinate, a canary": lambda s, o: replace(
        o, length=o.length + 1, canaries=Canaries(1, o.roster[1], 1)
    ),
}


@pytest.mark.parametrize("name", CONSISTENT_LIES)
def test_a_consistent_lie_to_one_member_opens_nothing(session: Session, name: str) -> None:
    """A lie that stands in several fields, so that the member has no reason to refuse."""
    order = cluster_order(session)
    told = CONSISTENT_LIES[name](session, order)
    code, payload = ask(session.by_identity(order.roster[1]), told, session.transcript)
    assert code is RefusalCode.OK
    everything_else_opens_as_noise(session, order, payload)


def test_members_told_other_histograms_open_nothing(session: Session) -> None:
    """Vectors of two lengths: the words that both have are noise."""
    query = Marginals(Embedding.of(session.study), 250, SCALE_BITS)
    told = instruct(session.study, session.transcript, "marginals", query)
    code, payload = ask(session.by_identity(told.roster[1]), told, session.transcript)
    assert code is RefusalCode.OK
    everything_else_opens_as_noise(session, session.order, payload)


def test_two_groups_told_two_things_open_neither(session: Session) -> None:
    """Half of the roster is told of other noise: neither half, nor both together, opens."""
    told = replace(session.order, variance=(session.order.variance[0] + 1, 1))
    roster = session.order.roster
    words = [
        unpack_words(ask(session.by_identity(m), order, session.transcript)[1], told.length)
        for m, order in zip(roster, [session.order, session.order, told, told], strict=True)
    ]
    for group in (words, words[:2], words[2:], words[:3], words[1:]):
        assert uniformity(open_sum(group)) >= FALSE_ALARM
