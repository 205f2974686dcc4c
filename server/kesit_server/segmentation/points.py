"""Weighted points, and k-means on them from centres that are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from kesit_privacy.features import FloatArray, IntArray
from kesit_server.segmentation.agreement import nearest, squared_distances
from kesit_server.segmentation.lloyd import cluster

ITERATIONS = 10

MOST_POINTS = 1000
"""Points that take part in what costs time: a larger synopsis is drawn from by weight."""


class Weighted(Protocol):
    """Weighted points."""

    @property
    def points(self) -> FloatArray:
        """Shape (m, dimensions), in grid steps."""

    @property
    def weights(self) -> FloatArray:
        """Shape (m,), above 0: noisy numbers of customers."""


@dataclass(frozen=True)
class Points:
    """Points (m, dimensions) and weights (m,) as such."""

    points: FloatArray
    weights: FloatArray


def thinned(synopsis: Weighted, rng: np.random.Generator) -> Weighted:
    """At most `MOST_POINTS` points of a synopsis, drawn by weight; each drawn one weighs alike."""
    points, weights = synopsis.points, synopsis.weights
    if len(points) <= MOST_POINTS:
        return synopsis
    copies = rng.multinomial(MOST_POINTS, weights / weights.sum())
    kept = copies > 0
    return Points(points[kept], copies[kept] * (weights.sum() / MOST_POINTS))


def weighted_means(
    points: FloatArray, weights: FloatArray, labels: IntArray, otherwise: FloatArray
) -> FloatArray:
    """Weighted mean of each label's points, shape (k, dimensions); without points: `otherwise`."""
    belongs = csr_array(
        (weights, labels, np.arange(len(points) + 1)), shape=(len(points), len(otherwise))
    )
    sums, mass = belongs.T @ points, np.bincount(labels, weights, len(otherwise))[:, None]
    found: FloatArray = np.divide(sums, mass, out=otherwise.copy(), where=mass > 0)
    return found


def moved(points: FloatArray, weights: FloatArray, centres: FloatArray) -> FloatArray:
    """Where a few of Lloyd's iterations lead from these centres, shape (k, dimensions)."""
    for _ in range(ITERATIONS):
        centres = weighted_means(points, weights, nearest(points, centres), centres)
    return centres


def found_anew(
    points: FloatArray,
    weights: FloatArray,
    centres: FloatArray,
    rng: np.random.Generator,
    restarts: int,
) -> FloatArray:
    """The best k-means of a synopsis, shape (k, dimensions): restarts anew, and one from `centres`.

    Without the latter a start that is merely unlucky would count as noise that moves segments.
    """
    starts = (
        cluster(points, weights, len(centres), rng, restarts),
        moved(points, weights, centres),
    )
    return min(starts, key=lambda at: float(weights @ squared_distances(points, at).min(axis=1)))
