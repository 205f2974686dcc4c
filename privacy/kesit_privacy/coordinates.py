"""The space of logistic regression: codes of features as centred whole-number coordinates.

How much noise a sum needs goes with the length of the longest row, so coordinates are centred and
as short as they can be while two ends of a number, or two levels, lie one `UNIT` apart:

    numeric      a line, -UNIT/2 .. UNIT/2; a bend, 3·line² - 1/4 in units (a Legendre polynomial,
                 so that a shape may curve); `ABSENT` if it is missing, and no line and bend then
    categorical  for each level (1 - 1/L)·UNIT/√2 if it is the row's and -UNIT/(L·√2) if not: the
                 corners of a simplex around 0; `ABSENT` for the unknown, and for the missing

All of it is public: no bound, level or centre comes from data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import (
    GRID,
    GRID_BITS,
    Categorical,
    CodeArray,
    Feature,
    FloatArray,
    IntArray,
    Numeric,
)

UNIT_BITS = 10
UNIT = 1 << UNIT_BITS
"""Steps of one unit: the range of a number, or the distance of two levels."""

ABSENT = UNIT >> 1
"""The coordinate that says that a value is missing, or a level unknown."""

LINE, BEND, MISSING = range(3)
"""A number's coordinates."""

TYPICAL = 0.6
"""Squared length of a number's coordinates at which rows are clipped, in that at its bounds: rows
whose numbers *all* stand at a bound are rare."""


@dataclass(frozen=True)
class Coordinates:
    """Which columns of the code matrix become which coordinates."""

    space: Embedding

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First coordinate of each feature, and the number of coordinates at the end."""
        widths = [f.cells if isinstance(f, Categorical) else 3 for f in self.space.features]
        return tuple(int(offset) for offset in np.cumsum([0, *widths]))

    @property
    def dimensions(self) -> int:
        """Number of coordinates."""
        return self.offsets[-1]

    @cached_property
    def typical_sq(self) -> int:
        """Squared length of a row that is as long as rows usually are; few are longer."""
        found = 0.0
        for feature in self.space.features:
            if isinstance(feature, Categorical):
                found += UNIT**2 * max(0.5 * (1 - 1 / len(feature.levels)), 0.25)
            else:
                found += TYPICAL * UNIT**2 / 4 + UNIT**2 / 20  # line, and bend of even numbers
        return math.ceil(found)

    @property
    def longest(self) -> int:
        """A bound on the absolute value of any coordinate."""
        return UNIT

    def rows(self, codes: CodeArray) -> FloatArray:
        """Coordinates of the rows, shape (n, dimensions): whole numbers held in float64."""
        found, every = np.zeros((len(codes), self.dimensions)), np.arange(len(codes))
        for feature, column, start in zip(
            self.space.features, self.space.columns, self.offsets, strict=False
        ):
            place = codes[:, column].astype(np.int64)
            if isinstance(feature, Categorical):
                known, (own, other) = place < len(feature.levels), _heights(feature)
                found[:, start : start + len(feature.levels)] = np.where(known, other, 0)[:, None]
                found[every, start + place] = np.where(known, own, ABSENT)
            else:
                found[:, start : start + 3] = number_table(place).T
        return found


def level_table(feature: Categorical) -> FloatArray:
    """Coordinates of each code of a categorical feature, shape (cells, cells)."""
    levels = len(feature.levels)
    table = np.zeros((feature.cells, feature.cells))
    own, other = _heights(feature)
    table[:levels, :levels] = other
    table[range(levels), range(levels)] = own
    table[feature.unknown, feature.unknown] = ABSENT
    table[feature.missing, feature.missing] = ABSENT
    return table


def _heights(feature: Categorical) -> tuple[int, int]:
    """Coordinate of a row's own level, and of each other level."""
    levels = len(feature.levels)
    own = round(UNIT * (1 - 1 / levels) / math.sqrt(2))
    return own, round(-UNIT / (levels * math.sqrt(2)))


def number_table(codes: IntArray) -> IntArray:
    """Line, bend and missing of each code of a number, shape (3, n); whole-number arithmetic."""
    line = ((2 * codes - GRID) * UNIT) >> (GRID_BITS + 1)
    bend = (12 * line * line - UNIT * UNIT) // (4 * UNIT)
    missing = codes < 0
    return np.stack(
        [np.where(missing, 0, line), np.where(missing, 0, bend), np.where(missing, ABSENT, 0)]
    )


def table(feature: Feature, bins: int) -> FloatArray:
    """Coordinates of each cell of a feature (`cells.cells_of`), numbers at their cells' middles."""
    if isinstance(feature, Categorical):
        return level_table(feature)
    assert isinstance(feature, Numeric)
    middles = (np.arange(bins) * 2 + 1) * GRID // (2 * bins)
    return number_table(np.append(middles, -1)).T.astype(np.float64)
