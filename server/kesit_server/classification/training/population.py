"""Who lies in which cell, as the second moments tell it: for cards, not for training."""

from __future__ import annotations

import math

import numpy as np

from kesit_privacy.coordinates import ABSENT, BEND, LINE, MISSING, UNIT
from kesit_privacy.features import Categorical, FloatArray
from kesit_server.classification.training.gram import Gram
from kesit_server.classification.training.labels import Labels

NARROWEST = 1e-4
"""Least variance of a number, in its squared range."""


def population(gram: Gram, bins: int) -> Labels:
    """Customers by cell and class of each feature.

    Levels are counted by the first sum. Of a number it tells the mean and the variance: its cells
    are those of the Beta distribution that has them, a picture of where customers are.
    """
    space, totals = gram.coordinates.space, gram.customers * gram.shares
    counts = []
    for feature, start, end in zip(
        space.features, gram.coordinates.offsets, gram.coordinates.offsets[1:], strict=False
    ):
        sums = gram.sums[start:end]
        if isinstance(feature, Categorical):
            counts.append(_levels(sums, totals))
        else:
            counts.append(
                np.stack(
                    [_number(*pair, bins) for pair in zip(sums.T, totals, strict=True)], axis=1
                )
            )
    # A level's count comes from a sum of coordinates 1/√2 apart, so it has √2 of a sum's noise.
    noise = math.sqrt(2) * gram.count_noise
    drawn = (k for k, feature in enumerate(space.features) if not isinstance(feature, Categorical))
    every = np.full(len(counts), noise)
    return Labels(space, gram.target, bins, counts, every, frozenset(drawn))


def _levels(sums: FloatArray, totals: FloatArray) -> FloatArray:
    """Counts (cells, classes) from sums of coordinates (cells, classes)."""
    absent = np.maximum(sums[-2:] / (ABSENT / UNIT), 0)
    levels = len(sums) - 2
    known = np.maximum(totals - absent.sum(axis=0), 0)
    return np.concatenate([math.sqrt(2) * sums[:-2] + known / levels, absent])


def _number(sums: FloatArray, total: float, bins: int) -> FloatArray:
    """Counts of one class (bins + 1,), the missing last."""
    missing = float(np.clip(sums[MISSING] / (ABSENT / UNIT), 0, total))
    known = max(total - missing, 1.0)
    line, bend = sums[LINE] / known, sums[BEND] / known
    mean = float(np.clip(line + 0.5, 0.01, 0.99))
    variance = (bend + 0.25) / 3 - (mean - 0.5) ** 2
    variance = float(np.clip(variance, NARROWEST, 0.95 * mean * (1 - mean)))
    strength = mean * (1 - mean) / variance - 1
    middles = (np.arange(bins) + 0.5) / bins
    logs = (mean * strength - 1) * np.log(middles)
    logs += ((1 - mean) * strength - 1) * np.log1p(-middles)
    weights = np.exp(logs - logs.max())
    return np.append(known * weights / weights.sum(), missing)
