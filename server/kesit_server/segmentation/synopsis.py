"""A private synopsis: weighted synthetic customers, made of noisy sums alone.

Everything made from it is post-processing and costs nothing: radii, the choice of k, hierarchies,
the picture of how stable a segment is. Up to three numeric features start from one joint noisy
grid (here); more, or any categorical one, from noisy marginals and levels of a codebook, which a
maximum-entropy fit brings together (`codebook`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, MISSING_NUMERIC, CodeArray, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import Grid, Query
from kesit_server.sums import NoisySum, Sums

MAX_GRID_CELLS = 3000


@dataclass(frozen=True)
class Released:
    """A query and the noisy sum that answered it, in natural units."""

    query: Query
    values: FloatArray
    sigma: float
    step: str = ""

    @classmethod
    def of(cls, query: Query, opened: NoisySum) -> Released:
        """What `opened` released."""
        return cls(query, opened.values, opened.sigma, opened.step)


@dataclass(frozen=True)
class Synopsis:
    """Synthetic customers that stand for the real ones.

    Attributes:
        codes: (m, features of the study), as a client codes its rows.
        weights: (m,) noisy numbers of customers, each above 0.
        fill: where a missing number stands, for each feature of the embedding.
        released: every sum of the study so far.
    """

    space: Embedding
    codes: CodeArray
    weights: FloatArray
    fill: tuple[int, ...]
    released: tuple[Released, ...]

    @cached_property
    def points(self) -> FloatArray:
        """Coordinates of the synthetic customers, shape (m, dimensions), in grid steps."""
        return self.space.expand(self.codes, self.fill)

    def beside(self, released: Released) -> Synopsis:
        """The same customers, and one sum more that was released of the real ones."""
        return replace(self, released=(*self.released, released))


def from_grid(federation: Sums, space: Embedding) -> Synopsis:
    """One synthetic customer for each cell of a joint noisy histogram, with the cell's count."""
    sigma = federation.noise_ahead("grid", 1.0)
    customers = federation.study.declared_customers
    cells = min(MAX_GRID_CELLS, max(8.0, 1.2 * customers / sigma))
    dimensions = len(space.features)
    query = Grid(space, (max(2, math.floor(cells ** (1 / dimensions))),) * dimensions, SCALE_BITS)
    features = len(federation.study.features)
    return _of_cells(query, features, Released.of(query, federation.sum("grid", query)))


def _of_cells(query: Grid, features: int, grid: Released) -> Synopsis:
    """Cells in their middles, with their counts less 1σ (floored at 0).

    A missing value has a cell of its own on each axis; it stands at the feature's noisy mean.
    """
    space = query.space
    counts = np.maximum(grid.values - grid.sigma, 0)
    if not counts.any():  # nothing rose above the noise: every cell counts alike
        counts = np.ones(query.length)
    joint = counts.reshape(query.shape)
    fill, axes = [], []
    for axis, width in enumerate(query.bins):
        middles = np.rint((np.arange(width) + 0.5) * GRID / width)
        others = tuple(other for other in range(len(query.bins)) if other != axis)
        fill.append(mean_position(middles, joint.sum(axis=others)[:width]))
        axes.append(np.append(middles, MISSING_NUMERIC))
    codes = np.zeros((query.length, features), dtype=np.int16)
    for column, mesh in zip(space.columns, np.meshgrid(*axes, indexing="ij"), strict=True):
        codes[:, column] = mesh.ravel()
    alive = counts > 0
    return Synopsis(space, codes[alive], counts[alive], tuple(fill), (grid,))


def mean_position(middles: FloatArray, counts: FloatArray) -> int:
    """Mean of a histogram, in grid steps; the middle of the range if nothing is above the noise."""
    total = float(counts.sum())
    return round(float((middles * counts).sum()) / total) if total > 0 else GRID // 2
