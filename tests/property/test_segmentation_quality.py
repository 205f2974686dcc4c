"""With noise off the segmentation is as good as k-means++ with restarts on the pooled rows.

The ratio of its inertia to that of scikit-learn's `KMeans(n_init=10)`, on blobs. Noise is off but
the recipe does not know it: it plans with the σ of the study's ε, and shrinks and thresholds by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_blobs

from kesit_privacy.features import GRID, CodeArray
from kesit_privacy.study import Study
from kesit_simulations.evaluation import evaluate
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, simulate
from kit import small_study

ROWS, K = 4000, 6
WORST = 1.02
"""Measured over five seeds of each case: at most 1.006 at ε = 3 and 1.011 at ε = 100. What is left
to chance is the recipe's own (members add no noise) and seeded, so a verdict repeats."""

CASES = [(2, False), (3, False), (5, False), (12, False), (4, True)]
"""Numbers, and whether there is a list of levels too."""


def blob_study(numbers: int, levels: bool, epsilon: float) -> Study:
    features: list[dict[str, Any]] = [
        {"kind": "numeric", "name": f"x{i}", "lower": 0.0, "upper": 1.0} for i in range(numbers)
    ]
    if levels:
        features.append({"kind": "categorical", "name": "c", "levels": ["a", "b", "c"]})
    return small_study(
        features=features, epsilon=epsilon, declared_customers=ROWS, segmentation={"k": K}
    )


def blobs(numbers: int, levels: bool, seed: int) -> CodeArray:
    """Six round groups, 2 % of the numbers missing; a level that mostly follows the group."""
    rng = np.random.default_rng(seed)
    points, group = make_blobs(
        ROWS, numbers, centers=K, cluster_std=0.05, center_box=(0.15, 0.85), random_state=seed
    )
    codes = np.clip(np.rint(points * GRID), 0, GRID)
    codes[rng.random(codes.shape) < 0.02] = -1
    if levels:
        level = np.where(rng.random(ROWS) < 0.85, group % 3, rng.integers(0, 5, ROWS))
        codes = np.column_stack([codes, level])
    return codes.astype(np.int16)


def ratio(numbers: int, levels: bool, epsilon: float, seed: int) -> float:
    study, codes = blob_study(numbers, levels, epsilon), blobs(numbers, levels, seed)
    parts = tuple(np.array_split(np.arange(ROWS), 4))
    plan = SimulationPlan(data="none", clients=4, noise="off", seed=seed)
    result = simulate(study, plan, Customers(codes, parts))
    # The evaluation counted the customers of the very centres that are released.
    counts = np.bincount(result.segments.assign(codes), minlength=K)
    np.testing.assert_allclose(result.segments.sizes, counts, atol=1e-3)
    found = evaluate(result.segments, codes).ratio
    assert found is not None
    return found


@pytest.mark.parametrize(("numbers", "levels"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_it_is_as_good_as_k_means_with_restarts(numbers: int, levels: bool, seed: int) -> None:
    assert ratio(numbers, levels, 3.0, seed) <= WORST


@pytest.mark.parametrize(("numbers", "levels"), CASES)
def test_a_budget_as_large_as_there_is_does_no_harm(numbers: int, levels: bool) -> None:
    """ε = 100: the noise that the recipe reckons with is a hundredth of a customer's."""
    assert ratio(numbers, levels, 100.0, seed=0) <= WORST
