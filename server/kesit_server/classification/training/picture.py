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


def sigmoid(values: FloatArray) -> FloatArray:
    """1/(1 + exp(-x)), without overflow."""
    found: FloatArray = 1 / (1 + np.exp(-np.clip(values, -30, 30)))
    return found


def mean_curvature(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """E p(1-p) for log odds of these means and variances, of any shape."""
    chance = sigmoid(mean[..., None] + np.sqrt(variance)[..., None] * _NODES)
    found: FloatArray = (chance * (1 - chance)) @ _WEIGHTS
    return found


def bends(at: float, variance: float) -> tuple[float, float]:
    """E[w·z] and E[w·(z² - 1)] of w = p(1-p) for log odds at + √variance·z, z standard normal.

    They are the first and second derivative of w along z, on average (Stein's lemma).
    """
    chance = sigmoid(at + np.sqrt(variance) * _NODES)
    weighted = chance * (1 - chance) * _WEIGHTS
    return float(weighted @ _NODES), float(weighted @ (_NODES**2 - 1))


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
