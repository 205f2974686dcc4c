"""From codes to matrices that classifiers take, by public bounds and levels alone.

Nothing here looks at more than one row: a scale, a level or a fill that came from the customers
would be a statistic that nobody paid for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from kesit_privacy.features import GRID, CodeArray, Feature, FloatArray, Numeric

MIDDLE = 0.5
"""Where a missing number stands: the middle of its public bounds."""


def linear_design(
    features: Sequence[Feature], codes: CodeArray, may_be_missing: Collection[str]
) -> FloatArray:
    """What linear methods take, shape (n, p), every cell in [0, 1].

    A number is one column, its place between its bounds (after its transform), and `MIDDLE` where
    it is missing; a category is one column a level, all 0 where its level is unknown or missing.
    A feature that `may_be_missing` has one more column, 1 where it is missing. Features that never
    are have none: an empty column would cost a private method noise and tell nobody anything.

    Args:
        codes: (n, d), one column a feature.
        may_be_missing: names of the features that the data dictionary says may be empty.
    """
    blocks = [
        _block(feature, codes[:, place], feature.name in may_be_missing)
        for place, feature in enumerate(features)
    ]
    return np.concatenate(blocks, axis=1)


def row_norm(features: Sequence[Feature], may_be_missing: Collection[str]) -> float:
    """The largest Euclidean norm that a row of `linear_design` can have.

    A feature adds 1 at most (a number at its upper bound, a level), and a missing number the square
    of `MIDDLE` beside the 1 of its indicator.
    """
    most = (
        1 + MIDDLE**2 if isinstance(feature, Numeric) and feature.name in may_be_missing else 1.0
        for feature in features
    )
    return math.sqrt(sum(most))


def tree_table(features: Sequence[Feature], codes: CodeArray) -> FloatArray:
    """What tree methods take, shape (n, d).

    A number is its place in [0, 1] between its bounds, NaN where it is missing; a category is its
    code: 0 .. L-1 a level, L unknown, L+1 missing.
    """
    table = codes.astype(np.float64)
    for place, feature in enumerate(features):
        if isinstance(feature, Numeric):
            table[:, place] = np.where(codes[:, place] < 0, math.nan, table[:, place] / GRID)
    return table


def _block(feature: Feature, codes: CodeArray, with_indicator: bool) -> FloatArray:
    """One feature's columns, shape (n, 1 or levels, and 1 for an indicator)."""
    if isinstance(feature, Numeric):
        missing = codes < 0
        columns = np.where(missing, MIDDLE, codes / GRID)[:, None]
    else:
        missing = codes == feature.missing
        columns = (codes[:, None] == np.arange(len(feature.levels))).astype(np.float64)
    if not with_indicator:
        return columns
    return np.column_stack([columns, missing.astype(np.float64)])
