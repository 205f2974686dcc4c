"""How well a histogram of scores ranks: areas under its curves, for many histograms at once."""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import FloatArray


def nonnegative(values: FloatArray) -> FloatArray:
    """The nearest (Euclidean) numbers >= 0 with the same sum, row by row of (rows, n).

    Noisy counts below 0 lift the others' total if they are only cut off; here all the others give
    way alike (Duchi et al. 2008, the projection onto a simplex). Rows whose sum is not positive
    become zeros.
    """
    total = np.maximum(values.sum(axis=1), 0.0)
    ordered = -np.sort(-values, axis=1)
    excess = (np.cumsum(ordered, axis=1) - total[:, None]) / np.arange(1, values.shape[1] + 1)
    kept = np.maximum((ordered > excess).sum(axis=1), 1)
    found: FloatArray = np.maximum(values - excess[np.arange(len(values)), kept - 1, None], 0.0)
    found[total <= 0] = 0.0
    return found


def area(others: FloatArray, own: FloatArray, order: FloatArray | float = 0.5) -> float:
    """Area under the ROC curve: the chance that one of `own` scores higher than one of `others`.

    Args:
        others, own: (cells,) customers, lowest scores first; order: (cells,) that chance for two
            of the same cell.
    """
    below = np.cumsum(others) - others
    pairs = max(float(others.sum() * own.sum()), 1e-300)
    return float(own @ (below + others * order)) / pairs


def average_precision(counts: FloatArray) -> FloatArray:
    """Average precision, the mean precision at which one of the class is found.

    Within a cell both kinds are met evenly, so that hits a and all m of a cell, after A hits among
    M, have a mean precision of ∫ (A + ta)/(M + tm) dt over t in 0 .. 1 = a/m + (A - M·a/m)/m ·
    ln(1 + m/M).

    Args:
        counts: (draws, cells, 2) customers >= 0, others and own, lowest scores first.

    Returns:
        (draws,); 0 where there is nobody of the class.
    """
    own = counts[:, ::-1, 1]
    every = counts[:, ::-1].sum(axis=2)
    hits, seen = np.cumsum(own, axis=1) - own, np.cumsum(every, axis=1) - every
    share = own / np.maximum(every, 1e-12)
    before = (hits - seen * share) / np.maximum(every, 1e-12)
    growth = np.log1p(every / np.maximum(seen, 1e-12))
    precision = share + np.where(seen > 1e-9, before * growth, 0.0)
    total = np.maximum(own.sum(axis=1), 1e-12)
    found: FloatArray = (own * precision).sum(axis=1) / total
    return found
