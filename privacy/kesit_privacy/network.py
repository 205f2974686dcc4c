"""A small neural network in whole numbers: one hidden layer, and points as a scorecard's.

The forward pass is exact. Linear maps run in float64 on whole numbers whose sums stay below 2^53
(`MAX_*` and the bounds below say why), in between it truncates in integers, so a row's points are
the same to the bit whatever stands beside it and on whatever machine (rule 9 of the protocol). A
weight is a whole number of 2^-16, an input and a hidden unit of 2^-14.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, GRID_BITS, Categorical, CodeArray, FloatArray, IntArray
from kesit_privacy.parameters import refuse, take, whole, whole_tuple
from kesit_privacy.scorecard import LARGEST, LOGIT, chances

WEIGHT_BITS = 16
WEIGHT = 1 << WEIGHT_BITS
"""Steps of a weight of 1."""

LARGEST_WEIGHT = 16 * WEIGHT
LARGEST_HIDDEN = 64 * GRID
"""A hidden unit saturates here, as rectified units do at 0."""

LARGEST_INPUT = 4 * GRID
"""A number that lies farther from its centre, in its scale, counts as lying there."""

SCALE_BITS = 8
LARGEST_SCALE = 64 << SCALE_BITS
MAX_HIDDEN = 256

_EXACT = 1 << 53


@dataclass(frozen=True)
class Inputs:
    """How codes become inputs, by public numbers.

    A numeric feature has two inputs: (code - centre)·scale within ±4, and 1 where the value is
    missing (then the first is 0). A categorical feature has one for each of its codes.

    Attributes:
        centres, scales: of each numeric feature, in its order: 0 .. GRID, and in units of 2^-8.
    """

    space: Embedding
    centres: tuple[int, ...]
    scales: tuple[int, ...]

    @classmethod
    def even(cls, space: Embedding) -> Inputs:
        """From -1 at the lower bound to 1 at the upper."""
        numbers = sum(not isinstance(feature, Categorical) for feature in space.features)
        return cls(space, (GRID // 2,) * numbers, (2 << SCALE_BITS,) * numbers)

    @cached_property
    def count(self) -> int:
        """Number of inputs."""
        return sum(f.cells if isinstance(f, Categorical) else 2 for f in self.space.features)

    def of(self, codes: CodeArray) -> FloatArray:
        """Inputs of each row, (n, count): whole numbers of 2^-14, held in float64."""
        rows = np.zeros((len(codes), self.count))
        every, place, number = np.arange(len(codes)), 0, 0
        for feature, column in zip(self.space.features, self.space.columns, strict=True):
            wide = codes[:, column].astype(np.int64)
            if isinstance(feature, Categorical):
                rows[every, place + wide] = GRID
                place += feature.cells
                continue
            moved = ((wide - self.centres[number]) * self.scales[number]) >> SCALE_BITS
            moved = np.clip(moved, -LARGEST_INPUT, LARGEST_INPUT)
            rows[:, place] = np.where(wide < 0, 0, moved)
            rows[:, place + 1] = np.where(wide < 0, GRID, 0)
            place, number = place + 2, number + 1
        return rows


@dataclass(frozen=True)
class Network:
    """points = V·min(max(W·x + b, 0), 64) + c, in whole numbers.

    Attributes:
        weights: W (hidden, inputs), b (hidden), V (logits, hidden), c (logits), in this order, row
            by row, as one vector.
    """

    inputs: Inputs
    hidden: int
    logits: int
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        # A row has one input at most 4 a feature, so |W·x + b| < 16·(4·features + 1) in steps of
        # 2^-30, and |V·h + c| <= 16·(64·hidden + 1): below 2^53 for 2,000 features and 256 units.
        steps = LARGEST_WEIGHT * max(
            LARGEST_INPUT * len(self.inputs.space.features) + GRID,
            LARGEST_HIDDEN * self.hidden + GRID,
        )
        assert steps < _EXACT
        assert len(self.weights) == size(self.inputs, self.hidden, self.logits)

    @classmethod
    def read(cls, space: Embedding, logits: int, value: Any) -> Network:
        """From a query's parameters or a model file; `params` writes it.

        Raises:
            ProtocolError: not such a model, or numbers out of range.
        """
        hidden, centres, scales, weights = take(value, "hidden", "centres", "scales", "weights")
        numbers = len(Inputs.even(space).centres)
        inputs = Inputs(
            space,
            whole_tuple(centres, numbers, 0, GRID, "centres"),
            whole_tuple(scales, numbers, 1, LARGEST_SCALE, "scales"),
        )
        hidden = whole(hidden, 1, MAX_HIDDEN, "hidden")
        length = size(inputs, hidden, logits)
        weights = whole_tuple(weights, length, -LARGEST_WEIGHT, LARGEST_WEIGHT, "weights")
        if LARGEST_WEIGHT * (LARGEST_INPUT * len(space.features) + GRID) >= _EXACT:
            raise refuse("there are too many features")
        return cls(inputs, hidden, logits, weights)

    def params(self) -> dict[str, Any]:
        """As canonical JSON."""
        return {
            "hidden": self.hidden,
            "centres": list(self.inputs.centres),
            "scales": list(self.inputs.scales),
            "weights": list(self.weights),
        }

    @property
    def space(self) -> Embedding:
        """The features that it reads."""
        return self.inputs.space

    @cached_property
    def layers(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """W, b, V, c in steps of 2^-16, whole numbers held in float64."""
        flat = np.array(self.weights, dtype=np.float64)
        first, second = self.hidden * self.inputs.count, self.hidden * self.logits
        parts = np.split(flat, np.cumsum([first, self.hidden, second]))
        return (
            parts[0].reshape(self.hidden, self.inputs.count),
            parts[1],
            parts[2].reshape(self.logits, self.hidden),
            parts[3],
        )

    def points(self, codes: CodeArray) -> IntArray:
        """Points of each row, shape (n, logits)."""
        first, bias, second, last = self.layers
        rows = np.floor((self.inputs.of(codes) @ first.T + bias * GRID) / WEIGHT)
        rows = np.clip(rows, 0, LARGEST_HIDDEN)
        found = np.floor((rows @ second.T + last * GRID) / (WEIGHT * GRID // LOGIT))
        return np.clip(found, -LARGEST, LARGEST).astype(np.int64)

    def chances(self, codes: CodeArray) -> IntArray:
        """Chance of each class in units of 2^-14, shape (n, classes)."""
        return chances(self.points(codes))


def size(inputs: Inputs, hidden: int, logits: int) -> int:
    """Number of weights."""
    return hidden * (inputs.count + 1 + logits) + logits


assert GRID_BITS + WEIGHT_BITS == 30  # what the comments above count with
