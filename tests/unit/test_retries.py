"""An honest server, and members that fall away: no silence overspends (rules 6 and 16)."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_client.app import make_app
from kesit_privacy.errors import BudgetError
from kesit_privacy.noise import SecureNoise
from kesit_privacy.study import Study
from kesit_privacy.wire import HELLO, SUM
from kesit_server.courier import Courier, Patience
from kesit_server.errors import FederationError
from kesit_server.federation import Federation
from kesit_simulations.grid import InProcessGrid
from kit import SERVER, query_for, random_codes, small_nodes, small_study, spent


class Run:
    """A federation over an in-process grid whose members are silent as told.

    `silent(attempt, place)` says whether the member at `place` misses the sum of that attempt,
    counted over the whole run from 0.
    """

    def __init__(
        self,
        study: Study,
        clients: int,
        silent: Callable[[int, int], bool] = lambda attempt, place: False,
        mute: frozenset[int] = frozenset(),
    ) -> None:
        self.study = study
        self.nodes = small_nodes(study, random_codes(study, 60), clients)
        self.missed: set[tuple[int, str]] = set()
        ids = list(range(2, 2 + clients))

        def silence(node: int, kind: str) -> bool:
            if kind == HELLO:
                return node - 2 in mute
            attempt = len(self.federation.orders) - 1
            misses = kind == SUM and silent(attempt, node - 2)
            if misses:
                self.missed.add((attempt, self.nodes[node - 2].me))
            return misses

        app = make_app(lambda context: self.nodes[int(str(context.node_config["partition-id"]))])
        self.courier = Courier(InProcessGrid(app, ids, silent=silence), Patience(0, 1))
        self.federation = Federation(
            self.courier, study, SERVER, simulated=True, on_charge=lambda _: self.check_books()
        )

    def check_books(self) -> None:
        """Every client's spending <= the server's <= the study's budget."""
        assert self.federation.spent_units <= self.study.mu2_units
        assert self.federation.spent_units == sum(e.units for e in self.federation.spending)
        for node in self.nodes:
            assert spent(node, self.study) <= self.federation.spent_units

    def finish(self) -> None:
        """All sums of the plan, one after the other."""
        self.federation.hello()
        for step in self.study.plan:
            self.check_shares()
            self.federation.sum(step.step, query_for(self.study, step.step))
            self.check_books()

    def check_shares(self) -> None:
        """What the next sums could cost is in proportion to their shares of the plan."""
        done = {opened.step for opened in self.federation.sums}
        ahead = [step for step in self.study.plan if step.step not in done]
        noise = [
            self.federation.noise_ahead(step.step, 1.0) * math.sqrt(step.share) for step in ahead
        ]
        assert noise == pytest.approx([noise[0]] * len(noise), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    silences=st.lists(st.sets(st.integers(0, 7), max_size=3), max_size=12),
    shares=st.sampled_from([(0.5, 0.25, 0.25), (0.8, 0.1, 0.1), (0.01, 0.01, 0.98)]),
)
def test_no_pattern_of_silence_overspends(
    silences: list[set[int]], shares: tuple[float, float, float]
) -> None:
    steps = (("grid", "grid"), ("lloyd-1", "cluster-sums"), ("lloyd-2", "cluster-sums"))
    plan = [
        {"step": step, "query": query, "share": share}
        for (step, query), share in zip(steps, shares, strict=True)
    ]
    study = small_study(plan=plan)
    run = Run(study, 8, lambda attempt, place: place in dict(enumerate(silences)).get(attempt, ()))
    try:
        run.finish()
        whole = True
    except (FederationError, BudgetError):
        whole = False  # too few are left, or the last step has failed and there is no remainder
    run.check_books()
    spending = run.federation.spending
    for node in run.nodes:
        heard = [
            entry.units
            for attempt, entry in enumerate(spending)
            if node.me in entry.roster and (attempt, node.me) not in run.missed
        ]
        assert spent(node, study) == sum(heard)
    if whole:
        assert len(run.federation.sums) == 3
        always = next(n for n in run.nodes if n.me in spending[-1].roster)
        assert spent(always, study) == run.federation.spent_units
        # Rounding alone is left unspent: after a retry, and after none.
        assert run.federation.spent_units >= study.mu2_units * (1 - 1e-6)


