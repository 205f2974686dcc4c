"""Default plans and their shares; the budget check, and that what it advises is true."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kesit_privacy import accounting, recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import BudgetError, StudyError
from kesit_privacy.queries import CATALOGUE
from kesit_privacy.queries.base import MAX_LENGTH
from kesit_privacy.study import (
    PlanStep,
    Segmentation,
    Study,
)
from kit import mixed_study, small_study

PLANS: dict[str, tuple[PlanStep, ...]] = {
    name: plan for name, plan in vars(recipes).items() if name.endswith("_PLAN")
}
MESSAGES = 8
"""To a client in a whole study, hello and end included; one more where there is a third level."""


# --- plans ---------------------------------------------------------------------------------------


def test_every_plan_is_known_here() -> None:
    assert {"GRID_PLAN", "GRID_ALONE_PLAN", "CODEBOOK_PLAN"} <= set(PLANS)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_shares_of_a_plan_add_up_to_exactly_one(plan: tuple[PlanStep, ...]) -> None:
    assert sum((step.exact_share for step in plan), Fraction(0)) == 1
    assert all(step.exact_share > 0 for step in plan)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_step_is_one_sum_of_a_query_of_the_catalogue(plan: tuple[PlanStep, ...]) -> None:
    assert len({step.step for step in plan}) == len(plan)
    assert {step.query for step in plan} <= {name for name, _ in CATALOGUE}
    assert plan[-1] is recipes.EVALUATION
    assert [step.query for step in plan].count("evaluation") == 1


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_hello_the_sums_and_the_end_are_eight_messages_at_most(
    plan: tuple[PlanStep, ...],
) -> None:
    third = any(step.step == "cells-3" for step in plan)
    assert 2 + len(plan) <= MESSAGES + third


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_recipe_knows_every_step_of_a_plan(plan: tuple[PlanStep, ...]) -> None:
    """A step that is neither start, level, round nor evaluation would be paid for and never asked.

    Levels come before rounds, and the rounds before the evaluation.
    """
    study = replace(small_study(), plan=plan)
    names = [step.step for step in plan]
    start, rest = names[0], names[1:-1]
    assert start in ("grid", "marginals")
    assert rest == [*recipes.levels(study), *recipes.rounds(study)]
    assert (start == "grid") == (not recipes.levels(study))


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"kind": "numeric", "name": f"x{i}", "lower": 0.0, "upper": 1.0} for i in range(count)]


LEVELS = {"kind": "categorical", "name": "c", "levels": ["a", "b"]}


@pytest.mark.parametrize(
    ("features", "grid"),
    [
        (numbers(1), True),
        (numbers(3), True),
        (numbers(4), False),
        ([*numbers(1), LEVELS], False),
        ([LEVELS], False),
    ],
)
def test_a_grid_is_for_three_numbers_at_most(features: list[dict[str, Any]], grid: bool) -> None:
    study = small_study(features=features)
    assert recipes.uses_grid(Embedding.of(study)) is grid
    assert study.plan[0].step == ("grid" if grid else "marginals")


@pytest.mark.parametrize("build", [small_study, mixed_study])
def test_the_plan_changes_at_one_signal_to_noise_ratio(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At it there are rounds; a hair below, fewer of them."""
    snr = recipes.signal_to_noise(build())
    monkeypatch.setattr(recipes, "ROUNDS_SNR", snr)
    above = build()
    monkeypatch.setattr(recipes, "ROUNDS_SNR", math.nextafter(snr, math.inf))
    below = build()
    assert len(recipes.rounds(below)) < len(recipes.rounds(above))
    assert {above.plan, below.plan} <= set(PLANS.values())


def as_tables(plan: tuple[PlanStep, ...]) -> list[dict[str, Any]]:
    return [{"step": s.step, "query": s.query, "share": s.share} for s in plan]


def test_a_study_s_own_shares_are_those_of_the_same_steps_in_the_recipe_s_order() -> None:
    own = as_tables(mixed_study().plan)
    own[0]["share"], own[-1]["share"] = own[-1]["share"], own[0]["share"]
    study = mixed_study(plan=own[::-1])
    assert as_tables(study.plan) == own


def test_no_step_can_be_added_left_out_or_renamed() -> None:
    """Each with shares that add up to 1: the plan is refused for its steps, not for its sum."""
    own = as_tables(mixed_study().plan)
    first, last = own[0], own[-1]
    halves = [
        first | {"share": first["share"] / 2},
        first | {"share": first["share"] / 2, "step": "more"},
    ]
    joined = first | {
        "share": float(Fraction(repr(first["share"])) + Fraction(repr(last["share"])))
    }
    for plan in (
        [*halves, *own[1:]],
        [joined, *own[1:-1]],
        [*own[:-1], last | {"step": "evaluation-1"}],
        [*own[:-1], last | {"query": "cluster-sums"}],
    ):
        assert sum(Fraction(repr(step["share"])) for step in plan) == 1
        with pytest.raises(StudyError, match="steps are not those of this study's recipe") as error:
            mixed_study(plan=plan)
        assert "evaluation (evaluation)" in error.value.remedy


def test_no_step_can_be_added_without_its_share() -> None:
    own = as_tables(mixed_study().plan)
    for more in (
        {"step": "evaluation-2", "query": "evaluation", "share": 0.1},
        {"step": "evaluation-2", "query": "evaluation", "share": 1e-9},
    ):
        with pytest.raises(StudyError, match="add up to"):
            mixed_study(plan=[*own, more])
    with pytest.raises(StudyError, match="share"):
        mixed_study(plan=[*own, {"step": "evaluation-2", "query": "evaluation"}])
    with pytest.raises(StudyError, match="share"):
        mixed_study(plan=[*own, {"step": "evaluation-2", "query": "evaluation", "share": 0.0}])


