"""What each synthetic customer would add to a sum, as one sparse matrix.

The same row functions as the members' queries, in float64: a synthetic customer answers as a real
one would, so a released sum can be compared with a synopsis coordinate by coordinate.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np
from scipy.sparse import csr_array

from kesit_privacy.cells import cell_of
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.queries import ClusterSums, Grid, Marginals, Query


@singledispatch
def responses(query: Query, codes: CodeArray) -> csr_array:
    """f(row) of each row, shape (rows, query.length), in natural units."""
    raise TypeError(f"{query.name} has no responses")


@responses.register
def _marginals(query: Marginals, codes: CodeArray) -> csr_array:
    first = np.cumsum([0, *query.sizes[:-1]])
    cells = [
        cell_of(feature, codes[:, column], query.bins) + start
        for feature, column, start in zip(
            query.space.features, query.space.columns, first, strict=True
        )
    ]
    return _rows(np.stack(cells, axis=1), np.ones((len(codes), len(cells))), query.length)


@responses.register
def _grid(query: Grid, codes: CodeArray) -> csr_array:
    cells = [
        cell_of(feature, codes[:, column], bins)
        for feature, column, bins in zip(
            query.space.features, query.space.columns, query.bins, strict=True
        )
    ]
    flat = np.ravel_multi_index(cells, query.shape)
    return _rows(flat[:, None], np.ones((len(codes), 1)), query.length)


@responses.register
def _cluster_sums(query: ClusterSums, codes: CodeArray) -> csr_array:
    k, dimensions = len(query.centres), query.space.dimensions
    centres = np.array(query.centres, dtype=np.float64)
    points = query.space.expand(codes, query.fill)
    nearest, distance = nearest_of(points, centres)
    radius = np.array(query.radii, dtype=np.float64)[nearest]
    offsets = (points - centres[nearest]) * np.minimum(1, radius / np.maximum(distance, 1))[:, None]
    unit = 2.0**query.scale_bits
    values = np.empty((len(points), 1 + dimensions))
    values[:, 0] = query.count_scale / unit
    values[:, 1:] = offsets * (query.weights[nearest] / unit)[:, None]
    places = np.empty(values.shape, dtype=np.int64)
    places[:, 0] = nearest
    places[:, 1:] = k + nearest[:, None] * dimensions + np.arange(dimensions)
    return _rows(places, values, query.length)


def nearest_of(points: FloatArray, centres: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of, and distance to, the nearest centre of each point, both (n,)."""
    scores = (centres**2).sum(axis=1) - 2 * points @ centres.T
    nearest = scores.argmin(axis=1)
    squared = (points**2).sum(axis=1) + scores[np.arange(len(points)), nearest]
    return nearest, np.sqrt(np.maximum(squared, 0))


def _rows(places: IntArray, values: FloatArray, length: int) -> csr_array:
    """A sparse matrix with as many entries in each row."""
    rows, entries = values.shape
    starts = np.arange(0, rows * entries + 1, entries)
    return csr_array((values.ravel(), places.ravel(), starts), shape=(rows, length))
