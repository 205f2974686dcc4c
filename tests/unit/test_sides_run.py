"""Training and evaluation in runs: no server can spend more than the study's μ² on any customer.

The lying servers of the first half ask real nodes; the honest one of the second half loses members.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifierkit import churn_frame, churn_study, trained
from kesit_cli.study import count_noise
from kesit_client.node import Node
from kesit_client.owner import preflight
from kesit_client.owner.policy import Lifetime, Period, PurposeCap
from kesit_privacy import accounting
from kesit_privacy.errors import BudgetError
from kesit_privacy.hello import Transcript
from kesit_privacy.instruction import Instruction
from kesit_privacy.queries import Query
from kesit_privacy.sides import BookSide, BySide
from kesit_privacy.spending import read_log, sign_log
from kesit_privacy.study import PlanStep, Study
from kesit_privacy.wire import RefusalCode
from kesit_server.errors import FederationError
from kesit_server.federation import Federation
from kesit_server.statement import APART, as_text, privacy_statement
from kit import SERVER, ask, instruct, keep_books, random_codes, restarted, say_hello, small_nodes
from kit import spent as spent_by
from runs import Run
from sidekit import EVALUATION, STUDY, TRAINING, RunLedgers, query

OK, NO, BUDGET = RefusalCode.OK, RefusalCode.NOT_IN_PLAN, RefusalCode.BUDGET


@dataclass
class Asked:
    """Nodes, and one of them whose charges a ledger of customers follows."""

    study: Study = STUDY
    nodes: list[Node] = field(default_factory=list)
    ledger: RunLedgers = field(default_factory=RunLedgers)

    def __post_init__(self) -> None:
        self.nodes = small_nodes(self.study, random_codes(self.study, 40), 4)

    @property
    def node(self) -> Node:
        return self.nodes[0]

    def run(self) -> Transcript:
        return say_hello(self.study, self.nodes)

    def ask(
        self,
        transcript: Transcript,
        step: str,
        asked: Query | None = None,
        change: Callable[[Instruction], Instruction] = lambda order: order,
    ) -> RefusalCode:
        """The node's code; what it was charged stands in the ledger, and the totals are checked."""
        asked = asked or query(step, self.study)
        order = change(instruct(self.study, transcript, step, asked))
        with self.node.store.transaction() as books:
            before = len(books.charges(order.run))
        code, _ = ask(self.node, order, transcript)
        with self.node.store.transaction() as books:
            new = books.charges(order.run)[before:]
        assert len(new) <= (code is OK)
        side = asked.counts
        assert side is not None
        for charge in new:
            ledger = self.ledger.ledgers[order.run]
            ledger.charge(charge.units, side.low, side.high, inside=side.inside)
        assert spent_by(self.node, self.study) == self.ledger.dearest <= self.study.mu2_units
        return code


# A lying server.

