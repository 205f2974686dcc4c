"""Second moments of the rows' coordinates, and how they go with the classes, in one vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.coordinates import UNIT, UNIT_BITS, Coordinates
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.parameters import refuse, take, whole
from kesit_privacy.queries.base import CHUNK, MAX_LENGTH, Query
from kesit_privacy.queries.clusters import EXACT
from kesit_privacy.queries.moments import within
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target

CONSTANT = UNIT
"""The coordinate that every row has: it counts customers, and sums the others."""

DIFFERENCE, TOGETHER = 3, 2
"""How loud the difference of two classes' sums is, and what they have together. With d and g and a
share p of one class, noise on what tells it is least for (g/d)² = |1 - 2p|. This is that of p =
0.28; it is at most 8 % above the least for rarer classes, and 20 % for those of one size."""


@dataclass(frozen=True)
class SecondMoments(Query):
    """Upper triangle of Σ x·xᵀ (D × D), then Σ x·x_0·t_y (D × columns), row by row.

    x = (CONSTANT, coordinates) of a training row has D = 1 + dimensions whole numbers; it is
    clipped to ‖x‖ <= R. t_y is (-3, 2) or (3, 2) for two classes, else e_y.
    With amplitudes A, B = ⌊√2·A⌋ and T a row adds A·x_i² and B·x_i·x_j for i < j, and
    T·x_i·x_0·t_yc. Rows that are held out, or of unknown class, add nothing.

    x_0 is CONSTANT, but less in a row that was clipped. With it the classes' sums are the matrix's
    first row, class by class: a long row counts as the same part of a customer in all of them.
    Of two classes the difference of their sums is asked for louder than the sum of them: it is what
    tells, and is clear of the other's noise if classes are of one size.

    Δ = 1 (in natural units): with s = share/100, A = ⌊√s·2^b / R²⌋ and
    T = ⌊√(1-s)·2^b / (R·CONSTANT·t)⌋ for t = ‖t_y‖, which is the same for all classes,
    ‖f(row)‖² <= A²·‖x·xᵀ‖_F² + T²·‖x‖²·x_0²·t² <= A²·R⁴ + T²·R²·CONSTANT²·t²
    <= s·4^b + (1-s)·4^b, because B² <= 2A² counts both halves of the symmetric matrix,
    ‖x·xᵀ‖_F = ‖x‖², and clipping makes no coordinate larger.
    """

    name: ClassVar[str] = "second-moments"
    version: ClassVar[int] = 2

    coordinates: Coordinates
    target: Target
    side: Side
    radius: int
    share: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        held, radius, share = take(params, "held", "radius", "share")
        coordinates = Coordinates(Embedding.of(study))
        longest = UNIT * (math.isqrt(coordinates.dimensions) + 1)
        query = cls(
            coordinates,
            Target.of(study),
            Side.read(held, inside=False),
            whole(radius, UNIT >> 2, longest, "radius"),
            whole(share, 1, 99, "share"),
            scale_bits,
        )
        largest = CHUNK * longest * max(longest, CONSTANT * len(query.target.classes))
        if query.length > MAX_LENGTH or largest >= EXACT:
            raise refuse("there are too many coordinates")
        if min(query.amplitudes) < 1:
            raise refuse("the lattice is too coarse for this radius")
        return query

    def params(self) -> dict[str, Any]:
        return {"held": self.side.params(), "radius": self.radius, "share": self.share}

    @property
    def rank(self) -> int:
        """D: the constant and the coordinates."""
        return 1 + self.coordinates.dimensions

    @property
    def space(self) -> Embedding:
        """The features that it reads."""
        return self.coordinates.space

    @property
    def length(self) -> int:
        columns = len(self.signs[0])
        return self.rank * (self.rank + 1) // 2 + self.rank * columns

    @property
    def width(self) -> int:
        return 4 * self.rank

    @property
    def delta_sq(self) -> int:
        return 1 << (2 * self.scale_bits)

    @cached_property
    def signs(self) -> FloatArray:
        """t_y of each class, shape (classes, columns)."""
        if self.target.logits == 1:
            return np.array([[-DIFFERENCE, TOGETHER], [DIFFERENCE, TOGETHER]], dtype=np.float64)
        return np.eye(len(self.target.classes))

    @cached_property
    def amplitudes(self) -> tuple[int, int, int]:
        """A, B and T, in lattice units."""
        first = math.isqrt((self.share << (2 * self.scale_bits)) // 100) // self.radius**2
        longest_sq = (self.radius * CONSTANT) ** 2 * int((self.signs[0] ** 2).sum())
        last = math.isqrt(((100 - self.share) << (2 * self.scale_bits)) // (100 * longest_sq))
        return first, math.isqrt(2 * first * first), last

    def split(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Σ x·xᵀ (D, D) and Σ x·x_0·t_y (D, columns), coordinates in units, of a sum."""
        scaled = values * 2.0**self.scale_bits
        matrix = np.zeros((self.rank, self.rank))
        upper = np.triu_indices(self.rank)
        matrix[upper] = scaled[: len(upper[0])]
        on, off, last = self.amplitudes
        diagonal = np.diag(matrix) / on
        matrix = (matrix - np.diag(np.diag(matrix))) / off
        whole_matrix = (matrix + matrix.T + np.diag(diagonal)) / UNIT**2
        return whole_matrix, scaled[len(upper[0]) :].reshape(self.rank, -1) / (last * UNIT**2)

    def noise(self, sigma: float) -> tuple[float, float]:
        """Standard deviation of the noise on the matrix's diagonal (off it, 1/√2 of this), and on
        the classes' sums, for that on the sum, all in the units of `split`."""
        on, _, last = self.amplitudes
        scaled = sigma * 2.0**self.scale_bits
        return scaled / (on * 2.0 ** (2 * UNIT_BITS)), scaled / (last * 2.0 ** (2 * UNIT_BITS))

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        counted, labels = self.side.counted(codes, self.target)
        rows = np.empty((len(counted), self.rank))
        rows[:, 0] = CONSTANT
        rows[:, 1:] = self.coordinates.rows(counted)
        rows = within(rows, self.radius)
        matrix = (rows.T @ rows).astype(np.int64)
        on, off, last = self.amplitudes
        weights = np.where(np.eye(self.rank, dtype=bool), on, off)
        upper = (matrix * weights)[np.triu_indices(self.rank)]
        told = (rows.T @ (rows[:, :1] * self.signs[labels])).astype(np.int64)
        return np.concatenate([upper, told.ravel() * last])
