"""Rules 14-17: whatever a server asks, and whoever falls away, no budget is overdrawn.

The first half plays a lying server against real nodes and reads their books after every request;
the second half runs an honest server through patterns of silence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_client.ledger import store as store_module
from kesit_client.node import Node
from kesit_client.owner.policy import Lifetime, Period, PurposeCap
from kesit_privacy import accounting
from kesit_privacy.features import GRID
from kesit_privacy.hello import Transcript
from kesit_privacy.instruction import Instruction
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode
from kit import (
    Session,
    ask,
    begin,
    instruct,
    mixed_study,
    query_for,
    random_codes,
    say_hello,
    small_nodes,
    small_study,
    spent,
)

DAY = 86_400


def last_cause(node: Node) -> str:
    """Why the node refused last, as its owner reads it."""
    with node.store.transaction() as books:
        return books.refusals()[-1][2]


def exact_charge(study: Study, order: Instruction, query: Query) -> int:
    """The charge of an instruction, from the study and the query alone: m²Δ²/((n - c)·v)."""
    noise = (len(order.roster) - study.roster.max_colluders) * Fraction(*order.variance)
    cost = Fraction(study.max_clients_per_customer**2 * query.delta_sq) / noise
    return math.ceil(cost * accounting.UNITS_PER_MU2)


def first_cost(study: Study) -> int:
    """The most that a run's first sum costs."""
    return study.step_units(study.plan[0])


# A lying server.


def test_the_same_study_again_and_again() -> None:
    """Each run is honest in itself; together they may not exceed the study's μ²."""
    session = begin(bins=8)
    study, nodes = session.study, session.nodes
    codes = []
    fitting = study.mu2_units // first_cost(study)
    assert fitting >= 2
    for _ in range(fitting + 3):
        transcript = say_hello(study, nodes)
        order = instruct(study, transcript, "marginals", session.query)
        codes += [ask(node, order, transcript)[0] for node in nodes]
        assert all(spent(node, study) <= study.mu2_units for node in nodes)
    fit, over = fitting * len(nodes), 3 * len(nodes)
    assert codes == [RefusalCode.OK] * fit + [RefusalCode.BUDGET] * over
    assert "study budget" in last_cause(nodes[0])