ATTACKS: dict[str, tuple[str, Query]] = {
    "an evaluation of everyone": (EVALUATION, query(EVALUATION, held=[0, 1000])),
    "an evaluation of one part too many": (EVALUATION, query(EVALUATION, held=[0, 201])),
    "an evaluation of training customers": (EVALUATION, query(EVALUATION, held=[200, 400])),
    "an evaluation of nobody": (EVALUATION, query(EVALUATION, held=[0, 0])),
    "a training of everyone": ("labels", query("labels", held=[0, 0])),
    "a training with one held-out part": ("labels", query("labels", held=[0, 199])),
    "a training with the first part": ("residuals-2", query("residuals-2", held=[1, 1000])),
    "parts in the wrong order": ("moments", query("moments", held=[200, 0])),
    "training under the evaluation's step": (EVALUATION, query("labels")),
    "evaluation under a training step": ("labels", query(EVALUATION)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_sum_that_does_not_keep_to_its_side_is_refused_at_no_cost(attack: str) -> None:
    asked = Asked()
    transcript = asked.run()
    step, lie = ATTACKS[attack]
    assert asked.ask(transcript, step, lie) is NO
    assert asked.ledger.dearest == 0
    # The honest instruction is still answered.
    assert asked.ask(transcript, step) is OK
    assert asked.ledger.dearest > 0


@pytest.mark.parametrize("held", [[0, 200], [0, 900], [0, 1000 - 1]])
def test_a_sum_over_less_of_its_side_is_answered_and_paid_by_the_side(held: list[int]) -> None:
    """As folds within training would be; the books do not split sides further."""
    asked = Asked()
    assert asked.ask(asked.run(), "labels", query("labels", held=held)) is OK
    paid = asked.node.store.transaction()
    with paid as books:
        (found,) = books.by_run().values()
    assert found == BySide(train=found.units, held=0)


@pytest.mark.parametrize("order", [[*TRAINING, EVALUATION], [EVALUATION, *TRAINING]])
def test_the_same_study_again_and_again_spends_each_side_once(order: list[str]) -> None:
    asked = Asked()
    transcript, again = asked.run(), []
    first = [asked.ask(transcript, step) for step in order]
    assert first == [OK] * len(order)
    # The evaluation's whole budget is the training's, too; only rounding is left.
    assert asked.ledger.dearest >= STUDY.mu2_units * (1 - 1e-6)
    with asked.node.store.transaction() as books:
        (paid,) = books.by_run().values()
    assert min(paid.train, paid.held) >= STUDY.mu2_units * (1 - 1e-6)
    for _ in range(2):
        transcript = asked.run()
        again += [asked.ask(transcript, step) for step in order]
    assert set(again) == {BUDGET}


def test_what_one_side_left_is_not_the_other_s() -> None:
    asked = Asked()
    transcript = asked.run()
    assert asked.ask(transcript, EVALUATION) is OK
    assert asked.ask(asked.run(), EVALUATION) is BUDGET
    assert asked.ask(transcript, "labels") is OK
    codes = [asked.ask(asked.run(), "labels") for _ in range(4)]
    assert codes == [BUDGET] * 4


def test_sides_of_two_runs_add_up_since_a_customer_may_have_another_id_in_each() -> None:
    """Else whoever changes sides between runs would pay for both, and no books would notice."""
    asked = Asked()
    codes = [asked.ask(asked.run(), "labels") for _ in range(3)]
    assert codes == [OK] * 3  # shares of 30 %
    assert asked.ask(asked.run(), EVALUATION) is BUDGET
    asked = Asked(replace(STUDY, name="other", plan=(*STUDY.plan[:-1], _half(STUDY))))
    assert asked.ask(asked.run(), "labels") is OK
    assert asked.ask(asked.run(), EVALUATION) is OK
    assert asked.ask(asked.run(), "labels") is BUDGET


def _half(study: Study) -> PlanStep:
    return replace(study.plan[-1], share=0.5)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_server_however_clever_overdraws_any_customer(data: st.DataObject) -> None:
    """It chooses run, step, attempt, roster, noise and parts after seeing every answer."""
    asked = Asked()
    runs: list[tuple[Transcript, list[str]]] = []
    for _ in range(data.draw(st.integers(1, 20))):
        if not runs or data.draw(st.integers(0, 3)) == 0:
            transcript = asked.run()
            runs.append((transcript, [member.me for member in asked.nodes[1:]]))
        transcript, others = data.draw(st.sampled_from(runs))
        if len(others) > 2 and data.draw(st.booleans()):
            others.pop()
        step = data.draw(st.sampled_from([*TRAINING, EVALUATION, EVALUATION]))
        held = data.draw(st.sampled_from([[0, 200], [0, 200], [0, 150], [0, 500], [100, 300]]))
        factor = data.draw(st.sampled_from([0.5, 1.0, 1.001, 2.0, 1e3]))
        number = data.draw(st.integers(1, 3))
        members = tuple(sorted([asked.node.me, *others]))

        def change(
            order: Instruction,
            factor: float = factor,
            number: int = number,
            members: tuple[str, ...] = members,
        ) -> Instruction:
            noise = max(1, int(order.variance[0] * factor))
            return replace(order, variance=(noise, 1), attempt=number, roster=members)

        asked.ask(transcript, step, query(step, held=held), change)


# The owner's caps.


@pytest.mark.parametrize("cap", ["lifetime", "period", "purpose"])
def test_a_cap_that_fits_the_study_fits_training_and_evaluation(cap: str) -> None:
    asked = Asked()
    for node in asked.nodes:
        caps: dict[str, Any] = {
            "lifetime": {"lifetime": Lifetime(1.001, 1e-5)},
            "period": {"periods": (Period(30, 1.001),)},
            "purpose": {"purpose_caps": (PurposeCap(STUDY.purpose, 1.001),)},
        }[cap]
        node.policy = replace(node.policy, **({"lifetime": Lifetime(90.0, 1e-5)} | caps))
    forecasts = preflight.forecast(STUDY, asked.node.policy, asked.node.store)
    preflight.require_room(STUDY, forecasts)
    transcript = asked.run()
    assert [asked.ask(transcript, step) for step in (*TRAINING, EVALUATION)] == [OK] * 5
    # Another study has a split of its own: what it costs is added.
    other = replace(STUDY, name="another")
    for node in asked.nodes:
        node.approve(other)
    forecasts = preflight.forecast(other, asked.node.policy, asked.node.store)
    assert [item.name for item in forecasts if not item.fits] == [
        {"lifetime": "lifetime", "period": "30-day", "purpose": f"purpose {STUDY.purpose!r}"}[cap]
    ]
    transcript = say_hello(other, asked.nodes)
    for step in (EVALUATION, "labels"):
        order = instruct(other, transcript, step, query(step, other))
        assert ask(asked.node, order, transcript)[0] is BUDGET


def test_a_run_needs_room_on_both_sides_whichever_is_dearer() -> None:
    asked = Asked()
    assert asked.ask(asked.run(), EVALUATION) is OK
    forecasts = preflight.forecast(STUDY, asked.node.policy, asked.node.store)
    assert [item.name for item in forecasts if not item.fits] == ["study"]
    with pytest.raises(BudgetError, match="study's own budget"):
        preflight.require_room(STUDY, forecasts)


# An honest server.


def finish(run: Run, order: list[str]) -> None:
    run.federation.hello()
    for step in order:
        run.federation.sum(step, query(step, run.study))
        run.check_books()


@pytest.mark.parametrize("order", [[*TRAINING, EVALUATION], [EVALUATION, *TRAINING]])
def test_server_and_clients_count_the_same(order: list[str]) -> None:
    run = Run(STUDY, 5)
    finish(run, order)
    assert STUDY.mu2_units * (1 - 1e-6) <= run.federation.spent_units <= STUDY.mu2_units
    assert {spent_by(node, STUDY) for node in run.nodes} == {run.federation.spent_units}
    shares = {e.step: e.units / STUDY.mu2_units for e in run.federation.spending}
    assert shares == pytest.approx({step.step: step.share for step in STUDY.plan}, rel=1e-6)
    sides = {e.step: e.side for e in run.federation.spending}
    assert sides == {step.step: STUDY.side(step) for step in STUDY.plan}


def test_retries_of_training_take_nothing_from_the_evaluation() -> None:
    run = Run(STUDY, 6, lambda attempt, place: (attempt, place) == (0, 5))
    run.federation.hello()
    ahead = run.federation.noise_ahead(EVALUATION, 1.0)
    run.federation.sum("labels", query("labels"))
    assert run.federation.noise_ahead(EVALUATION, 1.0) == pytest.approx(
        ahead * ((5 / 4) / (6 / 5)) ** 0.5  # one member less adds its share
    )
    for step in (*TRAINING[1:], EVALUATION):
        run.federation.sum(step, query(step))
    run.check_books()
    shares = [e.units / STUDY.mu2_units for e in run.federation.spending]
    assert shares == pytest.approx([0.3, 0.21, 0.07, 0.21, 0.21, 1.0], rel=1e-6)


def test_what_the_plan_leaves_to_the_evaluation_pays_for_another_attempt() -> None:
    plan = (*STUDY.plan[:-1], replace(STUDY.plan[-1], share=0.5))
    for study, attempts in ((STUDY, 1), (replace(STUDY, plan=plan), 2)):
        run = Run(study, 6, lambda attempt, place: (attempt, place) == (4, 5))
        if attempts == 1:
            with pytest.raises(BudgetError, match="evaluation: failed attempts left 0%"):
                finish(run, [*TRAINING, EVALUATION])
        else:
            finish(run, [*TRAINING, EVALUATION])
        tried = [e.units / study.mu2_units for e in run.federation.spending[4:]]
        assert tried == pytest.approx([1 / attempts] * attempts, rel=1e-6)
        run.check_books()


@settings(max_examples=30, deadline=None)
@given(
    silences=st.lists(st.sets(st.integers(0, 7), max_size=2), max_size=10),
    first=st.integers(0, len(TRAINING)),
)
def test_no_pattern_of_silence_overspends(silences: list[set[int]], first: int) -> None:
    order = [*TRAINING[:first], EVALUATION, *TRAINING[first:]]
    run = Run(STUDY, 8, lambda attempt, place: place in dict(enumerate(silences)).get(attempt, ()))
    with suppress(FederationError, BudgetError):
        finish(run, order)
    run.check_books()


def test_an_honest_server_asks_for_no_sum_beyond_its_side() -> None:
    run = Run(STUDY, 4)
    run.federation.hello()
    for step, lie in ATTACKS.values():
        with pytest.raises(FederationError, match="no such sum left"):
            run.federation.sum(step, lie)
    assert run.federation.spending == []


def test_a_second_run_of_the_study_finds_nothing_on_either_side() -> None:
    run = Run(STUDY, 4)
    finish(run, [*TRAINING, EVALUATION])
    for step in ("labels", EVALUATION):
        again = Federation(run.courier, STUDY, SERVER, simulated=True)
        again.hello()
        with pytest.raises(FederationError, match=r"0 members are left.*budget"):
            again.sum(step, query(step))


def test_a_merged_log_restores_both_sides(tmp_path: Path) -> None:
    run = Run(STUDY, 4)
    node = run.nodes[0]
    keep_books(node, tmp_path / "books.sqlite")
    finish(run, [*TRAINING, EVALUATION])
    whole = spent_by(node, STUDY)
    node.store.close()
    (tmp_path / "books.sqlite").unlink()
    node = restarted(node, tmp_path / "books.sqlite")
    node.approve(STUDY)
    assert node.store.restored is not None
    log = tmp_path / "log.json"
    log.write_bytes(sign_log(run.federation.spending, SERVER))
    assert node.store.merge(read_log(log, frozenset({SERVER.public})), node.me) == 5
    assert node.store.restored is None
    assert spent_by(node, STUDY) == whole
    with node.store.transaction() as books:
        assert {c.side for c in books.charges(run.federation.run)} == {
            BookSide.TRAIN,
            BookSide.HELD,
        }
    nodes = [node, *run.nodes[1:]]
    for step in ("labels", EVALUATION):
        transcript = say_hello(STUDY, nodes)
        order = instruct(STUDY, transcript, step, query(step))
        assert ask(node, order, transcript)[0] is BUDGET


# What people are told.


def test_the_statement_says_that_the_costs_do_not_add() -> None:
    run = Run(STUDY, 4)
    finish(run, [*TRAINING, EVALUATION])
    statement = privacy_statement(run.federation)
    assert statement["apart"] == APART.as_dict()
    assert APART.en in as_text(statement)
    assert [row["customers"] for row in statement["sums"]] == ["train"] * 4 + ["held"]
    assert sum(row["share_of_mu2"] for row in statement["sums"]) == pytest.approx(2)
    assert statement["epsilon_spent"] == pytest.approx(STUDY.epsilon, abs=1e-4)
    assert statement["epsilon_spent"] <= STUDY.epsilon
    assert accounting.epsilon(run.federation.spent_units, STUDY.delta) <= STUDY.epsilon


def test_a_run_that_was_not_evaluated_says_nothing_of_it() -> None:
    run = Run(STUDY, 4)
    finish(run, TRAINING)
    statement = privacy_statement(run.federation)
    assert statement["apart"] is None
    assert APART.en not in as_text(statement)


def test_the_plan_s_table_tells_the_evaluation_s_noise() -> None:
    """`kesit study check` before the run, what was opened after it."""
    run = Run(STUDY, 4)
    finish(run, [EVALUATION])
    (opened,) = run.federation.sums
    (step,) = (step for step in STUDY.plan if STUDY.side(step) is BookSide.HELD)
    assert count_noise(STUDY, step, 4) == pytest.approx(opened.sigma, rel=1e-6)


def test_a_simulated_training_still_spends_what_was_agreed() -> None:
    study = churn_study()
    result = trained(study, churn_frame(1500))
    assert result.federation.spent_units <= study.mu2_units
    assert result.federation.spent_units >= study.mu2_units * (1 - 1e-6)
