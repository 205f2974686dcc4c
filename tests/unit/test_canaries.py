"""Canaries: bits that their holder draws, at the end of the vector, under the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from kesit_client.node import Node
from kesit_privacy.canary import canary_bits, commitment
from kesit_privacy.features import IntArray
from kesit_privacy.instruction import Canaries, Instruction
from kesit_privacy.noise import NoiseMode
from kesit_privacy.wire import RefusalCode
from kit import Session, ask, begin, opened

COUNT = 1000
AMPLITUDE = 12_345_678


@pytest.fixture
def session() -> Session:
    return begin()


def with_canaries(
    order: Instruction, holder: str, count: int = COUNT, amplitude: int = AMPLITUDE
) -> Instruction:
    tail = Canaries(count, holder, amplitude)
    return replace(order, canaries=tail, length=order.length + count)


def seed_of(node: Node, run: str) -> bytes:
    """The holder's seed, as it will reveal it after the run."""
    with node.store.transaction() as books:
        known = books.run(run)
    assert known is not None
    assert known.canary_seed is not None
    return known.canary_seed


def tail(session: Session, order: Instruction) -> IntArray:
    """The canaries' part of the opened sum; the data's part must be exact beside it."""
    total = opened(session.answers(order), order)
    np.testing.assert_array_equal(total[:-COUNT], session.exact())
    return total[-COUNT:]


def test_the_opened_tail_is_the_holder_s_bits_times_the_amplitude(session: Session) -> None:
    holder = session.nodes[2]
    order = with_canaries(session.order, holder.me)
    seed = seed_of(holder, order.run)
    assert session.transcript.by_identity[holder.me].canary == commitment(seed)
    bits = canary_bits(seed, order.run, order.step, 1, COUNT)
    assert set(bits) == {0, 1}
    np.testing.assert_array_equal(tail(session, order), bits * AMPLITUDE)


def test_only_the_holder_draws(session: Session) -> None:
    """Every member has a seed of its own; the tail shows the holder's bits and no other's."""
    for attempt, holder in enumerate(session.nodes[:2], start=1):
        order = with_canaries(session.order, holder.me)
        roster = session.order.roster if attempt == 1 else _without_last(session, holder)
        order = replace(order, attempt=attempt, roster=roster, variance=(4 * order.variance[0], 1))
        total = opened(session.answers(order), order)[-COUNT:]
        for node in session.nodes:
            bits = canary_bits(seed_of(node, order.run), order.run, order.step, attempt, COUNT)
            assert (total == bits * AMPLITUDE).all() == (node is holder)
    seeds = {seed_of(node, session.order.run) for node in session.nodes}
    assert len(seeds) == len(session.nodes)


def _without_last(session: Session, holder: Node) -> tuple[str, ...]:
    others = [member for member in session.order.roster if member != holder.me]
    return tuple(sorted([holder.me, *others[:2]]))


def test_attempts_steps_and_runs_have_bits_of_their_own() -> None:
    """Otherwise answers to several could be averaged against one pattern."""
    seed = bytes(range(32))
    places = [
        ("aa", "cells-1", 1),
        ("aa", "cells-1", 2),
        ("aa", "cells-1", 3),
        ("aa", "lloyd-1", 1),
        ("bb", "cells-1", 1),
    ]
    drawn = np.array([canary_bits(seed, *place, 4096) for place in places])
    # Independent fair bits agree in 2048 ± 32 places; 6 of these are 192. The seed is fixed.
    for first in range(len(places)):
        assert abs(drawn[first].sum() - 2048) < 192
        for second in range(first):
            assert abs(int((drawn[first] == drawn[second]).sum()) - 2048) < 192
    other = canary_bits(bytes(32), *places[0], 4096)
    assert abs(int((other == drawn[0]).sum()) - 2048) < 192


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_fewer_bits_are_the_first_of_more(count: int) -> None:
    longer = canary_bits(bytes(32), "aa", "cells-1", 1, 2000)
    np.testing.assert_array_equal(canary_bits(bytes(32), "aa", "cells-1", 1, count), longer[:count])


def test_opened_attempts_differ_in_their_bits(session: Session) -> None:
    holder = session.by_identity(session.order.roster[0])
    first = with_canaries(session.order, holder.me)
    second = replace(first, attempt=2, roster=first.roster[:3], variance=(2 * first.variance[0], 1))
    one = tail(session, first)
    two = opened(session.answers(second), second)[-COUNT:]
    # Fair bits agree in 500 ± 16 of 1,000 places; 7 of these: a false alarm once in 10^11.
    assert abs(int((one == two).sum()) - 500) < 7 * 16


def test_a_holder_outside_the_roster_is_refused(session: Session) -> None:
    """Nobody would draw bits, and the server could claim any."""
    for holder in (session.order.roster[-1], "f" * 64):
        order = with_canaries(session.order, holder)
        order = replace(
            order, roster=session.order.roster[:-1], variance=(2 * order.variance[0], 1)
        )
        node = session.by_identity(order.roster[0])
        assert ask(node, order, session.transcript) == (RefusalCode.BAD_REQUEST, b"")


@pytest.mark.parametrize("change", [-1, 1])
def test_canaries_cannot_stand_in_the_data_s_place(session: Session, change: int) -> None:
    """The length is that of the query and of the canaries, no more and no less."""
    order = with_canaries(session.order, session.order.roster[0])
    order = replace(order, length=order.length + change)
    node = session.by_identity(order.roster[0])
    assert ask(node, order, session.transcript) == (RefusalCode.BAD_REQUEST, b"")


def test_hello_shows_no_seed(session: Session) -> None:
    for node in session.nodes:
        seed = seed_of(node, session.order.run)
        assert seed.hex().encode() not in session.transcript.encoded


class Counting:
    """No noise, but a note of each call."""

    mode: NoiseMode = "off"

    def __init__(self) -> None:
        self.calls: list[tuple[Fraction, int]] = []

    def sample(self, variance: Fraction, size: int) -> IntArray:
        self.calls.append((variance, size))
        return np.arange(size, dtype=np.int64)


def test_data_and_canaries_get_their_noise_from_one_call(session: Session) -> None:
    """Noise that canaries test and data do not get would test nothing."""
    sources = [Counting() for _ in session.nodes]
    for node, source in zip(session.nodes, sources, strict=True):
        node.noise = source
    order = with_canaries(session.order, session.nodes[0].me)
    total = opened(session.answers(order), order)
    assert [source.calls for source in sources] == [[(order.share_variance, order.length)]] * 4
    bits = canary_bits(seed_of(session.nodes[0], order.run), order.run, order.step, 1, COUNT)
    exact: Sequence[IntArray] = (session.exact(), bits * AMPLITUDE)
    np.testing.assert_array_equal(total, np.concatenate(exact) + 4 * np.arange(order.length))
