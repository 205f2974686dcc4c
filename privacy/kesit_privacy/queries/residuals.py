"""Residual sums: what a model gets wrong, cell by cell of every feature, in one vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.cells import MAX_BINS, cell_of, cells_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.models import Model, read_model
from kesit_privacy.parameters import refuse, take, whole
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.queries.labels import WEIGHT, WEIGHT_BITS, read_weights
from kesit_privacy.scorecard import CHANCE, CHANCE_BITS
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target


@dataclass(frozen=True)
class ResidualSums(Query):
    """Sums of y - p over the training rows of each cell, each feature with a weight w_k.

    Laid out feature by feature; a feature's part is (cells, logits), row by row. y is 1 for the
    row's class and 0 for others, p the model's chance, both in units of 2^-14; of two classes only
    the second is summed.

    Δ = √(Σ w_k²·s)·2^(b-14), s = 1 for two classes: |y - p| <= 1; s = 2 for more: with the row's
    class at 1 - p_y and the others at -p_c, Σ (y - p)² <= (1 - p_y)² + (Σ p_c)² <= 2, for chances
    are at least 0 and add up to 1 at most (each is rounded down). The row touches one cell of each
    feature.
    """

    name: ClassVar[str] = "residual-sums"
    version: ClassVar[int] = 1

    space: Embedding
    target: Target
    side: Side
    model: Model
    bins: int
    weights: tuple[int, ...]
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space, target = Embedding.of(study), Target.of(study)
        held, model, bins, weights = take(params, "held", "model", "bins", "weights")
        query = cls(
            space,
            target,
            Side.read(held, inside=False),
            read_model(space, target.logits, model),
            whole(bins, 2, MAX_BINS, "bins"),
            read_weights(weights, len(space.features)),
            scale_bits,
        )
        if query.length > MAX_LENGTH:
            raise refuse("the model has too many cells")
        if scale_bits < WEIGHT_BITS + CHANCE_BITS:
            raise refuse("the lattice is too coarse")
        return query

    def params(self) -> dict[str, Any]:
        return {
            "held": self.side.params(),
            "model": self.model.params(),
            "bins": self.bins,
            "weights": list(self.weights),
        }

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of cells of each feature."""
        return tuple(cells_of(feature, self.bins) for feature in self.space.features)

    @property
    def length(self) -> int:
        return sum(self.sizes) * self.target.logits

    @property
    def delta_sq(self) -> int:
        spread = 1 if self.target.logits == 1 else 2
        length_sq = sum(weight * weight for weight in self.weights)
        return spread * length_sq << (2 * (self.scale_bits - WEIGHT_BITS))

    @cached_property
    def amplitudes(self) -> FloatArray:
        """Natural units that a residual of 1 adds to a cell, for each feature."""
        return np.array(self.weights) / WEIGHT

    def split(self, values: FloatArray) -> list[FloatArray]:
        """Residuals by cell of each feature, (cells, logits), of a sum."""
        ends = np.cumsum(self.sizes) * self.target.logits
        return [
            part.reshape(-1, self.target.logits) / amplitude
            for part, amplitude in zip(np.split(values, ends[:-1]), self.amplitudes, strict=True)
        ]

    @property
    def width(self) -> int:
        return 4 * len(self.target.classes)

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        rows, labels = self.side.counted(codes, self.target)
        left = -self.model.chances(rows)
        left[np.arange(len(rows)), labels] += CHANCE
        left = left[:, -self.target.logits :]
        found = []
        for feature, column, size, weight in zip(
            self.space.features, self.space.columns, self.sizes, self.weights, strict=True
        ):
            cells = cell_of(feature, rows[:, column], self.bins)
            # Whole numbers below 2^53, so exact in float64 and in any order.
            sums = [np.bincount(cells, left[:, c], size) for c in range(left.shape[1])]
            found.append(weight * np.stack(sums, axis=1).astype(np.int64).ravel())
        return np.concatenate(found) << (self.scale_bits - WEIGHT_BITS - CHANCE_BITS)
