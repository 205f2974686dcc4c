"""Synopses that can be drawn again with fresh noise, and segments that are found anew on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from kesit_privacy.features import FloatArray, IntArray
from kesit_server.agreement import nearest, squared_distances
from kesit_server.lloyd import cluster

DRAWS = 10
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


class Redrawable(Weighted, Protocol):
    """Weighted points made of noisy sums, which can be made again with fresh noise of the same σ.

    Redrawing is a parametric bootstrap: it adds noise to released sums, so it costs no privacy, and
    what changes between redraws is what the noise could have changed in the release.
    """

    def redrawn(self, rng: np.random.Generator) -> Redrawable:
        """The same synopsis from the released sums with fresh noise added."""


def redraw(
    synopsis: Redrawable, rng: np.random.Generator, draws: int = DRAWS
) -> tuple[Redrawable, ...]:
    """That many redraws of a synopsis, for all that is judged by them."""
    return tuple(synopsis.redrawn(rng) for _ in range(draws))


@dataclass(frozen=True)
class Points:
    """Points (m, dimensions) and weights (m,) as such."""

    points: FloatArray
    weights: FloatArray


def thinned(
    synopsis: Weighted, redraws: Sequence[Weighted], rng: np.random.Generator
) -> tuple[Weighted, tuple[Weighted, ...]]:
    """At most `MOST_POINTS` points of a synopsis, drawn by weight; its redraws on the same ones.

    A drawn point stands for as much weight as another; in a redraw for more or less of it, as its
    weight there is. Redraws with points of their own are thinned for themselves.
    """
    points, weights = synopsis.points, synopsis.weights
    if len(points) <= MOST_POINTS:
        return synopsis, tuple(redraws)
    copies = rng.multinomial(MOST_POINTS, weights / weights.sum())
    kept = copies > 0
    each = copies[kept] * (weights.sum() / MOST_POINTS)
    again: list[Weighted] = []
    for redraw in redraws:
        if np.array_equal(redraw.points, points):
            again.append(Points(points[kept], each * redraw.weights[kept] / weights[kept]))
        else:
            again.append(thinned(redraw, (), rng)[0])
    return Points(points[kept], each), tuple(again)


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
    """The best k-means of a redraw, shape (k, dimensions): restarts anew, and one from `centres`.

    Without the latter a start that is merely unlucky would count as noise that moves segments.
    """
    starts = (
        cluster(points, weights, len(centres), rng, restarts),
        moved(points, weights, centres),
    )
    return min(starts, key=lambda at: float(weights @ squared_distances(points, at).min(axis=1)))
