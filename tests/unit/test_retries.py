"""An honest server, and members that fall away: no silence overspends (rules 6 and 16)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_privacy import recipes
from kesit_privacy.errors import BudgetError
from kesit_privacy.noise import SecureNoise
from kesit_server.errors import FederationError
from kesit_server.federation import Federation
from kit import SERVER, query_for, small_study, spent
from runs import Run


@settings(max_examples=60, deadline=None)
@given(
    silences=st.lists(st.sets(st.integers(0, 7), max_size=3), max_size=12),
    shares=st.sampled_from(
        [(0.5, 0.2, 0.2, 0.1), (0.8, 0.1, 0.05, 0.05), (0.01, 0.01, 0.01, 0.97)]
    ),
)
def test_no_pattern_of_silence_overspends(
    silences: list[set[int]], shares: tuple[float, ...]
) -> None:
    plan = [
        {"step": step.step, "query": step.query, "share": share}
        for step, share in zip(recipes.GRID_PLAN, shares, strict=True)
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
        assert len(run.federation.sums) == len(study.plan)
        always = next(n for n in run.nodes if n.me in spending[-1].roster)
        assert spent(always, study) == run.federation.spent_units
        # Rounding alone is left unspent: after a retry, and after none.
        assert run.federation.spent_units >= study.mu2_units * (1 - 1e-6)


def test_a_retry_is_paid_by_the_steps_that_follow_in_proportion() -> None:
    """Of shares 50, 30, 20 whose first fails once, 25, 15, 10 are left: half of all is gone."""
    run = Run(small_study(), 6, lambda attempt, place: (attempt, place) == (0, 5))
    run.finish()
    shares = [entry.units / run.study.mu2_units for entry in run.federation.spending]
    planned = [step.share for step in run.study.plan]
    left = [share * (1 - planned[0]) for share in planned]
    assert shares == pytest.approx([planned[0], *left], rel=1e-6)
    later = len(planned) - 1
    assert [len(entry.roster) for entry in run.federation.spending] == [6, 5, *[5] * later]
    assert [entry.attempt for entry in run.federation.spending] == [1, 2, *[1] * later]


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
    first = run.study.plan[0].share
    assert shares == pytest.approx([first * (1 - first) ** n for n in range(3)], rel=1e-6)


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
