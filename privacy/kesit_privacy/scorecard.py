"""An additive classifier in whole numbers: each feature adds points, and points make chances.

The same numbers train (residuals), score and explain, so a prediction is to the bit what a person
can add up by hand. A point is 2^-10 of a logit. A feature's part is a table of cells (a shape), or
a line from its lower to its upper bound (logistic regression).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kesit_privacy.cells import MAX_BINS, cell_of, cells_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID_BITS, Categorical, CodeArray, Feature, IntArray, Numeric
from kesit_privacy.parameters import refuse, take, whole_tuple

LOGIT = 1 << 10
"""Points of one logit."""

LARGEST = 64 * LOGIT
"""Most points of one part: far beyond what a chance can show."""

CHANCE_BITS = 14
CHANCE = 1 << CHANCE_BITS
"""A chance of 1: chances are whole numbers of 2^-14."""

_EXP = np.array([round(2**24 * math.exp(-step / LOGIT)) for step in range(17 * LOGIT)] + [0])
"""2^24·exp(-points): one table, so that a row's chance does not depend on its neighbours."""


@dataclass(frozen=True)
class Cells:
    """A shape: points of each cell of one feature, shape (cells, logits)."""

    values: tuple[tuple[int, ...], ...]

    def params(self) -> list[Any]:
        """As canonical JSON."""
        return [list(cell) for cell in self.values]

    @cached_property
    def array(self) -> IntArray:
        """(cells, logits)."""
        return np.array(self.values, dtype=np.int64)

    def points(self, feature: Feature, codes: CodeArray) -> IntArray:
        """Points of each row, shape (n, logits)."""
        found: IntArray = self.array[cell_of(feature, codes, len(self.values) - 1)]
        return found


@dataclass(frozen=True)
class Line:
    """A straight shape: points at the lower bound, at the upper, and of a missing value."""

    lower: tuple[int, ...]
    upper: tuple[int, ...]
    missing: tuple[int, ...]

    def params(self) -> dict[str, Any]:
        """As canonical JSON."""
        return {
            "lower": list(self.lower),
            "upper": list(self.upper),
            "missing": list(self.missing),
        }

    def points(self, feature: Feature, codes: CodeArray) -> IntArray:
        """Points of each row, shape (n, logits)."""
        low, high = np.array(self.lower), np.array(self.upper)
        wide = codes.astype(np.int64)[:, None]
        along = low + (((high - low) * wide) >> GRID_BITS)
        return np.where(wide < 0, np.array(self.missing), along)


Part = Cells | Line


@dataclass(frozen=True)
class Scorecard:
    """An additive model of the features of `space`.

    Attributes:
        intercept: (logits,) points of everybody.
        parts: one for each feature.
    """

    space: Embedding
    intercept: tuple[int, ...]
    parts: tuple[Part, ...]

    @classmethod
    def read(cls, space: Embedding, logits: int, value: Any) -> Scorecard:
        """From a query's parameters or a model file; `params` writes it.

        Raises:
            ProtocolError: not such a model, or numbers out of range.
        """
        intercept, parts = take(value, "intercept", "parts")
        if not isinstance(parts, list) or len(parts) != len(space.features):
            raise refuse(f"there must be {len(space.features)} parts")
        found = tuple(
            _read_part(feature, logits, part)
            for feature, part in zip(space.features, parts, strict=True)
        )
        return cls(space, _points(intercept, logits), found)

    def params(self) -> dict[str, Any]:
        """As canonical JSON."""
        return {
            "intercept": list(self.intercept),
            "parts": [part.params() for part in self.parts],
        }

    @property
    def logits(self) -> int:
        """Numbers that the model gives for a row."""
        return len(self.intercept)

    def points(self, codes: CodeArray) -> IntArray:
        """Points of each row, shape (n, logits): whole numbers, added in any order."""
        total = np.repeat(np.array([self.intercept], dtype=np.int64), len(codes), axis=0)
        for feature, column, part in zip(
            self.space.features, self.space.columns, self.parts, strict=True
        ):
            total += part.points(feature, codes[:, column])
        return total

    def chances(self, codes: CodeArray) -> IntArray:
        """Chance of each class in units of 2^-14, shape (n, classes)."""
        return chances(self.points(codes))


def chances(points: IntArray) -> IntArray:
    """Softmax of points (n, logits) in units of 2^-14, shape (n, classes), rounded down.

    One logit is that of the second of two classes; the first has 0. The chances of a row add up to
    `CHANCE` at most, because each is rounded down.
    """
    if points.shape[1] == 1:
        points = np.concatenate([np.zeros_like(points), points], axis=1)
    below = points.max(axis=1, keepdims=True) - points
    weights = _EXP[np.minimum(below, len(_EXP) - 1)]
    found: IntArray = (weights << CHANCE_BITS) // weights.sum(axis=1, keepdims=True)
    return found


def _read_part(feature: Feature, logits: int, value: Any) -> Part:
    if isinstance(value, dict) and not isinstance(feature, Categorical):
        return Line(*(_points(ends, logits) for ends in take(value, "lower", "upper", "missing")))
    return Cells(read_cells(feature, logits, value))


def read_cells(
    feature: Feature, width: int, value: Any, largest: int = LARGEST
) -> tuple[tuple[int, ...], ...]:
    """A table of a feature's cells, `width` numbers of -largest .. largest each.

    Raises:
        ProtocolError: another shape, or numbers out of range.
    """
    if not isinstance(value, list) or len(value) < 3:
        raise refuse("a table must be a list of cells")
    bins = len(value) - 1  # of a number; the last cell is for missing values
    if len(value) != cells_of(feature, bins) or (isinstance(feature, Numeric) and bins > MAX_BINS):
        raise refuse("a table has another number of cells than its feature")
    return tuple(whole_tuple(cell, width, -largest, largest, "cells") for cell in value)


def _points(value: Any, logits: int) -> tuple[int, ...]:
    return whole_tuple(value, logits, -LARGEST, LARGEST, "points")
