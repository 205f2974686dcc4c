"""Cells: a feature's codes, a few to each, for whatever counts customers by value.

Cells of a numeric feature are even parts of its public range plus one for missing values; cells of
a categorical feature are its codes. So every row lies in exactly one cell of every feature.
"""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import GRID_BITS, Categorical, CodeArray, Feature, IntArray

MAX_BINS = 1024


def cell_of(feature: Feature, codes: CodeArray, bins: int) -> IntArray:
    """Cell of each code: 0 .. bins-1 by value, `bins` for missing; categorical: the code."""
    wide = codes.astype(np.int64)
    if isinstance(feature, Categorical):
        return wide
    inside = np.minimum((wide * bins) >> GRID_BITS, bins - 1)
    return np.where(wide < 0, bins, inside)


def cells_of(feature: Feature, bins: int) -> int:
    """Number of cells of the feature's histogram."""
    return feature.cells if isinstance(feature, Categorical) else bins + 1
