"""An additive picture of any model: what each feature alone changes for a usual customer.

Of a scorecard it is the scorecard itself. Of a network it is a cut through it, for people to read:
the network also knows what features do together, so its picture scores nobody.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, Categorical, CodeArray, Feature, FloatArray, IntArray
from kesit_privacy.models import Model
from kesit_privacy.scorecard import LARGEST, Cells, Scorecard


def view(model: Model, customers: Sequence[FloatArray]) -> Scorecard:
    """The picture of `model`, with a cell for each of `customers` (see `usual`)."""
    if isinstance(model, Scorecard):
        return model
    start = usual(model.space, customers)
    base = model.points(start)[0]
    parts = []
    for feature, column, sizes in zip(
        model.space.features, model.space.columns, customers, strict=True
    ):
        rows = np.repeat(start, len(sizes), axis=0)
        rows[:, column] = codes_of(feature, len(sizes) - 1)
        points = np.clip(model.points(rows) - base, -LARGEST, LARGEST)
        parts.append(Cells(tuple(tuple(cell) for cell in points.tolist())))
    return Scorecard(model.space, tuple(base.tolist()), tuple(parts))


def usual(space: Embedding, customers: Sequence[FloatArray]) -> CodeArray:
    """A customer with the most frequent cell of each feature, shape (1, columns).

    Args:
        customers: for each feature (cells,) how many customers each cell has, noisy or not.
    """
    row = np.zeros((1, max(space.columns) + 1), dtype=np.int16)
    for feature, column, sizes in zip(space.features, space.columns, customers, strict=True):
        row[0, column] = codes_of(feature, len(sizes) - 1)[int(np.argmax(sizes))]
    return row


def codes_of(feature: Feature, bins: int) -> IntArray:
    """A code in each cell of a feature: middles of a number's `bins`, then missing."""
    if isinstance(feature, Categorical):
        return np.arange(feature.cells, dtype=np.int64)
    middles = (2 * np.arange(bins, dtype=np.int64) + 1) * GRID // (2 * bins)
    return np.append(middles, -1)
