"""Empirical Bayes for one feature's shape: how far to trust each cell, decided by the noisy sums.

A cell's noisy residual d says h·s, h its curvature and s its log odds. Sampling adds variance h,
privacy τ². The prior says that s is small (ridge) and, along a number, changes little from cell to
cell (a first- or second-order random walk); how little, maximises the marginal likelihood of the
released d. It touches released values only, so it costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kesit_privacy.features import FloatArray

SIZES = (0.03, 0.1, 0.3, 1.0, 2.5, 6.0)
"""Standard deviations of a cell that the prior may have, in log odds."""

SMALL_SIZES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""The same for what is left when a first model is there."""

STEPS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Standard deviations of a step (or of its change) from one cell to the next."""


@dataclass(frozen=True)
class Posterior:
    """What is believed of one feature's cells.

    Attributes:
        mean, sd: (cells,) log odds and their standard deviation.
        freedom: how many cells' worth of the data went in, 0 .. cells.
    """

    mean: FloatArray
    sd: FloatArray
    freedom: float


def shape(
    residual: FloatArray,
    curvature: FloatArray,
    noise: FloatArray | float,
    *,
    ordered: bool,
    sizes: tuple[float, ...] = SIZES,
) -> Posterior:
    """The posterior of a feature's cells under the prior that explains them best.

    Args:
        residual, curvature: (cells,) d and h.
        noise: τ², one for all or (cells,).
        ordered: the cells but the last (missing values) are those of a number, in order.
    """
    variance = noise + curvature + 1e-9
    weight = curvature**2 / variance
    slope = curvature * residual / variance
    if not ordered:
        return _ridge(weight, slope, sizes)
    best = max(
        (_chain(weight, slope, size, walk) for size in sizes for walk in _walks(len(residual) - 1)),
        key=lambda found: found[0],
    )
    return best[1]


def _ridge(weight: FloatArray, slope: FloatArray, sizes: tuple[float, ...]) -> Posterior:
    """Cells without order: each stands alone, so every size is tried in one line."""
    prior = np.array(sizes)[:, None] ** -2.0
    precision = prior + weight
    evidence = 0.5 * (slope**2 / precision + np.log(prior / precision)).sum(axis=1)
    chosen = precision[int(evidence.argmax())]
    return Posterior(slope / chosen, chosen**-0.5, float((weight / chosen).sum()))


def _chain(
    weight: FloatArray, slope: FloatArray, size: float, walk: FloatArray
) -> tuple[float, Posterior]:
    """Log evidence up to a constant, and the posterior, for one prior."""
    prior = walk + np.eye(len(weight)) / size**2
    factor = np.linalg.cholesky(prior + np.diag(weight))
    inverse = np.linalg.inv(factor)
    half = inverse @ slope
    before = np.log(np.diag(np.linalg.cholesky(prior))).sum()
    evidence = 0.5 * half @ half - np.log(np.diag(factor)).sum() + before
    spread = (inverse**2).sum(axis=0)
    posterior = Posterior(inverse.T @ half, np.sqrt(spread), float((spread * weight).sum()))
    return float(evidence), posterior


@lru_cache(maxsize=64)
def _walks(ordered: int) -> tuple[FloatArray, ...]:
    """Precisions of random walks along `ordered` cells, a free cell after them."""
    found = []
    for order in (1, 2):
        if ordered <= order:
            continue
        step = np.zeros((ordered - order, ordered + 1))
        step[:, :-1] = np.diff(np.eye(ordered), order, axis=0)
        found += [step.T @ step / size**2 for size in STEPS]
    return tuple(found) or (np.zeros((ordered + 1, ordered + 1)),)
