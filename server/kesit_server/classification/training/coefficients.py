"""Empirical Bayes for coefficients: how far to trust each feature, decided by the noisy sums.

Sums tell a linear map of the coefficients β̂ that fit the customers best: t = A·β̂ + noise of
covariance A (the normal equations, each sum weighted by its privacy noise). β̂ itself differs from
β by sampling, with covariance H⁻¹. The prior of a feature's coefficients is N(0, s_k²): one size s
for all maximises the marginal likelihood of t; then each feature's own s_k follows by
expectation-maximisation (MacKay's automatic relevance determination), held near s. It touches
released values only, so it costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import FloatArray, IntArray

SIZES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Standard deviations of a coefficient, in log odds over a number's range."""

INTERCEPT = 25.0
"""Prior variance of the intercept, which nothing shrinks."""

HELD = 2.0
"""How many coefficients' worth of evidence holds a feature's size near the common one."""

TURNS = 6


@dataclass(frozen=True)
class Coefficients:
    """A posterior of the intercept and the coefficients.

    Attributes:
        mean: (1 + d,); covariance: (1 + d, 1 + d).
        prior: (1 + d,) the variances of the prior that was found.
    """

    mean: FloatArray
    covariance: FloatArray
    prior: FloatArray


def posterior(
    precision: FloatArray,
    told: FloatArray,
    sampling: FloatArray,
    groups: tuple[IntArray, ...],
) -> Coefficients:
    """The posterior under the prior that explains the sums best.

    Args:
        precision, told: A (1 + d, 1 + d) and t (1 + d,); the intercept is first.
        sampling: H⁻¹ (1 + d, 1 + d).
        groups: for each feature, the places of its coefficients among the d.
    """
    size = len(told)
    sizes = [_prior(size, spread**2) for spread in SIZES]
    common = max(sizes, key=lambda prior: _evidence(precision, told, sampling, prior))
    prior, around = common.copy(), float(common[-1])
    for _ in range(TURNS):
        found = _given(precision, told, sampling, prior)
        seen = found.mean**2 + np.maximum(np.diag(found.covariance), 0)
        for places in groups:
            own = seen[1 + places].sum()
            prior[1 + places] = (own + HELD * around) / (len(places) + HELD)
    return _given(precision, told, sampling, prior)


def _prior(size: int, variance: float) -> FloatArray:
    prior = np.full(size, variance)
    prior[0] = INTERCEPT
    return prior


def _evidence(
    precision: FloatArray, told: FloatArray, sampling: FloatArray, prior: FloatArray
) -> float:
    """Log density of t, up to a constant: β̂ ~ N(0, prior + H⁻¹), seen with covariance A⁻¹."""
    joint = precision @ (sampling + np.diag(prior)) + np.eye(len(told))
    explained = told @ np.linalg.solve(precision, np.linalg.solve(joint, told))
    return float(-0.5 * explained - 0.5 * np.linalg.slogdet(joint)[1])


def _given(
    precision: FloatArray, told: FloatArray, sampling: FloatArray, prior: FloatArray
) -> Coefficients:
    joint = precision @ (sampling + np.diag(prior)) + np.eye(len(told))
    solved = np.linalg.solve(joint, np.column_stack([told, precision]))
    mean = prior * solved[:, 0]
    covariance = np.diag(prior) - prior[:, None] * solved[:, 1:] * prior
    return Coefficients(mean, (covariance + covariance.T) / 2, prior)