def test_a_retry_is_paid_by_the_steps_that_follow_in_proportion() -> None:
    """Shares 50, 25, 25: the grid fails once, so its second try has 25, and the rest 12.5 each."""
    run = Run(small_study(), 6, lambda attempt, place: (attempt, place) == (0, 5))
    run.finish()
    shares = [entry.units / run.study.mu2_units for entry in run.federation.spending]
    assert shares == pytest.approx([0.5, 0.25, 0.125, 0.125], rel=1e-6)
    assert [len(entry.roster) for entry in run.federation.spending] == [6, 5, 5, 5]
    assert [entry.attempt for entry in run.federation.spending] == [1, 2, 1, 1]


def test_a_whole_run_uses_the_budget_up_and_another_finds_none() -> None:
    run = Run(small_study(), 4)
    run.finish()
    again = Federation(run.courier, run.study, SERVER, simulated=True)
    again.hello()
    with pytest.raises(FederationError, match=r"0 members are left.*budget"):
        again.sum("grid", query_for(run.study, "grid"))
    assert all(spent(node) <= run.study.mu2_units for node in run.nodes)


def test_a_step_cannot_be_summed_twice() -> None:
    run = Run(small_study(), 4)
    run.finish()
    with pytest.raises(FederationError, match="no such sum left: 'grid'"):
        run.federation.sum("grid", query_for(run.study, "grid"))
    with pytest.raises(FederationError, match="no such sum left"):
        run.federation.noise_ahead("lloyd-9", 1.0)


def test_too_few_members_at_hello() -> None:
    run = Run(small_study(), 5, mute=frozenset({0, 1, 2}))
    with pytest.raises(FederationError, match=r"2 members are left, the study needs 3.*silent"):
        run.federation.hello()


def test_too_few_members_after_a_loss_stop_the_run() -> None:
    run = Run(small_study(), 4, lambda attempt, place: place < 2)
    with pytest.raises(FederationError, match=r"2 members are left, the study needs 3"):
        run.finish()
    assert len(run.federation.spending) == 1
    run.check_books()


def test_three_attempts_and_no_more() -> None:
    run = Run(small_study(), 8, lambda attempt, place: place == attempt)
    with pytest.raises(FederationError, match="3 attempts failed"):
        run.finish()
    shares = [entry.units / run.study.mu2_units for entry in run.federation.spending]
    assert shares == pytest.approx([0.5, 0.25, 0.125], rel=1e-6)


def test_nothing_is_asked_before_hello() -> None:
    run = Run(small_study(), 4)
    with pytest.raises((FederationError, BudgetError)):
        run.federation.sum("grid", query_for(run.study, "grid"))
    assert run.federation.spending == []


@pytest.mark.parametrize(("probability", "refused"), [(0.06, False), (0.063, True), (0.9, True)])
def test_members_too_unreliable_for_their_number_are_refused(
    probability: float, refused: bool
) -> None:
    """Rule 6: n·p above 0.25 (here n = 4) needs too many retries; simulations may try."""
    study = small_study(roster={"silence_probability": probability})
    for simulated in (True, False):
        run = Run(study, 4)
        for node in run.nodes:
            node.noise, node.simulated, node.mode = SecureNoise(), simulated, "secure"
        federation = Federation(run.courier, study, SERVER, simulated=simulated)
        if refused and not simulated:
            with pytest.raises(FederationError, match="too many retries"):
                federation.hello()
        else:
            federation.hello()
            assert federation.members == 4


def test_simulated_noise_is_refused_outside_simulation() -> None:
    run = Run(small_study(), 4)
    with pytest.raises(FederationError, match="simulated noise"):
        Federation(run.courier, run.study, SERVER, simulated=False).hello()
