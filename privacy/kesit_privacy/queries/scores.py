"""Score evaluation: how a model's scores go with the truth, among customers it never saw."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.models import Model, read_model
from kesit_privacy.parameters import refuse, take, whole
from kesit_privacy.queries.base import MAX_LENGTH, Query
from kesit_privacy.queries.clusters import FINEST_COUNT
from kesit_privacy.scorecard import CHANCE, chances
from kesit_privacy.study import Study
from kesit_privacy.target import Arms, Side, Target

MAX_EDGES = 255
LARGEST_EDGE = 1 << 30
"""Points; no model gives as many."""


@dataclass(frozen=True)
class ScoreEvaluation(Query):
    """Histograms of scores by true class, and who was taken for whom. Held-out rows alone count.

    A score's cell is the number of its edges that are at most the score. A row that is not held
    out, or whose class (or arm) is unknown, adds nothing.

    Of two classes there is one score, the second class's points, and one histogram, laid out
    (arms, cells, classes), row by row; without arms in the study there is one of them. A row adds
    A = 2^b at [its arm, its cell, its class]: one coordinate.

    Of C > 2 classes there is a score for each, its chance in units of 2^-14. Class by class a
    histogram (cells, 2) has A at [cell of the row's score of that class, whether it is the row's
    class]; then (classes, classes) has B at [the row's class, the class with most points, the
    lowest of equals], with A = ⌊√((1-s)/C)·2^b⌋, B = ⌊√s·2^b⌋ and s = share/100.

    Δ = 1 (in natural units): for two classes ‖f(row)‖² = A² = 4^b; for more the row touches one
    coordinate of each of C histograms and one of the last part, so ‖f(row)‖² = C·A² + B² <=
    (1-s)·4^b + s·4^b.
    """

    name: ClassVar[str] = "score-evaluation"
    version: ClassVar[int] = 1

    space: Embedding
    target: Target
    arms: Arms | None
    side: Side
    model: Model
    edges: tuple[tuple[int, ...], ...]
    share: int
    scale_bits: int

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        space, target = Embedding.of(study), Target.of(study)
        held, model, edges, share = take(params, "held", "model", "edges", "share")
        if not isinstance(edges, list) or len(edges) != target.logits:
            raise refuse(f"there must be edges of {target.logits} scores")
        low, high, shares = -LARGEST_EDGE, LARGEST_EDGE, (0, 0)
        if target.logits > 1:
            low, high, shares = 1, CHANCE, (1, 99)
        query = cls(
            space,
            target,
            Arms.of(study),
            Side.read(held, inside=True),
            read_model(space, target.logits, model),
            tuple(_read_edges(line, low, high) for line in edges),
            whole(share, *shares, "share"),
            scale_bits,
        )
        if query.length > MAX_LENGTH:
            raise refuse("there are too many cells")
        if min(query.amplitudes) < FINEST_COUNT:
            raise refuse("the lattice is too coarse")
        return query

    def params(self) -> dict[str, Any]:
        return {
            "held": self.side.params(),
            "model": self.model.params(),
            "edges": [list(line) for line in self.edges],
            "share": self.share,
        }

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Of two classes' histogram."""
        return len(self.arms.levels) if self.arms else 1, len(self.edges[0]) + 1, 2

    @property
    def length(self) -> int:
        if self.target.logits == 1:
            return math.prod(self._shape)
        return sum(2 * (len(line) + 1) for line in self.edges) + self.target.logits**2

    @property
    def width(self) -> int:
        return 4 * len(self.target.classes)

    @property
    def delta_sq(self) -> int:
        return 1 << (2 * self.scale_bits)

    @cached_property
    def amplitudes(self) -> tuple[int, int]:
        """A and B, in lattice units; of two classes both are A."""
        whole_bits = 1 << (2 * self.scale_bits)
        if self.target.logits == 1:
            return 1 << self.scale_bits, 1 << self.scale_bits
        each = math.isqrt((100 - self.share) * whole_bits // (100 * self.target.logits))
        return each, math.isqrt(self.share * whole_bits // 100)

    def noise(self, sigma: float) -> tuple[float, float]:
        """σ of a histogram's count and of a count of the confusion matrix, in customers."""
        each, confused = self.amplitudes
        return sigma * 2.0**self.scale_bits / each, sigma * 2.0**self.scale_bits / confused

    def by_arm(self, values: FloatArray) -> FloatArray:
        """Customers (arms, cells, classes) of a sum over a target of two classes."""
        return values.reshape(self._shape)

    def split(self, values: FloatArray) -> tuple[list[FloatArray], FloatArray]:
        """Histograms (cells, 2) of each class, and the confusion matrix (true, predicted).

        For a target of more than two classes; customers, of a sum in natural units.
        """
        each, confused = (2.0**self.scale_bits / amplitude for amplitude in self.amplitudes)
        ends = np.cumsum([2 * (len(line) + 1) for line in self.edges])
        *parts, last = np.split(values, ends)
        classes = self.target.logits
        return [part.reshape(-1, 2) * each for part in parts], last.reshape(
            classes, classes
        ) * confused

    @cached_property
    def _tables(self) -> list[IntArray]:
        return [np.array(line, dtype=np.int64) for line in self.edges]

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        rows, labels = self.side.counted(codes, self.target)
        if self.arms is not None:
            known = self.arms.known(rows)
            rows, labels = rows[known], labels[known]
        points = self.model.points(rows)
        each, confused = self.amplitudes
        if self.target.logits == 1:
            places = np.searchsorted(self._tables[0], points[:, 0], side="right") * 2 + labels
            if self.arms is not None:
                places += self.arms.places(rows) * (self.length // len(self.arms.levels))
            return np.bincount(places, minlength=self.length) * each
        scores, classes = chances(points), self.target.logits
        found = [
            np.bincount(
                np.searchsorted(line, scores[:, c], side="right") * 2 + (labels == c),
                minlength=2 * (len(line) + 1),
            )
            for c, line in enumerate(self._tables)
        ]
        pairs = np.bincount(labels * classes + points.argmax(axis=1), minlength=classes**2)
        return np.concatenate([np.concatenate(found) * each, pairs * confused])


def _read_edges(value: Any, low: int, high: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_EDGES:
        raise refuse(f"a score must have 1 .. {MAX_EDGES} edges")
    edges = tuple(whole(edge, low, high, "edges") for edge in value)
    if any(one >= other for one, other in itertools.pairwise(edges)):
        raise refuse("edges must increase")
    return edges
