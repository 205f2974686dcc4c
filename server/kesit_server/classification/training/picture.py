"""A Gaussian picture of the scores: chances and curvatures of cells without asking for them.

The log odds of a class are a sum of features' shapes. Their covariance is known from the score
moments; if the sum is taken for a Gaussian, the mean of p(1-p) in any cell follows from the cell's
own shape. It only steers how long a step is: what is wrong in it, the next residuals correct.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import FloatArray

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

NEAR = 0.05
"""Log odds as near as this have one p(1-p)."""


def sigmoid(values: FloatArray) -> FloatArray:
    """1/(1 + exp(-x)), without overflow."""
    found: FloatArray = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return found


def mean_curvature(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """E p(1-p) for log odds of these means and variances, of any shape."""
    chance = sigmoid(mean[..., None] + np.sqrt(variance)[..., None] * _NODES)
    found: FloatArray = (chance * (1 - chance)) @ _WEIGHTS
    return found


def mean_chance(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """E p for log odds of these means and variances, of any shape."""
    found: FloatArray = sigmoid(mean[..., None] + np.sqrt(variance)[..., None] * _NODES) @ _WEIGHTS
    return found


def secant(first: FloatArray, second: FloatArray, variance: FloatArray) -> FloatArray:
    """By how much E p grows with the mean log odds on the way from the first to the second."""
    gap = second - first
    near = np.abs(gap) < NEAR
    grown = mean_chance(second, variance) - mean_chance(first, variance)
    middle = mean_curvature((first + second) / 2, variance)
    return np.where(near, middle, grown / np.where(near, 1.0, gap))


def intercept(variance: float, base: float) -> float:
    """The log odds a for which the mean of sigmoid(a + N(0, variance)) is `base`, by bisection."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(sigmoid(middle + np.sqrt(variance) * _NODES) @ _WEIGHTS) < base:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def covariance_with_chance(variance: float, base: float) -> float:
    """E[p·e] for log odds a + e, e ~ N(0, variance), with mean chance `base`."""
    spread = np.sqrt(variance) * _NODES
    chance = sigmoid(intercept(variance, base) + spread)
    return float((chance * spread) @ _WEIGHTS)


@dataclass(frozen=True)
class Picture:
    """Shapes of one class's log odds, and how they vary together.

    Attributes:
        covariance: (features, features) of the shapes as they were asked for.
    """

    covariance: FloatArray

    def variance(self, slopes: FloatArray) -> float:
        """Of the sum of all shapes, each times its slope."""
        return max(float(slopes @ self.covariance @ slopes), 1e-9)

    def cell(self, feature: int, shape: FloatArray, at: float, slopes: FloatArray) -> FloatArray:
        """Mean of p(1-p) in each cell of one feature, shape (cells,).

        Args:
            shape: (cells,) the feature's own shape, centred; at: the intercept.
        """
        along = self.covariance @ slopes
        own = max(float(self.covariance[feature, feature]), 1e-9)
        rest = max(self.variance(slopes) - float(along[feature]) ** 2 / own, 0.0)
        mean = at + shape * (along[feature] / own)
        return mean_curvature(mean, np.full(len(shape), rest))
