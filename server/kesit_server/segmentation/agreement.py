"""How far two labelings of the same weighted points agree."""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import FloatArray, IntArray


def squared_distances(points: FloatArray, centres: FloatArray) -> FloatArray:
    """‖p - c‖² of every pair, shape (m, k), in the square of the points' unit."""
    cross = points @ centres.T
    squares = (points**2).sum(axis=1)[:, None] - 2 * cross + (centres**2).sum(axis=1)
    found: FloatArray = np.maximum(squares, 0)  # rounding can leave less than nothing
    return found


def nearest(points: FloatArray, centres: FloatArray) -> IntArray:
    """Index of the nearest centre of each point, shape (m,)."""
    found: IntArray = squared_distances(points, centres).argmin(axis=1)
    return found


def contingency(
    first: IntArray, second: IntArray, weights: FloatArray, shape: tuple[int, int]
) -> FloatArray:
    """Weight of the points that one labeling calls a and the other b, at [a, b]."""
    cells = np.bincount(first * shape[1] + second, weights, shape[0] * shape[1])
    table: FloatArray = cells.reshape(shape).astype(np.float64)
    return table


def adjusted_rand(table: FloatArray) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985) of a table of weights.

    Pairs are counted by weight with replacement: Σ p_ab² takes the place of Σ C(n_ab, 2), its limit
    for many customers. 1: the same partition; 0: chance. Two partitions of one part each agree.
    """
    shares = table / table.sum()
    together = float((shares**2).sum())
    first = float((shares.sum(axis=1) ** 2).sum())
    second = float((shares.sum(axis=0) ** 2).sum())
    chance, top = first * second, (first + second) / 2
    return (together - chance) / (top - chance) if top - chance > 1e-12 else 1.0


def jaccard(table: FloatArray) -> tuple[FloatArray, IntArray]:
    """For each part of the first labeling, its like in the second: best similarity, and which.

    |A ∩ B| / |A ∪ B| by weight, both of shape (parts of the first,): how Hennig (2007, Cluster-wise
    assessment of cluster stability, CSDA 52) matches clusters. A part without weight has 0.
    """
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None] - table
    found: FloatArray = np.divide(table, union, out=np.zeros_like(table), where=union > 0)
    return found.max(axis=1), found.argmax(axis=1)
