"""The budget check: what it refuses, and that what it advises is true."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kesit_privacy import accounting, recipes
from kesit_privacy.errors import BudgetError
from kesit_privacy.study import (
    Segmentation,
    Study,
)
from kit import small_study


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
