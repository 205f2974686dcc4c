"""Maximum entropy: closed forms, the conditions of the optimum, and a generic optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.sparse import csr_array

from kesit_privacy.features import FloatArray
from kesit_server.segmentation import maxent
from kesit_server.segmentation.maxent import PRIOR_WEIGHT, Fit


@pytest.fixture(autouse=True)
def customers_without_grain(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if synthetic customers were fine enough to meet any sum, unless a test is about that."""
    if "grain" not in request.node.name:
        monkeypatch.setattr(maxent, "GRAIN", 0.0)


def one_fit(
    rows: list[list[float]], sigma: float, total: float, prior: FloatArray | None = None
) -> Fit:
    return Fit([csr_array(np.array(rows))], [sigma], total, prior)


def objective(
    shares: FloatArray,
    sums: list[tuple[FloatArray, FloatArray, float]],
    total: float,
    prior: FloatArray,
) -> float:
    """α·N·KL(p ‖ p⁰) + Σ ‖N·Aᵀp - y‖²/(2σ²), as the module states it."""
    divergence = float((shares * np.log(shares / prior)).sum())
    misfit = sum(
        float(((total * rows.T @ shares - values) ** 2).sum()) / (2 * sigma**2)
        for rows, values, sigma in sums
    )
    return PRIOR_WEIGHT * total * divergence + misfit


def test_two_customers_and_one_count_by_hand() -> None:
    """Only the first customer is counted: α·N·ln(p/(1-p)) = N·(y - N·p)/σ² at the optimum."""
    total, sigma, y = 100.0, 4.0, 90.0

    def slope(p: float) -> float:
        return PRIOR_WEIGHT * math.log(p / (1 - p)) - (y - total * p) / sigma**2

    p = brentq(slope, 1e-9, 1 - 1e-9, xtol=1e-14)
    found = one_fit([[1.0], [0.0]], sigma, total).weights([np.array([y])])
    assert found == pytest.approx([total * p, total * (1 - p)], rel=1e-5)
    assert 50 < found[0] < 90  # between what the prior and what the count says


def test_a_count_that_says_what_the_prior_says_changes_nothing() -> None:
    prior = np.array([0.2, 0.3, 0.5])
    found = one_fit([[1.0], [0.0], [0.0]], 3.0, 60.0, prior).weights([np.array([12.0])])
    assert found == pytest.approx([12, 18, 30], rel=1e-6)


def test_three_customers_whose_counts_leave_two_alike() -> None:
    """Nothing tells the second from the third: their ratio stays the prior's."""
    prior = np.array([0.5, 0.1, 0.4])
    rows = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    found = one_fit(rows, 1.0, 200.0, prior).weights([np.array([20.0, 180.0])])
    assert found[2] / found[1] == pytest.approx(4.0, rel=1e-9)
    assert found[0] == pytest.approx(20, abs=2)


def test_without_noise_to_speak_of_the_sums_are_met() -> None:
    """Sums of real weights over the same customers: the residuals are those of the prior's pull.

    At the optimum the residual is σ²·θ, which a σ of 0.1 makes small beside counts of hundreds.
    """
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 20, 60)
    rows = (rng.random((60, 8)) < 0.3).astype(float)
    offsets = rng.normal(size=(60, 5)) / 2
    fit = Fit([csr_array(rows), csr_array(offsets)], [0.1, 0.1], truth.sum())
    found = fit.weights([truth @ rows, truth @ offsets])
    np.testing.assert_allclose(found @ rows, truth @ rows, atol=0.1)
    np.testing.assert_allclose(found @ offsets, truth @ offsets, atol=0.1)


def test_the_more_noise_the_nearer_to_the_prior() -> None:
    rows = [[1.0], [0.0], [0.0]]
    values = [np.array([300.0])]
    firsts = [one_fit(rows, sigma, 300.0).weights(values)[0] for sigma in (1, 10, 100, 1e4)]
    assert firsts == sorted(firsts, reverse=True)
    assert firsts[0] > 290
    assert firsts[-1] == pytest.approx(100, rel=1e-2)