def test_what_is_left_can_be_spent_but_no_more() -> None:
    """When no further run fits, a smaller sum fits to the unit, and nothing beyond it."""
    session = begin(bins=8)
    study, node = session.study, session.nodes[0]
    for _ in range(study.mu2_units // first_cost(study)):
        transcript = say_hello(study, session.nodes)
        order = instruct(study, transcript, "marginals", session.query)
        assert ask(node, order, transcript)[0] is RefusalCode.OK
    left = study.mu2_units - spent(node)
    price = {
        "delta_sq": session.query.delta_sq,
        "multiplicity": 1,
        "roster": 4,
        "colluders": study.roster.max_colluders,
    }
    enough = accounting.share_variance(left, **price)
    transcript = say_hello(study, session.nodes)
    order = instruct(study, transcript, "marginals", session.query)
    for variance, code in ((enough - 1, RefusalCode.BUDGET), (enough, RefusalCode.OK)):
        told = replace(order, variance=(int(variance), 1))
        assert ask(node, told, transcript)[0] is code
        assert spent(node) <= study.mu2_units
    transcript = say_hello(study, session.nodes)
    # However much noise: a charge is a whole unit at least, and none is left.
    order = instruct(study, transcript, "marginals", session.query, variance=(1 << 100, 1))
    while ask(node, order, transcript)[0] is RefusalCode.OK:
        assert spent(node) <= study.mu2_units
        transcript = say_hello(study, session.nodes)
        order = replace(order, run=transcript.request.run, transcript=transcript.hash)
    assert spent(node) == study.mu2_units


def bounded(order: Instruction, **params: Any) -> Instruction:
    return replace(order, params=order.params | params)


LIES: dict[str, tuple[Callable[[Instruction], Instruction], RefusalCode]] = {
    "a variance one unit smaller": (
        lambda order: replace(order, variance=(order.variance[0] - 1, 1)),
        RefusalCode.NOT_IN_PLAN,
    ),
    "half the variance": (
        lambda order: replace(order, variance=(order.variance[0] // 2, 1)),
        RefusalCode.NOT_IN_PLAN,
    ),
    "a variance under four lattice units": (
        lambda order: replace(order, variance=(15, 1)),
        RefusalCode.BAD_REQUEST,
    ),
    "a smaller Δ": (
        lambda order: replace(order, delta_sq=order.delta_sq // 4),
        RefusalCode.NOT_IN_PLAN,
    ),
    "a larger Δ": (
        lambda order: replace(order, delta_sq=order.delta_sq * 4),
        RefusalCode.NOT_IN_PLAN,
    ),
    "fewer colluders": (lambda order: replace(order, colluders=0), RefusalCode.NOT_IN_PLAN),
    "more colluders": (lambda order: replace(order, colluders=2), RefusalCode.NOT_IN_PLAN),
    "another m": (lambda order: replace(order, multiplicity=2), RefusalCode.NOT_IN_PLAN),
    "a finer lattice with the same numbers": (
        lambda order: replace(order, scale_bits=order.scale_bits + 2),
        RefusalCode.NOT_IN_PLAN,
    ),
    "a finer lattice with its own Δ": (
        lambda order: replace(order, scale_bits=order.scale_bits + 2, delta_sq=order.delta_sq * 16),
        RefusalCode.NOT_IN_PLAN,
    ),
    "weights of its own": (lambda order: bounded(order, weights=[5]), RefusalCode.BAD_REQUEST),
    "radii beyond the box": (
        lambda order: bounded(order, radii=[GRID * 1000] * 3),
        RefusalCode.BAD_REQUEST,
    ),
    "a radius of nothing": (lambda order: bounded(order, radii=[0] * 3), RefusalCode.BAD_REQUEST),
    "a count share above all": (
        lambda order: bounded(order, count_share=100),
        RefusalCode.BAD_REQUEST,
    ),
    "another step's share": (
        lambda order: replace(order, step="marginals"),
        RefusalCode.NOT_IN_PLAN,
    ),
    "a step of its own": (lambda order: replace(order, step="lloyd-9"), RefusalCode.NOT_IN_PLAN),
    "a fourth attempt": (lambda order: replace(order, attempt=4), RefusalCode.BAD_REQUEST),
    "a roster too small for its noise": (
        lambda order: replace(order, roster=order.roster[:3]),
        RefusalCode.NOT_IN_PLAN,
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_costs_nothing_and_is_refused(lie: str) -> None:
    session = begin(bins=8)
    study = session.study
    order = instruct(study, session.transcript, "cells-1", query_for(study, "cells-1"))
    change, code = LIES[lie]
    told = change(order)
    node = session.by_identity(order.roster[0])
    assert ask(node, told, session.transcript) == (code, b"")
    assert spent(node) == 0
    # The honest instruction is still answered, at its own price.
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK
    assert spent(node) == exact_charge(study, order, query_for(study, "cells-1"))


@pytest.mark.parametrize(("radius", "share"), [(1, 10), (GRID, 10), (20_000, 1), (20_000, 99)])
def test_radii_and_weights_do_not_change_the_price(radius: int, share: int) -> None:
    session = begin(bins=8)
    study, node = session.study, session.nodes[0]
    query = query_for(study, "cells-1", radius, share)
    order = instruct(study, session.transcript, "cells-1", query)
    assert ask(node, order, session.transcript)[0] is RefusalCode.OK
    assert spent(node) == exact_charge(study, order, query_for(study, "cells-1"))


def test_m_multiplies_the_price_by_its_square() -> None:
    prices = []
    for m in (1, 3):
        study = mixed_study(max_clients_per_customer=m)
        session = begin(study, bins=8)
        order = replace(session.order, variance=(int(1e22), 1))
        assert ask(session.nodes[0], order, session.transcript)[0] is RefusalCode.OK
        prices.append(spent(session.nodes[0]))
    assert prices[1] == pytest.approx(9 * prices[0], abs=9)


def test_endless_attempts_end_with_the_budget() -> None:
    """Three attempts at each step would cost three budgets; each is charged in full."""
    session = begin(clients=3 + 2 * len(mixed_study().plan), bins=8)
    study, node = session.study, session.nodes[0]
    others = [member.me for member in session.nodes[1:]]
    codes, expected = [], 0
    for step in study.plan:
        query = query_for(study, step.step)
        for attempt in (1, 2, 3):
            if attempt > 1:
                others.pop()
            roster = tuple(sorted([node.me, *others]))
            order = instruct(
                study, session.transcript, step.step, query, attempt=attempt, roster=roster
            )
            code = ask(node, order, session.transcript)[0]
            codes.append(code)
            expected += exact_charge(study, order, query) if code is RefusalCode.OK else 0
            assert spent(node, study) == expected <= study.mu2_units
    assert RefusalCode.BUDGET in codes
    assert set(codes) == {RefusalCode.OK, RefusalCode.BUDGET}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_server_however_clever_overdraws_a_study(data: st.DataObject) -> None:
    """It chooses run, step, attempt, roster and noise after seeing every answer."""
    study = mixed_study()
    nodes = small_nodes(study, random_codes(study, 12), 6)
    node = nodes[0]
    runs: list[tuple[Transcript, list[str]]] = []
    expected = 0
    for _ in range(data.draw(st.integers(1, 25))):
        if not runs or data.draw(st.integers(0, 4)) == 0:
            transcript = say_hello(study, nodes)
            runs.append((transcript, [member.me for member in nodes[1:]]))
        transcript, others = data.draw(st.sampled_from(runs))
        if len(others) > 2 and data.draw(st.booleans()):
            others.pop()
        step = data.draw(st.sampled_from(study.plan)).step
        query = query_for(study, step, radius=data.draw(st.integers(1, 30_000)))
        order = instruct(
            study,
            transcript,
            step,
            query,
            attempt=data.draw(st.integers(1, 4)),
            roster=tuple(sorted([node.me, *others])),
        )
        factor = data.draw(st.sampled_from([0.5, 0.999, 1.0, 1.001, 2.0, 1e3]))
        order = replace(order, variance=(max(1, int(order.variance[0] * factor)), 1))
        with node.store.transaction() as books:
            known = {(c.run, c.step, c.attempt) for c in books.charges(order.run)}
        code, _ = ask(node, order, transcript)
        if code is RefusalCode.OK and (order.run, step, order.attempt) not in known:
            cost = exact_charge(study, order, query)
            planned = study.step(step)
            assert planned is not None
            assert cost <= study.step_units(planned)
            expected += cost
        assert spent(node, study) == expected <= study.mu2_units


# The owner's caps.


def one_run(session: Session, study: Study | None = None) -> RefusalCode:
    """The first node's reply to the first sum of a new run of the study; `first_cost`."""
    study = study or session.study
    transcript = say_hello(study, session.nodes)
    query = query_for(study, "marginals")
    return ask(session.nodes[0], instruct(study, transcript, "marginals", query), transcript)[0]


def test_the_lifetime_cap_holds_over_all_studies_and_purposes() -> None:
    session = begin(bins=8)
    node = session.nodes[0]
    other = mixed_study(name="another", purpose="fraud-prevention")
    for member in session.nodes:
        member.approve(other)
        member.policy = replace(
            member.policy,
            purposes=(*member.policy.purposes, "fraud-prevention"),
            lifetime=Lifetime(0.7, 1e-5),  # about half the μ² of ε = 1
        )
    cap = node.policy.units(0.7)
    codes = []
    for study in (session.study, other) * 4:
        codes.append(one_run(session, study))
        assert spent(node) <= cap
    fitting = cap // first_cost(session.study)
    assert 2 <= fitting <= 6
    assert codes == [RefusalCode.OK] * fitting + [RefusalCode.BUDGET] * (8 - fitting)
    assert "lifetime budget" in last_cause(node)


def test_the_lifetime_cap_is_counted_at_its_own_delta() -> None:
    """The same μ² is more ε at a smaller δ."""
    session = begin(bins=8)
    node = session.nodes[0]
    node.policy = replace(node.policy, lifetime=Lifetime(0.5, 1e-12))
    assert one_run(session) is RefusalCode.BUDGET
    node.policy = replace(node.policy, lifetime=Lifetime(0.5, 1e-5))
    assert one_run(session) is RefusalCode.OK


def test_a_period_forgets_and_the_lifetime_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(bins=8)
    node = session.nodes[0]
    share = first_cost(session.study)
    monthly = accounting.epsilon(int(1.5 * share), 1e-5)
    ever = accounting.epsilon(int(3.5 * share), 1e-5)
    node.policy = replace(
        node.policy, lifetime=Lifetime(ever, 1e-5), periods=(Period(30, monthly), Period(1, 90.0))
    )
    start = time.time()
    clock = SimpleNamespace(time=lambda: start)
    node.clock = lambda: clock.time()
    monkeypatch.setattr(store_module, "time", clock)
    seen = []
    for day in (0, 1, 29.9, 30.1, 31, 61, 92):
        clock.time = lambda at=start + day * DAY: at  # type: ignore[misc]
        seen.append(one_run(session))
        with node.store.transaction() as books:
            assert books.spent(since=clock.time() - 30 * DAY) <= node.policy.units(monthly)
        assert spent(node) <= node.policy.units(ever)
    ok, no = RefusalCode.OK, RefusalCode.BUDGET
    assert seen == [ok, no, no, ok, no, ok, no]
    assert "lifetime budget" in last_cause(node)
    with node.store.transaction() as books:
        assert "30-day budget" in books.refusals()[0][2]


def test_a_purpose_has_a_cap_of_its_own() -> None:
    session = begin(bins=8)
    node = session.nodes[0]
    other = mixed_study(name="another", purpose="fraud-prevention")
    cap = accounting.epsilon(int(1.3 * first_cost(session.study)), 1e-5)
    for member in session.nodes:
        member.approve(other)
        member.policy = replace(
            member.policy,
            purposes=(*member.policy.purposes, "fraud-prevention"),
            purpose_caps=(PurposeCap("fraud-prevention", cap),),
        )
    studies = [other, session.study, other, session.study]
    codes = [one_run(session, study) for study in studies]
    assert codes == [RefusalCode.OK, RefusalCode.OK, RefusalCode.BUDGET, RefusalCode.OK]
    with node.store.transaction() as books:
        assert books.spent(purpose="fraud-prevention") <= node.policy.units(cap)
        assert "purpose 'fraud-prevention' budget" in books.refusals()[0][2]


def test_the_budget_of_a_study_is_the_accountant_s() -> None:
    study = small_study(epsilon=0.7, delta=1e-6)
    assert study.mu2_units == accounting.budget_units(0.7, 1e-6)
