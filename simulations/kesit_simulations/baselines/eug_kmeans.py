"""EUGkM: one noisy grid, then k-means on its cells (Su et al., CODASPY 2016; see `dp_lloyd`).

From the paper: the number of cells M = (n·ε/10)^(2d/(2+d)) in a cubic grid (n is public), Laplace
noise of scale 1/ε on each cell's count, k-means on the cells' centres weighted by those counts.
Chosen here, as the paper's text leaves it open: a side is M^(1/d) rounded to a whole number; counts
keep their sign (the paper's error analysis assumes unbiased counts, and a floor at 0 would fill
empty space with customers); five starts by sphere packing and five by k-means++ on the positive
counts, of which the one goes on whose loss, estimated on the noisy grid, is least after five steps;
a cluster whose mass is below 1 stays.

It suits few dimensions: at d = 64 the rule gives a grid of one cell, which draws one centre to its
middle and tells the others nothing.
"""

from __future__ import annotations

import math

import numpy as np

from kesit_privacy.features import FloatArray, IntArray
from kesit_simulations.baselines.lloyd import from_signed, nearest, sphere_packing, to_signed
from kesit_simulations.baselines.problem import Problem
from kesit_simulations.errors import SimulationError

THETA = 10
RESTARTS = 10
FIRST_STEPS, MAX_STEPS = 5, 30
TOLERANCE = 1e-3
"""Steps end when no coordinate moves further: with signed weights they need not settle."""

MAX_CELLS = 1 << 20
STREAM = 4


def side(rows: int, dimensions: int, epsilon: float) -> int:
    """Cells along one coordinate, at least 1."""
    return max(1, round(math.pow(rows * epsilon / THETA, 2 / (2 + dimensions))))


def eugkm(problem: Problem) -> FloatArray:
    """EUGkM on all rows; centres (k, d).

    Raises:
        SimulationError: the grid has more than `MAX_CELLS` cells.
    """
    width = side(len(problem.rows), problem.dimensions, problem.epsilon)
    if width**problem.dimensions > MAX_CELLS:
        raise SimulationError(
            f"EUGkM's grid would have {width}^{problem.dimensions} cells, more than {MAX_CELLS:,}.",
            remedy="Use it for fewer dimensions, fewer customers or a smaller epsilon.",
        )
    rng = problem.generator(STREAM)
    counts = noisy_grid(problem.rows, width, problem.epsilon, rng)
    places = np.arange(len(counts))[:, None] // strides(width, problem.dimensions) % width
    cells = to_signed((places + 0.5) / width)
    best, lowest = np.empty(0), np.inf
    for turn in range(RESTARTS):
        if turn % 2:
            start = spread_out(cells, counts, problem.k, rng)
        else:
            start = sphere_packing(problem.k, problem.dimensions, rng, bisections=0)
        centres = signed_lloyd(cells, counts, start, FIRST_STEPS)
        loss = float(nearest(cells, centres)[1] @ counts)
        if loss < lowest:
            best, lowest = centres, loss
    return from_signed(signed_lloyd(cells, counts, best, MAX_STEPS))


def strides(width: int, dimensions: int) -> IntArray:
    """How far apart in the list of cells neighbours along each coordinate are, shape (d,)."""
    return np.array([width**place for place in reversed(range(dimensions))], dtype=np.int64)


def noisy_grid(
    rows: FloatArray, width: int, epsilon: float, rng: np.random.Generator
) -> FloatArray:
    """Noisy counts of the cells of [0, 1]^d, shape (width^d,), the last coordinate fastest."""
    places = np.minimum((rows * width).astype(np.int64), width - 1)
    flat = places @ strides(width, rows.shape[1])
    counts = np.bincount(flat, minlength=width ** rows.shape[1])
    return counts + rng.laplace(0, 1 / epsilon, len(counts))


def spread_out(
    points: FloatArray, weights: FloatArray, k: int, rng: np.random.Generator
) -> FloatArray:
    """scikit-learn's k-means++ by positive weights, shape (k, d); where too few, centres repeat."""
    from sklearn.cluster import kmeans_plusplus  # imported on first use: it takes a second

    alive = weights > 0
    if not alive.any():  # nothing rose above the noise
        alive, weights = np.ones(len(points), dtype=bool), np.ones(len(points))
    seed = int(rng.integers(1 << 31))
    count = min(k, int(alive.sum()))
    chosen = kmeans_plusplus(points[alive], count, sample_weight=weights[alive], random_state=seed)
    centres: FloatArray = chosen[0][np.arange(k) % count]
    return centres


def signed_lloyd(
    points: FloatArray, weights: FloatArray, centres: FloatArray, steps: int
) -> FloatArray:
    """Lloyd's steps on points whose weights may be negative, inside the box [-1, 1]^d."""
    weighted = np.ascontiguousarray((weights[:, None] * points).T)
    for _ in range(steps):
        labels, _ = nearest(points, centres)
        mass = np.bincount(labels, weights=weights, minlength=len(centres))
        columns = [np.bincount(labels, weights=one, minlength=len(centres)) for one in weighted]
        moving = mass >= 1
        moved = centres.copy()
        moved[moving] = np.clip(np.stack(columns, axis=1)[moving] / mass[moving, None], -1, 1)
        furthest = float(np.abs(moved - centres).max())
        centres = moved
        if furthest <= TOLERANCE:
            break
    return centres
