"""k-means steps on noisy sums: weighted clustering of a synopsis, and the shrunk Lloyd step."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import FloatArray
from kesit_privacy.queries import ClusterSums
from kesit_server.federation import NoisySum

POOLED_BELOW = 8
"""Dimensions under which one shrinkage factor serves all clusters."""


@dataclass(frozen=True)
class Step:
    """Centres (k, dimensions) after a step, noisy counts (k,) before it, and the counts' σ."""

    centres: FloatArray
    counts: FloatArray
    count_sigma: float


def cluster(
    points: FloatArray, weights: FloatArray, k: int, rng: np.random.Generator, restarts: int
) -> FloatArray:
    """Weighted k-means++ with restarts (scikit-learn) on points that are private already.

    With fewer distinct points than k, centres repeat: their segments come out empty.
    """
    distinct = len(np.unique(points, axis=0))
    model = KMeans(min(k, distinct), n_init=restarts, random_state=int(rng.integers(1 << 31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points, sample_weight=weights)
    found: FloatArray = model.cluster_centers_
    return found[np.arange(k) % len(found)]


def round_centres(centres: FloatArray, space: Embedding) -> FloatArray:
    """Centres on the grid and inside the box (clipped, never folded)."""
    rounded: FloatArray = np.rint(np.clip(centres, 0, space.ceiling))
    return rounded


def shrunk_step(query: ClusterSums, opened: NoisySum) -> Step:
    """Move each centre by the noisy mean offset of its rows, shrunk towards staying.

    Positive-part James and Stein (1961): an offset y with noise variance τ² a coordinate becomes
    max(0, 1 - (d-2)τ²/‖y‖²)·y; under `POOLED_BELOW` dimensions one factor
    max(0, 1 - Σ dτ²/Σ ‖y‖²) serves all clusters. A cluster whose count is under 2σ stays.
    """
    counts, sums = query.split(opened.values)
    centres = np.array(query.centres, dtype=np.float64)
    dimensions = centres.shape[1]
    count_sigma = opened.sigma * 2.0**query.scale_bits / query.count_scale
    sum_sigma = opened.sigma * 2.0**query.scale_bits / query.weights
    moving = counts >= 2 * count_sigma
    if not moving.any():
        return Step(centres, counts, count_sigma)
    offsets = sums[moving] / counts[moving, None]
    variance = (sum_sigma[moving] / counts[moving]) ** 2
    energy = (offsets**2).sum(axis=1)
    if dimensions < POOLED_BELOW:
        factor = np.array([1 - dimensions * variance.sum() / max(energy.sum(), 1e-12)])
    else:
        factor = 1 - (dimensions - 2) * variance / np.maximum(energy, 1e-12)
    centres[moving] += np.maximum(factor, 0)[:, None] * offsets
    return Step(np.clip(centres, 0, query.space.ceiling), counts, count_sigma)
