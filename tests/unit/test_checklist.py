"""The checklist: what a client's own copies of study and policy forbid, whatever a server says.

Every refusal here must come before the charge, and leave nothing but its code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_client.owner.policy import Policy, Window
from kesit_client.rows.cache import Rows
from kesit_privacy import accounting
from kesit_privacy.features import CodeArray
from kesit_privacy.instruction import Instruction
from kesit_privacy.noise import SMALLEST_SHARE_VARIANCE
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode, read_reply
from kit import Session, ask, begin, instruct, mixed_study


@pytest.fixture
def session() -> Session:
    return begin()


@pytest.fixture
def node(session: Session) -> Node:
    found = session.by_identity(session.order.roster[1])
    found.clock = lambda: 1_800_000_000 - 1_800_000_000 % 86_400 + 900
    return found


def untouchable(study: Study) -> Rows:
    """Rows that must not be opened."""

    class Untouchable:
        def prepare(self, run: str) -> None:
            pytest.fail("the rows were opened")

        def codes(self, run: str) -> CodeArray:
            pytest.fail("the rows were read")

    return Untouchable()


def check_refused(node: Node, session: Session, order: Instruction, code: RefusalCode) -> None:
    """Refused with this code and logged; nothing charged, no row touched."""
    rows = node.rows
    node.rows = untouchable
    assert ask(node, order, session.transcript) == (code, b"")
    with node.store.transaction() as books:
        assert not books.charges(order.run)
        assert books.refusals()[-1][:2] == (order.run, code)
    node.rows = rows


def check_hello_refused(node: Node, session: Session, code: RefusalCode) -> None:
    node.rows = untouchable
    request = replace(session.transcript.request, run="77" * 16)
    assert read_reply(node.hello(request.encoded)) == (code, b"")
    with node.store.transaction() as books:
        assert books.run(request.run) is None


# --- the study and the policy --------------------------------------------------------------------

CLOSED = Window(hours="03:00-03:01")
"""The sessions' clocks stand at a quarter past three in Istanbul."""

POLICIES: dict[str, tuple[Callable[[Policy], Policy], RefusalCode]] = {
    "no such purpose": (lambda p: replace(p, purposes=("marketing",)), RefusalCode.POLICY),
    "no purpose": (lambda p: replace(p, purposes=()), RefusalCode.POLICY),
    "one feature less": (lambda p: replace(p, features=p.features[1:]), RefusalCode.POLICY),
    "a query of a later step less": (
        lambda p: replace(p, queries=("marginals",)),
        RefusalCode.POLICY,
    ),
    "no query": (lambda p: replace(p, queries=()), RefusalCode.POLICY),
    "another server": (lambda p: replace(p, servers=("00" * 32,)), RefusalCode.NOT_PINNED),
    "other studies only": (lambda p: replace(p, studies=("00" * 32,)), RefusalCode.POLICY),
    "a smaller ε a study": (lambda p: replace(p, max_epsilon=0.01), RefusalCode.POLICY),
    "another hour": (lambda p: replace(p, window=CLOSED), RefusalCode.POLICY),
    "no server": (lambda p: replace(p, servers=()), RefusalCode.NOT_PINNED),
}


@pytest.mark.parametrize("name", POLICIES)
def test_hello_follows_the_policy(session: Session, node: Node, name: str) -> None:
    change, code = POLICIES[name]
    node.policy = change(node.policy)
    check_hello_refused(node, session, code)


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_that_changed_during_the_run_holds_at_once(
    session: Session, node: Node, name: str
) -> None:
    """Also for the server: an owner who unpins it has ended the run with it."""
    change, code = POLICIES[name]
    before = node.policy
    node.policy = change(before)
    check_refused(node, session, session.order, code)
    node.policy = before
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK


def test_a_study_that_is_not_approved_is_refused(session: Session, node: Node) -> None:
    """Neither unknown, nor in the folder without the owner's approval in the books."""
    for changes in ({"studies": {}}, {"store": Store.in_memory()}):
        stranger = replace(node, **changes)
        check_hello_refused(stranger, session, RefusalCode.NOT_APPROVED)
        check_refused(stranger, session, session.order, RefusalCode.NOT_APPROVED)


def test_a_copy_that_differs_in_one_number_is_another_study(session: Session, node: Node) -> None:
    """A server that runs a study with a larger ε has another hash, which nobody approved."""
    other = mixed_study(epsilon=1.001)
    assert other.hash != session.study.hash
    order = replace(session.order, study=other.hash)
    check_refused(node, session, order, RefusalCode.NOT_APPROVED)
    node.studies[other.hash] = other
    check_refused(node, session, order, RefusalCode.NOT_APPROVED)
    # Approved, but not the study of this run.
    node.approve(other)
    check_refused(node, session, order, RefusalCode.BAD_REQUEST)


# --- the plan ------------------------------------------------------------------------------------


def cost(order: Instruction) -> int:
    """m²Δ² / ((n - c)·v) in units of μ², rounded up: written out here, by the protocol's words."""
    sensitivity_sq = Fraction(order.multiplicity**2 * order.delta_sq)
    noise = (len(order.roster) - order.colluders) * Fraction(*order.variance)
    return math.ceil(sensitivity_sq / noise * 2**48)


