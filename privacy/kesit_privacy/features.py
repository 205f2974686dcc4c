"""The public data dictionary: what a feature may hold, said before anyone looks at data.

A feature's bounds or levels come from the study, never from the customers: a bound taken from the
data would itself be an unaccounted release. Every value of a feature has exactly one *code*, a
small integer; bad values have one too, so that coding is total.

    numeric      0 .. GRID: the value's place between its bounds; -1: missing, or not finite
    categorical  0 .. L-1: its level; L: a level that the study does not know; L+1: missing

Codes are what a client caches and what every query reads.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
CodeArray = NDArray[np.int16]

GRID_BITS = 14
GRID = 1 << GRID_BITS
"""Steps between a numeric feature's bounds: 2^-14 of the range, finer than the 2^-12 required."""

CLOSEST = 2.0**-30
"""Least distance of a feature's bounds, relative to their size: a step is 2^8 roundings or more."""

MISSING_NUMERIC = -1
MAX_LEVELS = 4096

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_PRINTABLE = r"^[^\s\p{C}\p{Zl}\p{Zp}][^\p{C}\p{Zl}\p{Zp}]*$"  # no escapes for a terminal
Name = Annotated[str, Field(min_length=1, max_length=120, pattern=_PRINTABLE)]
Sentence = Annotated[str, Field(min_length=1, max_length=500, pattern=_PRINTABLE)]

ORDINARY = "ordinary"
Tag = Literal[
    "ordinary", "special-category", "profiling", "behaviour-tracking", "sentiment", "minor"
]
"""What a feature is to the law. `ordinary`: someone looked, and none of the others applies; a
feature without tags was not looked at."""


