"""What a server can make of many answers: whole rosters open, and nothing else does.

Noise is off, so whatever opens, opens exactly: every combination of the answers with coefficients
-1, 0 and 1 is tried.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from kesit_client.ledger.books import Charge
from kesit_client.node import Node
from kesit_privacy.instruction import Instruction
from kesit_privacy.wire import RefusalCode, unpack_words
from kit import Session, ask, attempt, begin, opened


@pytest.fixture
def session() -> Session:
    return begin()


def charges(node: Node, run: str) -> list[Charge]:
    with node.store.transaction() as books:
        return books.charges(run)


def small_combinations(words: list[np.ndarray]) -> set[tuple[int, ...]]:
    """Which combinations with coefficients -1, 0, 1 (first nonzero one: 1) are not noise.

    A combination counts as noise if half of its words or more exceed 2^48. A uniform vector of 300
    words fails that with probability below 1e-500, so all 3^n combinations may be tried.
    """
    rows = np.stack([part[:300] for part in words]).astype(np.uint64)
    found = set()
    for signs in itertools.product((0, 1, -1), repeat=len(rows)):
        if next((sign for sign in signs if sign), 0) != 1:
            continue
        total = np.zeros(rows.shape[1], dtype=np.uint64)
        for sign, row in zip(signs, rows, strict=True):
            if sign == 1:
                total += row
            elif sign == -1:
                total -= row
        if (np.abs(total.astype(np.int64).astype(np.float64)) < 2.0**48).mean() > 0.5:
            found.add(signs)
    return found


def gather(session: Session, orders: list[Instruction]) -> dict[tuple[int, str], np.ndarray]:
    """Every answer that the server can get to these instructions, in this order."""
    words = {}
    for number, order in enumerate(orders):
        for member in order.roster:
            code, payload = ask(session.by_identity(member), order, session.transcript)
            assert code in (RefusalCode.OK, RefusalCode.ROSTER, RefusalCode.REPEATED)
            if code is RefusalCode.OK:
                words[number, member] = unpack_words(payload, order.length)
    return words


@pytest.mark.parametrize("order_of_rosters", list(itertools.permutations(range(3))))
def test_three_rosters_do_not_single_out_a_member(order_of_rosters: tuple[int, ...]) -> None:
    """A with peers S, with T, and with S and T, in any order: A never stands alone.

    Of every combination of all the answers, only whole rosters open (and their difference, the
    total of those who left: rule 7).
    """
    session = begin(clients=5, bins=75)
    a, b, c, d, e = session.order.roster
    rosters = [(a, b, c), (a, d, e), (a, b, c, d, e)]
    orders = [
        attempt(session.order, number, rosters[which])
        for number, which in enumerate(order_of_rosters, start=1)
    ]
    words = gather(session, orders)
    answered = [number for number in range(3) if (number, a) in words]
    assert len(answered) < 3, "A answered all three rosters"
    places = list(words)
    whole = [
        number
        for number, order in enumerate(orders)
        if all((number, member) in words for member in order.roster)
    ]
    expected = set()
    for chosen in itertools.product((0, 1, -1), repeat=len(whole)):
        signs = tuple(chosen[whole.index(number)] if number in whole else 0 for number, _ in places)
        if next((sign for sign in signs if sign), 0) == 1:
            expected.add(signs)
    assert small_combinations(list(words.values())) == expected


def test_one_retry_shows_a_member_s_total_and_no_more() -> None:
    """Rule 7, as the threat model says: the difference of two attempts is who left, in total.

    The noise of both attempts covers it: it is off here only to show what stands under it.
    """
    session = begin(clients=5)
    gone = session.by_identity(session.order.roster[2])
    rest = [member for member in session.order.roster if member != gone.me]
    later = attempt(session.order, 2, rest)
    difference = opened(session.answers(session.order), session.order) - opened(
        session.answers(later), later
    )
    rows = gone.rows(session.study).codes(session.order.run)
    np.testing.assert_array_equal(difference, session.query.sum(rows))
    for node in session.nodes:
        assert len(charges(node, session.order.run)) == (1 if node is gone else 2)


def test_one_member_told_another_roster_opens_nothing() -> None:
    """A hears of {A} ∪ S, the others of everyone, in one attempt: no combination opens."""
    session = begin(clients=5, bins=75)
    roster = session.order.roster
    told = attempt(session.order, 1, roster[:3])
    code, payload = ask(session.by_identity(roster[0]), told, session.transcript)
    assert code is RefusalCode.OK
    words = [unpack_words(payload, told.length)]
    for member in roster[1:]:
        code, payload = ask(session.by_identity(member), session.order, session.transcript)
        assert code is RefusalCode.OK
        words.append(unpack_words(payload, told.length))
    assert small_combinations(words) == set()


def test_a_whole_roster_opens_and_no_part_of_it(session: Session) -> None:
    """The control of the combinations: the one that opens is found."""
    words = [unpack_words(part, session.order.length) for part in session.answers(session.order)]
    assert small_combinations(words) == {(1, 1, 1, 1)}
    total = opened(session.answers(session.order), session.order)
    np.testing.assert_array_equal(total, session.exact())
