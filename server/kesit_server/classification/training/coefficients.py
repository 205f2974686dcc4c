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

SIZES = tuple(float(size) for size in 0.0125 * 2.0 ** np.arange(10))
"""Standard deviations of a coefficient that a prior may have, in log odds over a number's range."""

INTERCEPT = 25.0
"""Prior variance of the intercept, which nothing shrinks."""

OPEN = 1.0
"""How many groups' worth of an even choice among sizes are added to what the groups show."""

TURNS = 8


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
    priors = [_prior(size, spread**2) for spread in SIZES]
    prior = max(priors, key=lambda prior: _evidence(precision, told, sampling, prior))
    shares = np.full(len(SIZES), 1 / len(SIZES))
    for _ in range(TURNS):
        found = _given(precision, told, sampling, prior)
        prior, shares = _sized(found, groups, shares)
    return _given(precision, told, sampling, prior)


def _sized(
    found: Coefficients, groups: tuple[IntArray, ...], shares: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Each group's variance anew (1 + d,), and the shares of sizes among the groups (sizes,)."""
    prior, chosen = found.prior.copy(), np.full(len(SIZES), OPEN / len(SIZES))
    for places in groups:
        if len(places) == 0:
            continue
        likely, lengths = _without(found, 1 + places)
        weights = shares * np.exp(likely - likely.max())
        weights /= weights.sum()
        chosen += weights
        length = float(weights @ lengths)
        prior[1 + places] = np.interp(length, lengths, np.log(SIZES))
        prior[1 + places] = np.exp(2 * prior[1 + places])
    return prior, chosen / chosen.sum()


def _without(found: Coefficients, places: IntArray) -> tuple[FloatArray, FloatArray]:
    """For each size of a group's prior: log evidence, and the length of the posterior mean.

    What all else says of the group is its posterior without its own prior: a Gaussian of precision
    Λ and mean Λ⁻¹h. With N(0, s²) the evidence is -½·log|1 + s²Λ| + ½·hᵀ(Λ + 1/s²)⁻¹h.
    """
    inverse = np.linalg.inv(found.covariance[np.ix_(places, places)])
    roots, axes = np.linalg.eigh(inverse - np.diag(1 / found.prior[places]))
    roots = np.maximum(roots, 0)
    along = axes.T @ (inverse @ found.mean[places])
    squares = np.array(SIZES)[:, None] ** 2
    means = along * squares / (1 + squares * roots)
    likely = 0.5 * (means * along - np.log1p(squares * roots)).sum(axis=1)
    return likely, np.linalg.norm(means, axis=1)


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