def random_case(
    seed: int,
) -> tuple[list[tuple[FloatArray, FloatArray, float]], float, FloatArray]:
    """Counts and offsets of six customers with noise of two sizes, N, and an uneven prior."""
    rng = np.random.default_rng(seed)
    total = 50.0
    prior = rng.dirichlet(np.full(6, 3.0))
    truth = total * rng.dirichlet(np.full(6, 1.0))
    sums = []
    for sigma, rows in (
        (2.0, np.eye(6)[:, :3]),
        (5.0, rng.normal(size=(6, 4))),
    ):
        sums.append((rows, truth @ rows + rng.normal(0, sigma, rows.shape[1]), sigma))
    return sums, total, prior


@pytest.mark.parametrize("seed", range(8))
def test_the_optimum_is_that_of_a_generic_optimiser(seed: int) -> None:
    """SLSQP on the objective itself, over the simplex, knows nothing of the dual."""
    sums, total, prior = random_case(seed)
    fit = Fit([csr_array(rows) for rows, _, _ in sums], [s for _, _, s in sums], total, prior)
    found = fit.weights([values for _, values, _ in sums]) / total
    generic = minimize(
        lambda p: objective(np.maximum(p, 1e-12), sums, total, prior),
        prior,
        method="SLSQP",
        bounds=[(1e-9, 1)] * 6,
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"maxiter": 1000, "ftol": 1e-12},
    )
    assert generic.success
    best = objective(found, sums, total, prior)
    assert best <= generic.fun + 1e-4
    np.testing.assert_allclose(found, generic.x, atol=2e-3)


@pytest.mark.parametrize("seed", range(8))
def test_the_conditions_of_the_optimum_hold(seed: int) -> None:
    """α·ln(p_i/p⁰_i) + Σ_s a_i·(N·Aᵀp - y)/σ² is the same number for every customer."""
    sums, total, prior = random_case(seed)
    fit = Fit([csr_array(rows) for rows, _, _ in sums], [s for _, _, s in sums], total, prior)
    weights = fit.weights([values for _, values, _ in sums])
    pull = PRIOR_WEIGHT * np.log(weights / total / prior)
    for rows, values, sigma in sums:
        pull = pull + rows @ (weights @ rows - values) / sigma**2
    assert float(np.ptp(pull)) < 2e-3


def test_later_searches_find_what_a_first_one_would() -> None:
    """A search begins where the first one ended, and ends near where its own values say.

    At most a hundredth of the weight may lie elsewhere: later searches stop sooner.
    """
    sums, total, prior = random_case(0)
    rows, sigmas = [csr_array(rows) for rows, _, _ in sums], [s for _, _, s in sums]
    values = [values for _, values, _ in sums]
    others = [one + 3 * sigma for one, sigma in zip(values, sigmas, strict=True)]
    warm = Fit(rows, sigmas, total, prior)
    first = warm.weights(values)
    for wanted in (others, values):
        again, afresh = warm.weights(wanted), Fit(rows, sigmas, total, prior).weights(wanted)
        assert np.abs(again - afresh).sum() / 2 < total / 100
    assert np.abs(first - warm.weights(others)).sum() / 2 > total / 20  # there was a way to go


def test_the_grain_of_the_customers_counts_as_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each weighs N/m: a sum of their a_i is no finer than (N/m)·√Σ a_i²."""
    rng = np.random.default_rng(0)
    rows, total = rng.normal(size=(40, 1)), 400.0
    values = [np.array([90.0])]
    found = Fit([csr_array(rows)], [3.0], total).weights(values)
    grain = maxent.GRAIN * (total / 40) ** 2 * float((rows**2).sum())
    monkeypatch.setattr(maxent, "GRAIN", 0.0)
    expected = Fit([csr_array(rows)], [math.sqrt(9.0 + grain)], total).weights(values)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@given(
    values=st.lists(st.floats(-1e3, 1e4), min_size=4, max_size=4),
    sigma=st.floats(1.0, 1e3),
    total=st.floats(1.0, 1e5),
)
@settings(max_examples=100, deadline=None)
def test_weights_are_never_negative_and_add_up(
    values: list[float], sigma: float, total: float
) -> None:
    """Whatever the noise says: sums below zero, or far beyond all customers."""
    rows = [[1.0, 0.0, 0.5, -0.5], [0.0, 1.0, -0.5, 0.5], [1.0, 1.0, 0.0, 0.0], [0.0] * 4]
    found = one_fit(rows, sigma, total).weights([np.array(values)])
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(total, rel=1e-9)
