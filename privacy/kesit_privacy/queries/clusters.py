"""Cluster sums: the k-means step, as counts and centred, clipped sums in one vector.

The same query serves a Lloyd step and the cells of a codebook; they differ in the centres and in
how the sensitivity is divided between counts and sums (`count_share`, in percent).
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
from kesit_privacy.study import Study

MAX_CENTRES = 1024
FINEST_COUNT = 1 << 12
"""A count of one must be at least this many lattice units (rule 8)."""

EXACT = 1 << 53
"""Whole numbers up to here are exact in float64."""

_INWARD = 1 - 2.0**-40
"""Shrinks a clipped row by far more than the few ulps that its scale may be off."""


@dataclass(frozen=True)
class ClusterSums(Query):
    """Counts of, and sums around, the nearest centre of each row.

    A row x with nearest centre c_j (squared distances compared as integers, ties to the lowest
    index) adds A to count j, and w_j·clip(x - c_j, r_j) to sum j, where A = ⌊√s·2^b⌋,
    S = ⌊√(1-s)·2^b⌋, w_j = ⌊S / r_j⌋ and s = count_share/100.

    Δ = 1 (in natural units): the row touches one count and one sum. The clipped vector q is whole
    and ‖q‖ <= r_j is checked in integers (a row that failed would add nothing to the sum), so
    ‖f(row)‖² <= A² + w_j²·r_j² <= A² + S² <= s·4^b + (1-s)·4^b = 4^b.

    Clipping scales x - c_j by r_j/‖x - c_j‖ and truncates towards zero; product, quotient and root
    of single numbers are correctly rounded by IEEE 754, whatever stands beside them.
    """

    name: ClassVar[str] = "cluster-sums"
    version: ClassVar[int] = 1

    space: Embedding
    centres: tuple[tuple[int, ...], ...]
    radii: tuple[int, ...]
    fill: tuple[int, ...]
    count_share: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space = Embedding.of(study)
        centres, radii, fill, share = take(params, "centres", "radii", "fill", "count_share")
        if not isinstance(centres, list) or not 1 <= len(centres) <= MAX_CENTRES:
            raise refuse(f"there must be 1 .. {MAX_CENTRES} centres")
        top = math.isqrt(space.diameter_sq) + 1
        query = cls(
            space,
            tuple(whole_tuple(c, space.dimensions, 0, GRID, "centres") for c in centres),
            whole_tuple(radii, len(centres), 1, top, "radii"),
            whole_tuple(fill, len(space.features), 0, GRID, "fill"),
            whole(share, 1, 99, "count_share"),
            scale_bits,
        )
        if query.length > MAX_LENGTH or 4 * space.dimensions * GRID**2 >= EXACT:
            raise refuse("too many centres or coordinates")
        if query.count_scale < FINEST_COUNT or query.sum_scale < top:
            raise refuse("the lattice is too coarse for this count_share and these radii")
        return query

    def params(self) -> dict[str, Any]:
        return {
            "centres": [list(centre) for centre in self.centres],
            "radii": list(self.radii),
            "fill": list(self.fill),
            "count_share": self.count_share,
        }

    @property
    def length(self) -> int:
        return len(self.centres) * (1 + self.space.dimensions)

    @property
    def width(self) -> int:
        return 2 * (self.space.dimensions + len(self.centres))

    @property
    def delta_sq(self) -> int:
        return 1 << (2 * self.scale_bits)

    @property
    def count_scale(self) -> int:
        """A: lattice units that one row adds to its count."""
        return math.isqrt((self.count_share << (2 * self.scale_bits)) // 100)

    @property
    def sum_scale(self) -> int:
        """S: lattice units that a row at its radius adds to its sum."""
        return math.isqrt(((100 - self.count_share) << (2 * self.scale_bits)) // 100)

    @property
    def weights(self) -> IntArray:
        """w_j: lattice units a step of the grid, shape (k,)."""
        return np.array([self.sum_scale // radius for radius in self.radii], dtype=np.int64)

    def split(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Counts (k,) and centred sums (k, dimensions), grid steps, of a sum in natural units."""
        k = len(self.centres)
        units = values * 2.0**self.scale_bits
        sums = units[k:].reshape(k, self.space.dimensions) / self.weights[:, None]
        return units[:k] / self.count_scale, sums

    @cached_property
    def _tables(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        centres = np.array(self.centres, dtype=np.float64)
        return (
            centres,
            np.ascontiguousarray(-2 * centres.T),
            (centres * centres).sum(axis=1),
            np.array(self.radii, dtype=np.float64),
        )

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        centres, minus_twice, norms, radii = self._tables
        rows = self.space.expand(codes, self.fill)
        every = np.arange(len(rows))
        # ‖x‖² is left out of the comparison: ‖c‖² - 2x·c is whole and below 2^53 in size.
        scores = rows @ minus_twice
        scores += norms
        nearest = scores.argmin(axis=1)
        distance_sq = np.einsum("ij,ij->i", rows, rows) + scores[every, nearest]
        rows -= centres[nearest]
        far = np.flatnonzero(distance_sq > (radii * radii)[nearest])
        rows[far] = clip(rows[far], radii[nearest[far]], distance_sq[far])
        member = np.zeros((len(rows), len(centres)))
        member[every, nearest] = 1
        counts = np.bincount(nearest, minlength=len(centres)).astype(np.int64)
        sums = (member.T @ rows).astype(np.int64)
        return np.concatenate([counts * self.count_scale, (sums * self.weights[:, None]).ravel()])


def clip(rows: FloatArray, radii: FloatArray, norms_sq: FloatArray) -> FloatArray:
    """Whole vectors of norm at most `radii`, in the directions of `rows`.

    Args:
        rows: (n, d) whole numbers; radii: (n,); norms_sq: (n,) their exact squared norms, not 0.

    The proof that no row fails the last check: each entry is at most
    |x|·(r/‖x‖)·(1-2^-40)·(1+2^-50). The check stays, so that the bound on Δ rests on integers
    alone.
    """
    clipped = np.trunc(rows * (radii / np.sqrt(norms_sq) * _INWARD)[:, None])
    clipped[np.einsum("ij,ij->i", clipped, clipped) > radii * radii] = 0
    return clipped
