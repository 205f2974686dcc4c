"""Histograms: one cell for each feature (marginals), or one joint cell for a few (grid).

Cells of a numeric feature are even parts of its public range plus one for missing values; cells of
a categorical feature are its codes. So every row lies in exactly one cell of every histogram.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.cells import MAX_BINS, cell_of, cells_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.parameters import refuse, take, whole, whole_tuple
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.study import Study


@dataclass(frozen=True)
class Marginals(Query):
    """One histogram a segmentation feature, all in one vector.

    Δ = √d for d features: a row adds 1 to exactly one cell of each of the d histograms (bad and
    missing values have a cell too), so ‖f(row)‖² = d for every row, and the supremum is attained.
    """

    name: ClassVar[str] = "marginals"
    version: ClassVar[int] = 1

    space: Embedding
    bins: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        (bins,) = take(params, "bins")
        query = cls(Embedding.of(study), whole(bins, 2, MAX_BINS, "bins"), scale_bits)
        if query.length > MAX_LENGTH:
            raise refuse("the histograms have too many cells")
        return query

    def params(self) -> dict[str, Any]:
        return {"bins": self.bins}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of cells of each feature's histogram."""
        return tuple(cells_of(feature, self.bins) for feature in self.space.features)

    @property
    def length(self) -> int:
        return sum(self.sizes)

    @property
    def delta_sq(self) -> int:
        return len(self.space.features) << (2 * self.scale_bits)

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        parts = [
            np.bincount(cell_of(feature, codes[:, column], self.bins), minlength=size)
            for feature, column, size in zip(
                self.space.features, self.space.columns, self.sizes, strict=True
            )
        ]
        return np.concatenate(parts).astype(np.int64) << self.scale_bits


@dataclass(frozen=True)
class Grid(Query):
    """One joint histogram over all segmentation features (few, numeric).

    Δ = 1: the joint cells partition all rows, missing values included, so a row adds 1 to exactly
    one cell.
    """

    name: ClassVar[str] = "grid"
    version: ClassVar[int] = 1

    space: Embedding
    bins: tuple[int, ...]
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space = Embedding.of(study)
        (given,) = take(params, "bins")
        bins = whole_tuple(given, len(space.features), 1, MAX_BINS, "bins")
        query = cls(space, bins, scale_bits)
        if query.length > MAX_LENGTH:
            raise refuse("the grid has too many cells")
        return query

    def params(self) -> dict[str, Any]:
        return {"bins": list(self.bins)}

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each feature, its missing cell last."""
        return tuple(
            cells_of(feature, bins)
            for feature, bins in zip(self.space.features, self.bins, strict=True)
        )

    @property
    def length(self) -> int:
        return math.prod(self.shape)

    @property
    def delta_sq(self) -> int:
        return 1 << (2 * self.scale_bits)

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        flat = np.zeros(len(codes), dtype=np.int64)
        for feature, column, bins, size in zip(
            self.space.features, self.space.columns, self.bins, self.shape, strict=True
        ):
            flat = flat * size + cell_of(feature, codes[:, column], bins)
        return np.bincount(flat, minlength=self.length).astype(np.int64) << self.scale_bits
