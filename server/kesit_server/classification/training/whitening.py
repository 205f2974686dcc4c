"""Along which directions to ask for residuals: those that promise most, each as loud as it pays.

A sum of z·(y - p) has noise by the longest z. For directions with weights √t_i on the axes of the
coefficients' prior and the spread, what is left unknown of the log odds is least for
t_i = max(0, √(v/c_i) - 1/c_i), c_i = (curvature·λ_i/noise)², with one v for which a usual z has
length 1 (reverse water-filling; with little noise it whitens).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.coordinates import UNIT
from kesit_privacy.features import FloatArray
from kesit_privacy.queries import GradientSums
from kesit_privacy.queries.gradients import MAX_DIRECTIONS
from kesit_privacy.scorecard import Scorecard
from kesit_privacy.study import Study
from kesit_server.classification.training.gram import SCALE, Gram

RADIUS = 1 << 12
"""Longest z, in steps."""

ROOM = 1.5
"""Longest z, in the length that it usually has."""

SHIFT = 10
"""Bits of a direction's whole numbers below a step."""

FARTHEST = 2.0**9
"""Longest z of any conceivable row along one direction; one that reaches farther is left out."""

LEAST_NOISE = 1e-3


@dataclass(frozen=True)
class Whitening:
    """Directions of a sum of residuals.

    Attributes:
        directions: (r, 1 + d) of the constant (the first alone) and the centred coordinates; rows
            whose z is longer than 1 are clipped.
    """

    gram: Gram
    directions: FloatArray

    @classmethod
    def of(cls, gram: Gram, prior: FloatArray, curvature: float, noise: float) -> Whitening:
        """For coefficients with this prior (d,), a mean p(1-p), and noise for a z of length 1."""
        scale = np.sqrt(prior)
        roots, axes = np.linalg.eigh(gram.spread * np.outer(scale, scale))
        roots = np.maximum(roots, 1e-9 * roots.max())
        clear = (curvature * roots / max(noise, LEAST_NOISE)) ** 2
        weights = _filled(roots, clear, gram.customers)
        found = (axes * np.sqrt(weights)).T * scale
        told = weights * roots
        reach = np.abs(found @ gram.basis.T).sum(axis=1)
        kept = (told > 1e-6 * told.max()) & (reach < FARTHEST)
        kept &= told >= np.sort(told)[-min(len(told), MAX_DIRECTIONS - 1)]
        told = told[kept]
        constant = math.sqrt(float((told**2).sum())) / float(told.sum())  # as one of the directions
        directions = np.zeros((1 + len(told), 1 + len(scale)))
        directions[0, 0] = constant
        directions[1:, 1:] = found[kept]
        return cls(gram, directions / (ROOM * math.sqrt(1 + constant**2)))

    def query(self, study: Study, held: list[int], model: Scorecard) -> GradientSums:
        """The query for what the model gets wrong along the directions.

        Args:
            held: parts of customers who are not counted.
        """
        steps = RADIUS * 2.0**SHIFT * self.directions
        along = np.rint(steps[:, 1:] @ self.gram.basis.T / UNIT)
        centre = self.gram.basis @ self.gram.means * UNIT
        offsets = np.rint(steps[:, 0] - along @ centre) + 2 ** (SHIFT - 1)  # to the nearest step
        params = {
            "held": held,
            "model": model.params(),
            "directions": along.astype(int).tolist(),
            "offsets": offsets.astype(int).tolist(),
            "shift": SHIFT,
            "radius": RADIUS,
        }
        return GradientSums.bind(study, params, scale_bits=SCALE)


def _filled(roots: FloatArray, clear: FloatArray, customers: float) -> FloatArray:
    """Weights t with Σ t·λ = customers, by bisection on the logarithm of v."""

    def weights(log: float) -> FloatArray:
        filled: FloatArray = np.maximum(math.exp(log) / np.sqrt(clear) - 1 / clear, 0)
        return filled

    low, high = -80.0, 80.0
    for _ in range(100):
        middle = (low + high) / 2
        if float(weights(middle) @ roots) < customers:
            low = middle
        else:
            high = middle
    return weights(high)
