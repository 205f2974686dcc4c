"""What the Lloyd-type baselines share: the nearest centre, sums by cluster, a start without data.

Su et al. and FastLloyd work in the box [-1, 1]^d: there a row's largest coordinate, and so the
sensitivity of a coordinate's sum under adding or removing a row, is 1.
"""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import FloatArray, IntArray

CHUNK_CELLS = 1 << 22
"""Distances held at once: 32 MiB."""

TRIES = 100
"""Random points that may fall too close before a packing radius counts as too large."""


def to_signed(rows: FloatArray) -> FloatArray:
    """From [0, 1] to [-1, 1]."""
    return 2 * rows - 1


def from_signed(rows: FloatArray) -> FloatArray:
    """From [-1, 1] to [0, 1]."""
    return (rows + 1) / 2


def nearest(rows: FloatArray, centres: FloatArray) -> tuple[IntArray, FloatArray]:
    """The nearest centre of each row (the first, where several are) and its squared distance.

    Args:
        rows: (n, d).
        centres: (k, d).

    Returns:
        Two arrays of shape (n,).
    """
    labels, squares = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    norms = (centres**2).sum(axis=1)
    size = max(1, CHUNK_CELLS // len(centres))
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        scores = norms[:, None] - 2 * centres @ chunk.T  # (k, rows): much the faster way round
        labels[start : start + size] = scores.argmin(axis=0)
        squares[start : start + size] = scores.min(axis=0) + np.einsum("nd,nd->n", chunk, chunk)
    return labels, np.maximum(squares, 0)


def cluster_sums(rows: FloatArray, labels: IntArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Sums (k, d) and numbers (k,) of the rows of each cluster."""
    counts = np.bincount(labels, minlength=k).astype(np.float64)
    sums = [np.bincount(labels, weights=column, minlength=k) for column in rows.T]
    return np.stack(sums, axis=1), counts


def sphere_packing(
    k: int, dimensions: int, rng: np.random.Generator, bisections: int
) -> FloatArray:
    """Centres in [-1, 1]^d, 2a or more apart and a or more from the border; sees no data.

    Su et al. (2016), the initialisation of their improved DPLloyd: points are drawn one by one; a
    radius a at which 100 points in a row are refused is too large. a is halved from 1 until k
    centres fit; then the interval between the last failure and the last success is bisected.

    Args:
        bisections: how often; the paper searches by bisection for the largest a, the code of
            FastLloyd and diffprivlib only halves (0).

    Returns:
        Centres of shape (k, dimensions).
    """
    failed, radius = 2.0, 1.0
    found = _packed(k, dimensions, radius, rng)
    while found is None:
        failed, radius = radius, radius / 2
        found = _packed(k, dimensions, radius, rng)
    for _ in range(bisections):
        middle = (radius + min(failed, 1.0)) / 2
        better = _packed(k, dimensions, middle, rng)
        if better is None:
            failed = middle
        else:
            found, radius = better, middle
    return found


def _packed(k: int, dimensions: int, radius: float, rng: np.random.Generator) -> FloatArray | None:
    centres = np.empty((k, dimensions))
    for place in range(k):
        # The tries of one centre are drawn together; the first that fits is taken.
        drawn = rng.uniform(radius - 1, 1 - radius, (TRIES, dimensions))
        offsets = drawn[:, None, :] - centres[None, :place]
        apart = ((offsets**2).sum(axis=2) >= (2 * radius) ** 2).all(axis=1)
        if not apart.any():
            return None
        centres[place] = drawn[int(apart.argmax())]
    return centres
