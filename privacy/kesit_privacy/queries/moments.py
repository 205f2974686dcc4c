"""Score moments: how features' scores go together, and with the classes, in one vector.

A score is a public number for each cell and class of a feature. With one score a feature the second
moments are as few as the pairs of features, so that their noise is small beside what they tell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.cells import cell_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.parameters import refuse, take, whole, whole_tuple
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.queries.clusters import EXACT, clip
from kesit_privacy.scorecard import read_cells
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target

SCORE_BITS = 9
LARGEST_SCORE = 1 << 12
LARGEST_RADIUS = 1 << 13
FACTOR_BITS = 8
LARGEST_FACTOR = 1 << 14


@dataclass(frozen=True)
class ScoreMoments(Query):
    """Upper triangle of Σ UUᵀ (features × features), then Σ φ_y·u_y (features).

    A training row with cells j_k has the whole matrix U = (u[k][j_k][c]), features × classes; its
    scale is shrunk to ‖U‖_F <= R (the norm is checked in integers). With amplitudes A, B = ⌊√2·A⌋
    and C it adds A·(UUᵀ)_kk, B·(UUᵀ)_kl for k < l, and C·g_k with g_k = ⌊φ_y·u_ky / 2^8⌋ clipped to
    ‖g‖ <= r. Rows that are held out, or of unknown class, add nothing.

    Δ = 1 (in natural units): with s = share/100, A = ⌊√s·2^b / R²⌋ and C = ⌊√(1-s)·2^b / r⌋,
    ‖f(row)‖² <= A²·‖UUᵀ‖_F² + C²·‖g‖² <= A²·‖U‖_F⁴ + C²·r² <= s·4^b + (1-s)·4^b, because
    B² <= 2A² counts both halves of the symmetric matrix, and ‖UUᵀ‖_F <= ‖U‖_F².
    """

    name: ClassVar[str] = "score-moments"
    version: ClassVar[int] = 1

    space: Embedding
    target: Target
    side: Side
    scores: tuple[tuple[tuple[int, ...], ...], ...]
    factors: tuple[int, ...]
    radii: tuple[int, int]
    share: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space, target = Embedding.of(study), Target.of(study)
        held, scores, factors, radii, share = take(
            params, "held", "scores", "factors", "radii", "share"
        )
        if not isinstance(scores, list) or len(scores) != len(space.features):
            raise refuse("there must be scores of each feature")
        classes = len(target.classes)
        query = cls(
            space,
            target,
            Side.read(held, inside=False),
            tuple(
                read_cells(feature, classes, table, LARGEST_SCORE)
                for feature, table in zip(space.features, scores, strict=True)
            ),
            whole_tuple(factors, classes, 0, LARGEST_FACTOR, "factors"),
            _pair(radii),
            whole(share, 1, 99, "share"),
            scale_bits,
        )
        if query.length > MAX_LENGTH or len(space.features) * classes * LARGEST_SCORE**2 >= EXACT:
            raise refuse("there are too many features")
        if min(query.amplitudes) < 1:
            raise refuse("the lattice is too coarse for these radii")
        return query

    def params(self) -> dict[str, Any]:
        return {
            "held": self.side.params(),
            "scores": [[list(cell) for cell in table] for table in self.scores],
            "factors": list(self.factors),
            "radii": list(self.radii),
            "share": self.share,
        }

    @property
    def length(self) -> int:
        features = len(self.space.features)
        return features * (features + 1) // 2 + features

    @property
    def width(self) -> int:
        return 4 * len(self.space.features) * len(self.target.classes)

    @property
    def delta_sq(self) -> int:
        return 1 << (2 * self.scale_bits)

    @cached_property
    def amplitudes(self) -> tuple[int, int, int]:
        """A, B and C, in lattice units."""
        first = math.isqrt((self.share << (2 * self.scale_bits)) // 100) // self.radii[0] ** 2
        last = math.isqrt(((100 - self.share) << (2 * self.scale_bits)) // 100) // self.radii[1]
        return first, math.isqrt(2 * first * first), last

    def split(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Σ UUᵀ (features, features) and Σ φ_y·u_y (features,), of a sum in natural units."""
        features = len(self.space.features)
        units = values * 2.0**self.scale_bits
        matrix = np.zeros((features, features))
        matrix[np.triu_indices(features)] = units[:-features]
        on, off, last = self.amplitudes
        diagonal = np.diag(matrix) / on
        matrix = (matrix - np.diag(np.diag(matrix))) / off
        return matrix + matrix.T + np.diag(diagonal), units[-features:] / last

    @cached_property
    def _tables(self) -> list[FloatArray]:
        return [np.array(table, dtype=np.float64) for table in self.scores]

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        rows, labels = self.side.counted(codes, self.target)
        features, classes = len(self.space.features), len(self.target.classes)
        scores = np.empty((len(rows), features, classes))
        for place, (feature, column, table) in enumerate(
            zip(self.space.features, self.space.columns, self._tables, strict=True)
        ):
            scores[:, place] = table[cell_of(feature, rows[:, column], len(table) - 1)]
        # Not -1 for the width: a chunk of which no row counts has no size to infer it from.
        flat = scores.reshape(len(rows), features * classes)
        scores = within(flat, self.radii[0]).reshape(scores.shape)
        own = scores[np.arange(len(rows)), :, labels]
        slopes = np.floor(
            own * np.array(self.factors, dtype=np.float64)[labels, None] / 2**FACTOR_BITS
        )
        slopes = within(slopes, self.radii[1])
        wide = scores.transpose(1, 0, 2).reshape(features, len(rows) * classes)
        matrix = (wide @ wide.T).astype(np.int64)
        on, off, last = self.amplitudes
        weights = np.where(np.eye(features, dtype=bool), on, off)
        upper = (matrix * weights)[np.triu_indices(features)]
        return np.concatenate([upper, slopes.sum(axis=0).astype(np.int64) * last])


def within(rows: FloatArray, radius: int) -> FloatArray:
    """Rows (n, d) of whole numbers, clipped to the radius where they are longer."""
    norms_sq = np.einsum("ij,ij->i", rows, rows)
    far = np.flatnonzero(norms_sq > radius * radius)
    rows[far] = clip(rows[far], np.full(len(far), float(radius)), norms_sq[far])
    return rows


def _pair(radii: Any) -> tuple[int, int]:
    first, second = whole_tuple(radii, 2, 1, LARGEST_RADIUS << FACTOR_BITS, "radii")
    if first > LARGEST_RADIUS:
        raise refuse("the radius of the scores is too large")
    return first, second
