"""How coordinates add up by class, from the first sum of logistic regression.

Everybody's sums are told twice: by the second moments' first row, and by the classes together. The
two have noises of their own and are averaged by their precision. It matters where one class is
rare: what tells it from the others is its own sum less its share of everybody's, with their noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.coordinates import UNIT
from kesit_privacy.features import FloatArray
from kesit_privacy.queries import SecondMoments
from kesit_privacy.queries.second_moments import CONSTANT, DIFFERENCE, TOGETHER
from kesit_server.sums import NoisySum

UNITS = CONSTANT / UNIT


@dataclass(frozen=True)
class ClassSums:
    """Sums of the constant (first) and the coordinates, in customers.

    Attributes:
        everybody: (1 + coordinates,); by_class: (1 + coordinates, classes).
        noise: standard deviation of `everybody`; class_noise: of `by_class`.
        shared: covariance of the two, per entry.
    """

    everybody: FloatArray
    by_class: FloatArray
    noise: float
    class_noise: float
    shared: float

    @classmethod
    def of(cls, query: SecondMoments, opened: NoisySum) -> ClassSums:
        """From an opened sum."""
        matrix, columns = query.split(opened.values)
        noise, told_noise = query.noise(opened.sigma)
        row, columns = matrix[0] / UNITS, columns / UNITS
        row_noise, told_noise = noise / UNITS / math.sqrt(2), told_noise / UNITS
        two, classes = query.target.logits == 1, len(query.target.classes)
        together = columns[:, 1] / TOGETHER if two else columns.sum(axis=1)
        together_noise = told_noise * (1 / TOGETHER if two else math.sqrt(classes))
        weight = row_noise**2 / (row_noise**2 + together_noise**2)
        everybody = weight * together + (1 - weight) * row
        known = math.sqrt(weight) * together_noise
        if not two:
            shared = weight * told_noise**2
            return cls(everybody, columns, known, told_noise, shared)
        apart = columns[:, 0] / DIFFERENCE
        by_class = np.stack([everybody - apart, everybody + apart], axis=1) / 2
        class_noise = math.hypot(known, told_noise / DIFFERENCE) / 2
        return cls(everybody, by_class, known, class_noise, known**2 / 2)

    def told(self, customers: float) -> FloatArray:
        """Σ (y - share)·(x - mean), shape (coordinates, classes), for that many customers."""
        shares = self.by_class[0] / customers
        found: FloatArray = self.by_class[1:] - self.everybody[1:, None] * shares
        return found

    def told_noise(self, shares: FloatArray) -> FloatArray:
        """Standard deviation of `told`, shape (classes,), where classes have these shares."""
        variance = self.class_noise**2 - 2 * shares * self.shared + (shares * self.noise) ** 2
        found: FloatArray = np.sqrt(np.maximum(variance, 0))
        return found