# --- the budget check ----------------------------------------------------------------------------


def test_signal_to_noise_by_hand() -> None:
    """n / (σ1·k·√d), with m times the noise, and √(n/(n-c)) of it for the smallest roster."""
    study = small_study(
        max_clients_per_customer=2, roster={"min_size": 4, "max_colluders": 2}, epsilon=1.0
    )
    sigma = 2 * math.sqrt(4 / (4 - 2)) / accounting.mu(study.mu2_units)
    expected = 3000 / (sigma * 3 * math.sqrt(2))
    assert recipes.signal_to_noise(study) == pytest.approx(expected, rel=1e-12)
    half = recipes.signal_to_noise(study, study.mu2_units // 4)
    assert half == pytest.approx(expected / 2, rel=1e-9)


def test_a_refusal_goes_by_the_declared_number_and_the_smallest_roster() -> None:
    """What a federation of min_size members would have as noise, and the n that was agreed on."""
    study = small_study(declared_customers=600)
    snr = recipes.signal_to_noise(study)
    rules = study.roster
    pooled = 600 * accounting.mu(study.mu2_units) / (3 * math.sqrt(2))
    federated = math.sqrt(rules.min_size / (rules.min_size - rules.max_colluders))
    assert snr == pytest.approx(pooled / federated, rel=1e-9)
    half = small_study(declared_customers=300)
    assert recipes.signal_to_noise(half) == pytest.approx(snr / 2, rel=1e-9)
    ten = small_study(declared_customers=600, roster={"min_size": 10})
    assert recipes.signal_to_noise(ten) > snr
    trusting = small_study(declared_customers=600, roster={"max_colluders": 0})
    assert recipes.signal_to_noise(trusting) == pytest.approx(pooled, rel=1e-9)


def test_a_range_of_k_is_judged_by_its_largest() -> None:
    """Any number of the range may be chosen, so the budget must do for all of them."""
    wide = small_study(segmentation={"k": 9, "smallest_k": 2})
    fixed = small_study(segmentation={"k": 9})
    assert recipes.signal_to_noise(wide) == recipes.signal_to_noise(fixed)
    assert wide.plan == fixed.plan


def passes(study: Study) -> bool:
    try:
        recipes.check_budget(study)
    except BudgetError:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(
    epsilon=st.floats(1e-3, 3),
    delta=st.sampled_from([1e-9, 1e-6, 1e-4]),
    customers=st.integers(4, 2000),
    k=st.integers(2, 250),
    dimensions=st.integers(1, 40),
    m=st.integers(1, 4),
)
def test_what_a_refusal_proposes_is_true(
    epsilon: float, delta: float, customers: int, k: int, dimensions: int, m: int
) -> None:
    """The ε that it proposes passes and a hundredth less fails; so do the k and one more."""
    assume(k <= customers)
    features = [
        {"kind": "numeric", "name": f"x{i}", "lower": 0.0, "upper": 1.0} for i in range(dimensions)
    ]
    study = small_study(
        epsilon=epsilon,
        delta=delta,
        declared_customers=customers,
        segmentation={"k": k},
        features=features,
        max_clients_per_customer=m,
        thresholds={"min_segment_size": 1},
    )
    assert passes(study) == (recipes.signal_to_noise(study) >= recipes.SMALLEST_SNR)
    if passes(study):
        return
    with pytest.raises(BudgetError, match=rf"k = {k} .*{customers:,} customers") as error:
        recipes.check_budget(study)
    remedy = error.value.remedy
    more = re.search(r"epsilon >= ([0-9.e+]+)", remedy)
    fewer = re.search(r"k <= (\d+)", remedy)
    if more:
        proposed = float(more[1].rstrip("."))
        assert passes(replace(study, epsilon=proposed))
        if proposed > 0.01:
            assert not passes(replace(study, epsilon=round(proposed - 0.01, 2)))
    else:
        assert not passes(replace(study, epsilon=100.0))
    if fewer:
        assert passes(replace(study, segmentation=Segmentation(int(fewer[1]))))
        assert not passes(replace(study, segmentation=Segmentation(int(fewer[1]) + 1)))
    else:
        assert not passes(replace(study, segmentation=Segmentation(2)))
    assert more or fewer or "more customers" in remedy


def test_a_budget_of_almost_nothing_is_refused_with_advice() -> None:
    """So little that it is no unit of the ledger: there is an answer, and no division by zero."""
    study = small_study(epsilon=1e-12, delta=1e-12)
    assert study.mu2_units == 0
    with pytest.raises(BudgetError, match=r"epsilon >= 0\.\d+\."):
        recipes.check_budget(study)


def test_a_good_budget_passes() -> None:
    recipes.check_budget(small_study())


def test_more_coordinates_than_a_sum_may_have_are_refused_before_anything_is_spent() -> None:
    features = [
        {"kind": "categorical", "name": name, "levels": [f"{name}{i}" for i in range(4096)]}
        for name in ("p", "q")
    ]
    wide = {"features": features, "declared_customers": 1_000_000, "delta": 1e-9}
    most = MAX_LENGTH // (1 + 2 * 4098)
    assert small_study(segmentation={"k": most}, **wide).plan
    with pytest.raises(StudyError, match="more numbers"):
        small_study(segmentation={"k": most + 1}, **wide)