def test_the_plan_s_share_is_the_most_that_an_attempt_may_cost(
    session: Session, node: Node
) -> None:
    step = session.study.step("marginals")
    assert step is not None
    most = session.study.step_units(step)
    exact = Fraction(session.order.delta_sq * accounting.UNITS_PER_MU2, 3 * most)
    below = exact * (1 - Fraction(1, 10**15))
    order = replace(session.order, variance=(below.numerator, below.denominator))
    assert cost(order) == most + 1
    check_refused(node, session, order, RefusalCode.NOT_IN_PLAN)
    order = replace(session.order, variance=(exact.numerator, exact.denominator))
    assert cost(order) == most
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK


def test_noise_of_another_step_is_not_enough(session: Session, node: Node) -> None:
    """The noise of the step with the largest share, for one with a smaller share."""
    study = session.study
    largest = max(study.plan, key=lambda step: step.share)
    dear = instruct(study, session.transcript, largest.step, session.query)
    cheaper = replace(session.order, variance=dear.variance)
    assert cost(session.order) < cost(cheaper) <= study.step_units(largest)
    check_refused(node, session, cheaper, RefusalCode.NOT_IN_PLAN)


BENT: dict[str, tuple[dict[str, Any], RefusalCode]] = {
    "no such step": ({"step": "marginals-2"}, RefusalCode.NOT_IN_PLAN),
    "another query for the step": ({"query": "grid"}, RefusalCode.NOT_IN_PLAN),
    "no such query": ({"query": "rows"}, RefusalCode.NOT_IN_PLAN),
    "a later version": ({"query_version": 2}, RefusalCode.BAD_REQUEST),
    "parameters out of range": ({"params": {"bins": 1}}, RefusalCode.BAD_REQUEST),
    "too small a Δ": ({"delta_sq": 1 << 56}, RefusalCode.NOT_IN_PLAN),
    "too large a Δ": ({"delta_sq": 6 << 56}, RefusalCode.NOT_IN_PLAN),
    "fewer colluders": ({"colluders": 0}, RefusalCode.NOT_IN_PLAN),
    "more colluders": ({"colluders": 2}, RefusalCode.NOT_IN_PLAN),
    "more units a customer": ({"multiplicity": 2}, RefusalCode.NOT_IN_PLAN),
    "a longer vector": ({"length": 2000}, RefusalCode.BAD_REQUEST),
    "almost no noise": ({"variance": (16, 1)}, RefusalCode.NOT_IN_PLAN),
    "a share under four lattice units": ({"variance": (15, 1)}, RefusalCode.BAD_REQUEST),
    "a share just under four lattice units": (
        {"variance": (16 * 10**9 - 1, 10**9)},
        RefusalCode.BAD_REQUEST,
    ),
    "almost no noise, in huge numbers": (
        {"variance": (10**600 + 1, 10**600)},
        RefusalCode.BAD_REQUEST,
    ),
}


@pytest.mark.parametrize("name", BENT)
def test_what_differs_from_the_client_s_own_copy_is_refused(
    session: Session, node: Node, name: str
) -> None:
    changes, code = BENT[name]
    check_refused(node, session, replace(session.order, **changes), code)
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK


def test_four_lattice_units_are_the_least() -> None:
    assert SMALLEST_SHARE_VARIANCE == 4**2


@pytest.mark.parametrize("m", [2, 7])
def test_m_multiplies_the_sensitivity(m: int) -> None:
    """A study that says so needs m² times the variance, and every client insists on its own m."""
    honest = begin().order
    session = begin(mixed_study(max_clients_per_customer=m))
    node = session.by_identity(session.order.roster[1])
    assert Fraction(*session.order.variance) == pytest.approx(m**2 * Fraction(*honest.variance))
    for told in (1, m + 1):
        order = replace(session.order, multiplicity=told)
        check_refused(node, session, order, RefusalCode.NOT_IN_PLAN)
    order = replace(session.order, variance=honest.variance)
    check_refused(node, session, order, RefusalCode.NOT_IN_PLAN)
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.OK
    with node.store.transaction() as books:
        [charge] = books.charges(session.order.run)
    assert charge.units == cost(session.order)


def test_the_charge_is_recomputed_and_not_what_the_server_says(
    session: Session, node: Node
) -> None:
    """With c colluders the noise of n - c members counts, on the roster as it is."""
    order = replace(session.order, variance=(2 * session.order.variance[0], 1))
    order = replace(order, roster=session.order.roster[:3])
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK
    with node.store.transaction() as books:
        [charge] = books.charges(order.run)
    assert charge.units == cost(order)


def test_budgets_refuse_with_their_own_code(session: Session, node: Node) -> None:
    """A lifetime cap under the sum's cost: refused before the charge, with code BUDGET."""
    tight = replace(node.policy.lifetime, epsilon=0.01)
    node.policy = replace(node.policy, lifetime=tight)
    check_refused(node, session, session.order, RefusalCode.BUDGET)
