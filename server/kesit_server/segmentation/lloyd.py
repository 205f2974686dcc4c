"""k-means steps on noisy sums: weighted clustering of a synopsis, and the shrunk Lloyd step."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_server.segmentation.responses import nearest_of
from kesit_server.segmentation.synopsis import Synopsis
from kesit_server.sums import NoisySum

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
    found = _centres(model, points, weights)
    return found[np.arange(k) % len(found)]


def _centres(model: KMeans, points: FloatArray, weights: FloatArray) -> FloatArray:
    """Fitted on one thread: fits are small, and the result depends on no machine's threads."""
    with warnings.catch_warnings(), _threads().limit(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points, sample_weight=weights)
    found: FloatArray = model.cluster_centers_
    return found


@lru_cache(maxsize=1)
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


def cluster_query(
    synopsis: Synopsis, centres: FloatArray, quantile: float, count_share: int
) -> ClusterSums:
    """Counts of, and sums around, these centres, all with one radius: `radius_within`."""
    rounded = round_centres(centres, synopsis.space)
    radius = radius_within(synopsis, rounded, quantile)
    return ClusterSums(
        synopsis.space,
        whole_centres(rounded),
        (radius,) * len(rounded),
        synopsis.fill,
        count_share,
        SCALE_BITS,
    )


def radius_within(synopsis: Synopsis, centres: FloatArray, quantile: float) -> int:
    """A quantile of the synopsis' own distances to the nearest centre, so it is free; at least 1.

    In grid steps, rounded up.
    """
    _, distances = nearest_of(synopsis.points, centres)
    order = np.argsort(distances)
    mass = np.cumsum(synopsis.weights[order])
    place = int(np.searchsorted(mass, quantile * mass[-1]))
    return max(1, math.ceil(float(distances[order[place]])))


def whole_centres(centres: FloatArray) -> tuple[tuple[int, ...], ...]:
    """Rounded centres as a query's parameters."""
    return tuple(tuple(int(x) for x in centre) for centre in centres)


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
