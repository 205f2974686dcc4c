"""A synopsis of many features: noisy marginals, then levels of a codebook, each placed by the last.

Synthetic customers are drawn from the marginals. A level clusters them into cells, asks for one
noisy sum of counts and offsets, moves the synthetic customers with their cells and weighs them so
that they explain every sum so far (`maxent`). Between levels they are drawn anew by weight, with
some jitter, so that the next cells are small where customers are many.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import (
    GRID,
    MISSING_NUMERIC,
    Categorical,
    CodeArray,
    Feature,
    FloatArray,
    IntArray,
    Numeric,
)
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums, Marginals
from kesit_privacy.queries.base import MAX_LENGTH
from kesit_server.segmentation.lloyd import cluster, cluster_query, shrunk_step
from kesit_server.segmentation.maxent import Fit
from kesit_server.segmentation.responses import nearest_of, responses
from kesit_server.segmentation.synopsis import Released, Synopsis, mean_position
from kesit_server.sums import NoisySum, Sums

MARGINAL_BINS = 8
SYNTHETIC_CUSTOMERS = 4000
CELLS, MAX_CELLS = 0.6, 250
COUNT_SHARE = 30
RADIUS_QUANTILE = 0.9
JITTER = 0.3
"""How far copies of a synthetic customer spread before the next level, in radii of its cell."""


def from_marginals(federation: Sums, space: Embedding, rng: np.random.Generator) -> Synopsis:
    """The synopsis after the marginals and all levels of the study's plan."""
    synopsis = _draw(federation, space, rng)
    query = None
    for step in recipes.levels(federation.study):
        if query is not None:
            synopsis = _scattered(synopsis, query, rng)
        query = _cells(federation, step, synopsis, rng)
        synopsis = learn(synopsis, query, federation.sum(step, query))
    return synopsis


def learn(synopsis: Synopsis, query: ClusterSums, opened: NoisySum) -> Synopsis:
    """The synopsis after one more sum: customers move with their cells and are weighed anew."""
    moves = shrunk_step(query, opened).centres - np.array(query.centres)
    nearest, _ = nearest_of(synopsis.points, np.array(query.centres, dtype=np.float64))
    codes = _shifted(synopsis, moves[nearest])
    released = (*synopsis.released, Released.of(query, opened))
    fit = Fit(
        [responses(one.query, codes) for one in released],
        [one.sigma for one in released],
        synopsis.weights.sum(),
    )
    weights = fit.weights([one.values for one in released])
    return replace(synopsis, codes=codes, weights=weights, released=released)


def _cells(
    federation: Sums, step: str, synopsis: Synopsis, rng: np.random.Generator
) -> ClusterSums:
    """The next level's query: as many cells as its noise can tell apart."""
    study = federation.study
    sigma = federation.noise_ahead(step, 1.0)
    wanted = CELLS * study.declared_customers / (sigma * math.sqrt(synopsis.space.dimensions))
    fitting = MAX_LENGTH // (1 + synopsis.space.dimensions)
    size = min(round(np.clip(wanted, study.segmenting.k, MAX_CELLS)), fitting)
    centres = cluster(synopsis.points, synopsis.weights, size, rng, restarts=1)
    return cluster_query(synopsis, centres, RADIUS_QUANTILE, COUNT_SHARE)


def _draw(federation: Sums, space: Embedding, rng: np.random.Generator) -> Synopsis:
    """Customers with independent features, from marginals whose cells under 2σ count as empty."""
    query = Marginals(space, MARGINAL_BINS, SCALE_BITS)
    opened = federation.sum("marginals", query)
    codes = np.zeros((SYNTHETIC_CUSTOMERS, len(federation.study.features)), dtype=np.int16)
    fill, totals = [], []
    parts = np.split(opened.values, np.cumsum(query.sizes)[:-1])
    for feature, column, noisy in zip(space.features, space.columns, parts, strict=True):
        counts = np.where(noisy < 2 * opened.sigma, 0, noisy)
        totals.append(noisy.sum())
        shares = counts / counts.sum() if counts.any() else np.full(len(counts), 1 / len(counts))
        drawn = rng.choice(len(counts), len(codes), p=shares)
        codes[:, column] = _codes_in(feature, drawn, rng)
        middles = (np.arange(MARGINAL_BINS) + 0.5) * GRID / MARGINAL_BINS
        numeric = isinstance(feature, Numeric)
        fill.append(mean_position(middles, counts[:-1]) if numeric else 0)
    total = max(1.0, float(np.mean(totals)))
    weights = np.full(len(codes), total / len(codes))
    released = (Released.of(query, opened),)
    return Synopsis(space, codes, weights, tuple(fill), released)


def _codes_in(feature: Feature, cells: IntArray, rng: np.random.Generator) -> CodeArray:
    """A code in each of these cells of the feature's histogram; anywhere in it, if numeric."""
    if isinstance(feature, Categorical):
        return cells.astype(np.int16)
    inside = (cells + rng.random(len(cells))) * GRID / MARGINAL_BINS
    return np.where(cells == MARGINAL_BINS, MISSING_NUMERIC, inside).astype(np.int16)


def _shifted(synopsis: Synopsis, moves: FloatArray) -> CodeArray:
    """Codes after each customer's numeric coordinates moved; levels and missing values stay."""
    codes = synopsis.codes.copy()
    space = synopsis.space
    for feature, column, offset in zip(space.features, space.columns, space.offsets, strict=False):
        if isinstance(feature, Numeric):
            old = codes[:, column].astype(np.float64)
            new = np.rint(np.clip(old + moves[:, offset], 0, GRID))
            codes[:, column] = np.where(old < 0, MISSING_NUMERIC, new)
    return codes


def _scattered(synopsis: Synopsis, query: ClusterSums, rng: np.random.Generator) -> Synopsis:
    """As many customers, drawn by weight and spread a little within the cells of `query`."""
    chosen = rng.choice(
        len(synopsis.codes), len(synopsis.codes), p=synopsis.weights / synopsis.weights.sum()
    )
    flat = np.full(len(chosen), synopsis.weights.sum() / len(chosen))
    drawn = replace(synopsis, codes=synopsis.codes[chosen], weights=flat)
    spread = JITTER * query.radii[0] / math.sqrt(synopsis.space.dimensions)
    return replace(drawn, codes=_shifted(drawn, spread * rng.standard_normal(drawn.points.shape)))