def _sensible_tags(tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
    if len(set(tags)) != len(tags):
        raise ValueError("a tag stands twice")
    if ORDINARY in tags and len(tags) > 1:
        raise ValueError('"ordinary" says that no other tag applies, so it stands alone')
    return tags


Tags = Annotated[tuple[Tag, ...], AfterValidator(_sensible_tags)]


OCTAVES = 10
"""How many times an amount's range is halved before its cells are even."""

LEAST_BELOW = 2
"""An amount's lower bound lies below 0 by at most this part of the upper one."""

_KNOTS = (0.0, *(2.0**-octave for octave in range(OCTAVES, -1, -1)))
_PLACES = tuple((2 * knot + k / (OCTAVES + 1)) / 3 for k, knot in enumerate(_KNOTS))
"""Of an amount, in its largest: values, and their places, two parts of the value and one of its
halvings. Straight in between, so that it is arithmetic and the same on every machine."""


def _bent(value: float, knots: tuple[float, ...], places: tuple[float, ...]) -> float:
    """The place of a value at least 0, straight between knots; beyond the last as before it."""
    after = min(max(bisect_right(knots, value), 1), len(knots) - 1)
    start, end = knots[after - 1], knots[after]
    low, high = places[after - 1], places[after]
    return low + (high - low) * ((value - start) / (end - start))


@dataclass(frozen=True, config=STRICT)
class Numeric:
    """A number with public bounds; values beyond them are clipped to them.

    `transform = "signed-log"` places a value by sign(x)·log(1+|x|), for heavy tails such as money;
    `"amount"` two thirds by x and one by its halvings (`_PLACES`), for what may lie anywhere above
    0. `"auto"` is settled when a study is read (`settled`).
    `label_en` and `label_tr` are what people call it; a language without one uses `name`. `tags`
    say what it is to the law; they are under the study's hash where they are given.
    """

    kind: Literal["numeric"]
    name: Name
    lower: float
    upper: float
    transform: Literal["auto", "linear", "amount", "signed-log"] = "auto"
    may_be_constant: bool = False
    label_en: Name | None = None
    label_tr: Name | None = None
    tags: Tags = ()

    @model_validator(mode="after")
    def _ordered(self) -> Numeric:
        if self.lower >= self.upper:
            raise ValueError(
                f"lower ({self.lower:g}) must be less than upper ({self.upper:g});"
                " a feature with one possible value cannot help to tell customers apart"
            )
        low, high = self.forward(self.lower), self.forward(self.upper)
        if not CLOSEST * max(abs(low), abs(high), 1e-280) <= high - low < math.inf:
            raise ValueError(
                f"lower ({self.lower!r}) and upper ({self.upper!r}) are too close together, or too"
                f" far apart, for {GRID} steps in double precision"
            )
        return self

    @property
    def is_amount(self) -> bool:
        """Whether values begin at 0, or a little below it: customers may lie anywhere above."""
        return 0 <= -self.lower * LEAST_BELOW <= self.upper

    def settled(self, *, amounts: bool) -> Numeric:
        """The feature with `auto` replaced: `amount` if that is wanted and it is one."""
        if self.transform != "auto":
            return self
        return replace(self, transform="amount" if amounts and self.is_amount else "linear")

    def forward(self, value: float) -> float:
        """The transformed value, on the scale on which the grid is even."""
        if self.transform == "signed-log":
            return math.copysign(math.log1p(abs(value)), value)
        if self.transform == "amount":
            return math.copysign(_bent(abs(value) / self._largest, _KNOTS, _PLACES), value)
        return value

    @property
    def _largest(self) -> float:
        return max(abs(self.lower), abs(self.upper))

    @property
    def knots(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Sizes of an amount and their places, between which `amount` is straight."""
        return tuple(self._largest * knot for knot in _KNOTS), _PLACES

    def _backward(self, value: float) -> float:
        if self.transform == "signed-log":
            return math.copysign(math.expm1(abs(value)), value)
        if self.transform == "amount":
            return math.copysign(_bent(abs(value), _PLACES, _KNOTS) * self._largest, value)
        return value

    def decode(self, position: float) -> float:
        """The value, in the feature's own unit, at `position` in 0 .. GRID (need not be whole)."""
        low, high = self.forward(self.lower), self.forward(self.upper)
        return self._backward(low + (high - low) * (position / GRID))

    def encode(self, values: FloatArray) -> CodeArray:
        """Codes of `values`, shape (n,). NaN and ±inf become `MISSING_NUMERIC`.

        A binary search in one table: comparisons are exact, so a value's code cannot depend on what
        stands beside it (vectorised logarithms promise no such thing).
        """
        finite = np.isfinite(values)
        codes = np.searchsorted(_thresholds(self), np.where(finite, values, 0.0), side="right")
        return np.where(finite, codes, MISSING_NUMERIC).astype(np.int16)


@dataclass(frozen=True, config=STRICT)
class Categorical:
    """One of a public list of levels; anything else falls in the cell of unknown levels.

    `label_en`, `label_tr` and `tags` are what they are for a number.
    """

    kind: Literal["categorical"]
    name: Name
    levels: Annotated[tuple[Name, ...], Field(min_length=2, max_length=MAX_LEVELS)]
    may_be_constant: bool = False
    label_en: Name | None = None
    label_tr: Name | None = None
    tags: Tags = ()

    @field_validator("levels")
    @classmethod
    def _distinct(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(levels)) != len(levels):
            twice = sorted({level for level in levels if levels.count(level) > 1})
            raise ValueError(f"levels are listed twice: {', '.join(twice)}")
        spaced = [level for level in levels if level != level.strip()]
        if spaced:  # values are read without space around them
            raise ValueError(f"{spaced[0]!r} has space around it, so no value could match it")
        return levels

    @property
    def unknown(self) -> int:
        """Code of a level that the study does not list."""
        return len(self.levels)

    @property
    def missing(self) -> int:
        """Code of a missing value."""
        return len(self.levels) + 1

    @property
    def cells(self) -> int:
        """Number of codes: the levels, the unknown, the missing."""
        return len(self.levels) + 2


Feature = Annotated[Numeric | Categorical, Field(discriminator="kind")]


def plain(feature: Numeric | Categorical) -> dict[str, Any]:
    """Plain values, for JSON, without what is left at nothing."""
    return {name: value for name, value in asdict(feature).items() if value not in (None, ())}


@lru_cache(maxsize=1024)
def _thresholds(feature: Numeric) -> FloatArray:
    """GRID increasing values; code c holds the values from threshold c-1 (included) to c."""
    return np.array([feature.decode(step + 0.5) for step in range(GRID)])
