"""Gradient sums: what a model gets wrong, along chosen directions of the rows' coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.coordinates import UNIT, Coordinates
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.models import Model, read_model
from kesit_privacy.parameters import refuse, take, whole, whole_tuple
from kesit_privacy.queries.base import CHUNK, MAX_LENGTH, Query
from kesit_privacy.queries.clusters import EXACT
from kesit_privacy.queries.moments import within
from kesit_privacy.scorecard import CHANCE, CHANCE_BITS
from kesit_privacy.study import Study
from kesit_privacy.target import Side, Target

LARGEST_RADIUS = 1 << 14
LARGEST_DIRECTION = 1 << 24
LARGEST_OFFSET = 1 << 36
MAX_DIRECTIONS = 512
MAX_SHIFT = 24


@dataclass(frozen=True)
class GradientSums(Query):
    """Σ z·(y - p) over the training rows, shape (directions, logits), row by row.

    x holds a row's coordinates; z_i = ⌊(d_i·x + o_i) / 2^shift⌋ for a public direction d_i and
    offset o_i (a whitening of what the second moments told), then clipped to ‖z‖ <= R. y is 1 for
    the row's class and 0 for others, p the model's chance, in units of 2^-14; of two classes only
    the second is summed. A row adds C·z_i·(y - p)_c, C = ⌊2^b / (2^14·R)⌋. Rows that are held out,
    or of unknown class, add nothing.

    Δ = √s (in natural units), s = 1 for two classes and 2 for more:
    ‖f(row)‖² = C²·‖z‖²·‖y - p‖² <= C²·R²·s·4^14 <= s·4^b, for |y - p| <= 1, and for more classes
    as `ResidualSums` proves.

    Exact: |d_i·x + o_i| < 2^53 and ‖z‖² < 2^53 follow from the ranges that `bind` checks, so
    products and sums are whole in float64, in any order; the clip is that of `clusters.clip`.
    """

    name: ClassVar[str] = "gradient-sums"
    version: ClassVar[int] = 1

    coordinates: Coordinates
    target: Target
    side: Side
    model: Model
    directions: tuple[tuple[int, ...], ...]
    offsets: tuple[int, ...]
    shift: int
    radius: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        target, coordinates = Target.of(study), Coordinates(Embedding.of(study))
        held, model, directions, offsets, shift, radius = take(
            params, "held", "model", "directions", "offsets", "shift", "radius"
        )
        if not isinstance(directions, list) or not 1 <= len(directions) <= MAX_DIRECTIONS:
            raise refuse(f"there must be 1 .. {MAX_DIRECTIONS} directions")
        size = coordinates.dimensions
        query = cls(
            coordinates,
            target,
            Side.read(held, inside=False),
            read_model(coordinates.space, target.logits, model),
            tuple(
                whole_tuple(d, size, -LARGEST_DIRECTION, LARGEST_DIRECTION, "directions")
                for d in directions
            ),
            whole_tuple(offsets, len(directions), -LARGEST_OFFSET, LARGEST_OFFSET, "offsets"),
            whole(shift, 0, MAX_SHIFT, "shift"),
            whole(radius, 1, LARGEST_RADIUS, "radius"),
            scale_bits,
        )
        query._check()
        return query

    def _check(self) -> None:
        reach = max(
            coordinate_sum * UNIT + abs(offset)
            for coordinate_sum, offset in zip(
                (sum(map(abs, d)) for d in self.directions), self.offsets, strict=True
            )
        )
        if reach >= EXACT or len(self.directions) * ((reach >> self.shift) + 1) ** 2 >= EXACT:
            raise refuse("the directions are too long")
        if self.length > MAX_LENGTH or CHUNK * self.radius * CHANCE >= EXACT:
            raise refuse("there are too many directions")
        if self.amplitude < 1:
            raise refuse("the lattice is too coarse for this radius")

    def params(self) -> dict[str, Any]:
        return {
            "held": self.side.params(),
            "model": self.model.params(),
            "directions": [list(direction) for direction in self.directions],
            "offsets": list(self.offsets),
            "shift": self.shift,
            "radius": self.radius,
        }

    @property
    def space(self) -> Embedding:
        """The features that it reads."""
        return self.coordinates.space

    @property
    def length(self) -> int:
        return len(self.directions) * self.target.logits

    @property
    def width(self) -> int:
        return 4 * (self.coordinates.dimensions + len(self.directions) + self.target.logits)

    @property
    def delta_sq(self) -> int:
        spread = 1 if self.target.logits == 1 else 2
        return spread << (2 * self.scale_bits)

    @cached_property
    def amplitude(self) -> int:
        """C: lattice units of a step of z for a chance of 2^-14."""
        return (1 << self.scale_bits) // (self.radius << CHANCE_BITS)

    @cached_property
    def step(self) -> float:
        """Natural units that a residual of 1 and a z of 1 add to a sum."""
        return math.ldexp(self.amplitude, CHANCE_BITS - self.scale_bits)

    def split(self, values: FloatArray) -> FloatArray:
        """Σ z·(y - p), shape (directions, logits), of a sum."""
        return values.reshape(len(self.directions), -1) / self.step

    @cached_property
    def _tables(self) -> tuple[FloatArray, FloatArray]:
        return (
            np.ascontiguousarray(np.array(self.directions, dtype=np.float64).T),
            np.array(self.offsets, dtype=np.float64),
        )

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        counted, labels = self.side.counted(codes, self.target)
        left = -self.model.chances(counted)
        left[np.arange(len(counted)), labels] += CHANCE
        left = left[:, -self.target.logits :]
        directions, offsets = self._tables
        rows = self.coordinates.rows(counted) @ directions
        rows = np.floor((rows + offsets) / 2.0**self.shift)
        rows = within(rows, self.radius)
        sums = (rows.T @ left.astype(np.float64)).astype(np.int64)
        return sums.ravel() * self.amplitude
