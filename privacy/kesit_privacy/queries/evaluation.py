"""Evaluation: how well final centres fit, in one sum.

Sizes of the segments, the distances within them, the simplified silhouette, and a histogram of
distances, all around the same centres and at one sensitivity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, FloatArray, IntArray
from kesit_privacy.parameters import refuse, take, whole, whole_tuple
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.queries.clusters import EXACT, FINEST_COUNT, MAX_CENTRES
from kesit_privacy.study import Study

MAX_BINS = 64
SIZE, INERTIA, SILHOUETTE, DISTANCE = 50, 20, 10, 20
"""How Δ² is divided among the four parts, in percent."""


@dataclass(frozen=True)
class Evaluation(Query):
    """Sizes (k), inertia (1), simplified silhouette (1) and distances (bins + 1), in this order.

    A row x with nearest centre c_j at distance a, the second nearest at b >= a (squared distances
    compared as integers, ties to the lowest index), and a public distance `reach` D adds

        A_size                        to size j
        ⌊A_inertia·min(a², D²)/D²⌋    to the inertia
        ⌊A_silhouette·(b - a)/b⌋      to the silhouette (0 if b = 0)
        A_distance                    to cell min(⌊bins·a/D⌋, bins) of the distances

    with A_part = ⌊√(share)·2^b⌋. The simplified silhouette (b - a)/max(a, b) takes distances to
    centres instead of mean distances to rows (Hruschka, de Castro and Campello 2004).

    Δ = 1 (in natural units): the row touches four coordinates. The fractions are at most 1 (IEEE
    754 rounds a quotient u/v with u <= v to at most 1), so ‖f(row)‖² <= Σ A_part² <= 4^b.
    """

    name: ClassVar[str] = "evaluation"
    version: ClassVar[int] = 1

    space: Embedding
    centres: tuple[tuple[int, ...], ...]
    fill: tuple[int, ...]
    reach: int
    bins: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space = Embedding.of(study)
        centres, fill, reach, bins = take(params, "centres", "fill", "reach", "bins")
        if not isinstance(centres, list) or not 2 <= len(centres) <= MAX_CENTRES:
            raise refuse(f"there must be 2 .. {MAX_CENTRES} centres")
        query = cls(
            space,
            tuple(whole_tuple(c, space.dimensions, 0, GRID, "centres") for c in centres),
            whole_tuple(fill, len(space.features), 0, GRID, "fill"),
            whole(reach, 1, math.isqrt(space.diameter_sq) + 1, "reach"),
            whole(bins, 1, MAX_BINS, "bins"),
            scale_bits,
        )
        if query.length > MAX_LENGTH or 4 * space.dimensions * GRID**2 >= EXACT:
            raise refuse("too many centres or coordinates")
        if query.amplitude(min(SIZE, INERTIA, SILHOUETTE, DISTANCE)) < FINEST_COUNT:
            raise refuse("the lattice is too coarse")
        return query

    def params(self) -> dict[str, Any]:
        return {
            "centres": [list(centre) for centre in self.centres],
            "fill": list(self.fill),
            "reach": self.reach,
            "bins": self.bins,
        }

    @property
    def length(self) -> int:
        return len(self.centres) + 2 + self.bins + 1

    @property
    def width(self) -> int:
        return self.space.dimensions + 2 * len(self.centres)

    @property
    def delta_sq(self) -> int:
        return 1 << (2 * self.scale_bits)

    def amplitude(self, share: int) -> int:
        """A_part: lattice units that a row adds at most, for a part's share in percent."""
        return math.isqrt((share << (2 * self.scale_bits)) // 100)

    @cached_property
    def _tables(self) -> tuple[FloatArray, FloatArray]:
        centres = np.array(self.centres, dtype=np.float64)
        return np.ascontiguousarray(-2 * centres.T), (centres * centres).sum(axis=1)

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        minus_twice, norms = self._tables
        rows = self.space.expand(codes, self.fill)
        every = np.arange(len(rows))
        squares = rows @ minus_twice + norms  # whole and below 2^53 in size
        squares += np.einsum("ij,ij->i", rows, rows)[:, None]
        nearest = squares.argmin(axis=1)
        own = squares[every, nearest].copy()
        squares[every, nearest] = np.inf
        near, far = np.sqrt(own), np.sqrt(squares.min(axis=1))
        inertia = np.minimum(own, float(self.reach**2)) / float(self.reach**2)
        silhouette = np.divide(far - near, far, out=np.zeros(len(rows)), where=far > 0)
        cells = np.minimum(near / self.reach * self.bins, self.bins).astype(np.int64)
        return np.concatenate(
            [
                np.bincount(nearest, minlength=len(norms)) * self.amplitude(SIZE),
                [_total(self.amplitude(INERTIA), inertia)],
                [_total(self.amplitude(SILHOUETTE), silhouette)],
                np.bincount(cells, minlength=self.bins + 1) * self.amplitude(DISTANCE),
            ]
        ).astype(np.int64)


def _total(amplitude: int, fractions: FloatArray) -> int:
    """Σ ⌊amplitude·fraction⌋, in integers."""
    return int(np.floor(amplitude * fractions).astype(np.int64).sum())
