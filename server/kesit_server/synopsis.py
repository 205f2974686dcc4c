"""A private synopsis: weighted points that stand for the customers, made of noisy sums alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import GRID, Categorical, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums, Grid, Marginals
from kesit_server.federation import Federation
from kesit_server.lloyd import cluster, round_centres, shrunk_step

MARGINAL_BINS = 32
SYNTHETIC_POINTS = 4000
MAX_GRID_CELLS = 3000
MAX_CODEBOOK = 250
CODEBOOK_COUNT_SHARE = 30


@dataclass(frozen=True)
class Synopsis:
    """Points (m, dimensions) in grid steps, their weights (m,), and where missing numbers stand."""

    points: FloatArray
    weights: FloatArray
    fill: tuple[int, ...]


def from_grid(federation: Federation, space: Embedding) -> Synopsis:
    """Cell centres of one joint noisy histogram, each with its count less one σ (floored at 0).

    A missing value has a cell of its own on each axis; it stands at the feature's noisy mean.
    """
    dimensions = len(space.features)
    sigma = federation.noise_ahead("grid", 1.0)
    customers = federation.study.declared_customers
    cells = min(MAX_GRID_CELLS, max(8.0, 1.2 * customers / sigma))
    bins = (max(2, math.floor(cells ** (1 / dimensions))),) * dimensions
    query = Grid(space, bins, SCALE_BITS)
    opened = federation.sum("grid", query)
    counts = np.maximum(opened.values - opened.sigma, 0).reshape(query.shape)
    fill, axes = [], []
    for axis, width in enumerate(bins):
        middles = (np.arange(width) + 0.5) * GRID / width
        others = tuple(other for other in range(dimensions) if other != axis)
        mean = _mean(middles, counts.sum(axis=others)[:width])
        fill.append(round(mean))
        axes.append(np.append(middles, mean))
    points = np.stack([mesh.ravel() for mesh in np.meshgrid(*axes, indexing="ij")], axis=1)
    return _kept(points, counts.ravel(), tuple(fill))


def from_marginals(federation: Federation, space: Embedding, rng: np.random.Generator) -> Synopsis:
    """A codebook around points drawn from noisy marginals, moved and weighed by one noisy sum."""
    points, fill = _draw(federation, space, rng)
    sigma = federation.noise_ahead("cells", 1.0)
    customers = federation.study.declared_customers
    wanted = 0.6 * customers / (sigma * math.sqrt(space.dimensions))
    size = round(np.clip(wanted, federation.study.segmentation.k, MAX_CODEBOOK))
    codebook = round_centres(cluster(points, np.ones(len(points)), size, rng, restarts=1), space)
    nearest = np.sqrt(((points[:, None, :] - codebook[None]) ** 2).sum(axis=2).min(axis=1))
    radius = max(1, math.ceil(np.quantile(nearest, 0.9)))
    query = ClusterSums(
        space,
        tuple(tuple(int(x) for x in centre) for centre in codebook),
        (radius,) * len(codebook),
        fill,
        CODEBOOK_COUNT_SHARE,
        SCALE_BITS,
    )
    moved = shrunk_step(query, federation.sum("cells", query))
    alive = moved.counts >= 2 * moved.count_sigma
    return _kept(moved.centres[alive], moved.counts[alive], fill)


def _draw(
    federation: Federation, space: Embedding, rng: np.random.Generator
) -> tuple[FloatArray, tuple[int, ...]]:
    """Points with independent coordinates, from noisy marginals with cells under 2σ zeroed."""
    query = Marginals(space, MARGINAL_BINS, SCALE_BITS)
    opened = federation.sum("marginals", query)
    ends = np.cumsum(query.sizes)[:-1]
    points = np.zeros((SYNTHETIC_POINTS, space.dimensions))
    fill = []
    for feature, offset, counts in zip(
        space.features, space.offsets, np.split(opened.values, ends), strict=False
    ):
        counts = np.where(counts < 2 * opened.sigma, 0, counts)
        if isinstance(feature, Categorical):
            shares = (
                counts / counts.sum() if counts.any() else np.full(len(counts), 1 / len(counts))
            )
            drawn = rng.choice(len(counts), SYNTHETIC_POINTS, p=shares)
            points[np.arange(SYNTHETIC_POINTS), offset + drawn] = ONE_HOT
            fill.append(0)
            continue
        inside, missing = counts[:-1], counts[-1]
        middles = (np.arange(MARGINAL_BINS) + 0.5) * GRID / MARGINAL_BINS
        mean = _mean(middles, inside)
        fill.append(round(mean))
        shares = np.append(inside, missing)
        shares = shares / shares.sum() if shares.any() else np.full(len(shares), 1 / len(shares))
        drawn = rng.choice(len(shares), SYNTHETIC_POINTS, p=shares)
        jitter = (rng.random(SYNTHETIC_POINTS) - 0.5) * GRID / MARGINAL_BINS
        at_cell = np.append(middles, mean)[drawn]
        points[:, offset] = at_cell + np.where(drawn < MARGINAL_BINS, jitter, 0)
    return points, tuple(fill)


def _mean(middles: FloatArray, counts: FloatArray) -> float:
    """Mean position of a noisy histogram; the middle of the range if nothing is above the noise."""
    total = float(counts.sum())
    return float((middles * counts).sum() / total) if total > 0 else GRID / 2


def _kept(points: FloatArray, weights: FloatArray, fill: tuple[int, ...]) -> Synopsis:
    if not (weights > 0).any():  # nothing rose above the noise: every point counts alike
        weights = np.ones(len(points))
    alive = weights > 0
    return Synopsis(points[alive], weights[alive], fill)
