"""Label histograms: for each feature, how many training customers of each class lie in each cell.

One sum tells a classifier the size of the federation, the balance of the classes, and the shape of
every feature; nothing else tells it any of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.cells import MAX_BINS, cell_of, cells_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.parameters import refuse, take, whole, whole_tuple
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.queries.clusters import FINEST_COUNT
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target

WEIGHT_BITS = 14
WEIGHT = 1 << WEIGHT_BITS
"""Amplitude 1 of a feature: the features' weights together are a vector of this length at most."""


@dataclass(frozen=True)
class LabelHistograms(Query):
    """Cells times classes of each feature, in one vector, each feature with a weight w_k.

    Laid out feature by feature; a feature's part is (cells, classes), row by row. A training row
    with class y adds w_k·2^(b-14) at [its cell, y] of each feature k; a row that is held out, or
    whose class is unknown, adds nothing.

    Δ = √Σ w_k²·2^(b-14): the row touches exactly one coordinate of each feature's part. Weights
    shift precision between features at no cost, because Σ w_k² alone is charged.
    """

    name: ClassVar[str] = "label-histograms"
    version: ClassVar[int] = 1

    space: Embedding
    target: Target
    side: Side
    bins: int
    weights: tuple[int, ...]
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space = Embedding.of(study)
        held, bins, weights = take(params, "held", "bins", "weights")
        query = cls(
            space,
            Target.of(study),
            Side.read(held, inside=False),
            whole(bins, 2, MAX_BINS, "bins"),
            read_weights(weights, len(space.features)),
            scale_bits,
        )
        if query.length > MAX_LENGTH:
            raise refuse("the histograms have too many cells")
        finest = min(query.weights) << scale_bits
        if scale_bits < WEIGHT_BITS or finest < (FINEST_COUNT << WEIGHT_BITS):
            raise refuse("the lattice is too coarse")
        return query

    def params(self) -> dict[str, Any]:
        return {"held": self.side.params(), "bins": self.bins, "weights": list(self.weights)}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of cells of each feature."""
        return tuple(cells_of(feature, self.bins) for feature in self.space.features)

    @property
    def length(self) -> int:
        return sum(self.sizes) * len(self.target.classes)

    @property
    def delta_sq(self) -> int:
        return sum(weight * weight for weight in self.weights) << (
            2 * (self.scale_bits - WEIGHT_BITS)
        )

    @cached_property
    def amplitudes(self) -> FloatArray:
        """Natural units that a customer adds to a cell, for each feature."""
        return np.array(self.weights) / WEIGHT

    def split(self, values: FloatArray) -> list[FloatArray]:
        """Customers by cell and class of each feature, (cells, classes), of a sum."""
        ends = np.cumsum(self.sizes) * len(self.target.classes)
        return [
            part.reshape(-1, len(self.target.classes)) / amplitude
            for part, amplitude in zip(np.split(values, ends[:-1]), self.amplitudes, strict=True)
        ]

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        rows, labels = self.side.counted(codes, self.target)
        classes = len(self.target.classes)
        found = [
            weight
            * np.bincount(
                cell_of(feature, rows[:, column], self.bins) * classes + labels,
                minlength=size * classes,
            )
            for feature, column, size, weight in zip(
                self.space.features, self.space.columns, self.sizes, self.weights, strict=True
            )
        ]
        return np.concatenate(found).astype(np.int64) << (self.scale_bits - WEIGHT_BITS)


def read_weights(value: Any, features: int) -> tuple[int, ...]:
    """Weights of the features from a query's parameters.

    Raises:
        ProtocolError: not one for each, or together longer than 1.
    """
    weights = whole_tuple(value, features, 1, WEIGHT, "weights")
    if sum(weight * weight for weight in weights) > WEIGHT * WEIGHT:
        raise refuse("the weights are longer than 1")
    return weights
