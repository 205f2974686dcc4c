"""Curvature within features: how much larger p(1-p) is in some of a feature's cells than in others.

Where one class is rare, a few cells may hold most of the curvature: a step by its mean would be
many times too long there. The Gaussian picture of the log odds, given a feature's cell, has mean
at + x·S_g⁻¹·(Sβ)_g and what the feature leaves of the variance; its mean p(1-p) is the cell's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.coordinates import UNIT, table
from kesit_privacy.features import FloatArray, IntArray
from kesit_server.classification.training.gram import Gram
from kesit_server.classification.training.population import population

BINS = 32
"""Cells of a number; it is for a mean only."""


@dataclass(frozen=True)
class Within:
    """A feature's cells.

    Attributes:
        places: (d_g,) its coefficients among the d; x: (cells, d_g) coordinates from their means.
        counts: (cells,) customers.
    """

    places: IntArray
    x: FloatArray
    counts: FloatArray

    @classmethod
    def all_of(cls, gram: Gram) -> tuple[Within, ...]:
        """Those of every feature."""
        starts = gram.coordinates.offsets
        sizes = population(gram, BINS).sizes
        found = []
        for k, feature in enumerate(gram.coordinates.space.features):
            basis = gram.basis[starts[k] : starts[k + 1]][:, gram.groups[k]]
            x = table(feature, BINS) / UNIT @ basis - gram.means[gram.groups[k]]
            found.append(cls(gram.groups[k], x, sizes[k]))
        return tuple(found)

    def log_odds(
        self, spread: FloatArray, along: FloatArray, at: float, total: float
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the log odds in each cell, (cells,) each.

        Args:
            spread: (d, d) of all coefficients; along: (d,) spread·β.
            at: the intercept; total: variance of the log odds, times customers.
        """
        own = spread[np.ix_(self.places, self.places)]
        slopes = np.linalg.solve(own, along[self.places])
        rest = max(total - float(along[self.places] @ slopes), 0.0) / max(self.counts.sum(), 1.0)
        return at + self.x @ slopes, np.full(len(self.x), rest)

    def stretch(self, weights: FloatArray, mean: float, noise: float) -> FloatArray:
        """T (d_g, d_g): T·S_g·Tᵀ is the feature's curvature for its spread S_g.

        Args:
            mean: of p(1-p), over all cells; noise: in the spread, below which nothing is told.
        """
        ridge = noise * np.eye(self.x.shape[1])
        even = (self.x * self.counts[:, None]).T @ self.x + ridge
        curved = (self.x * (self.counts * weights)[:, None]).T @ self.x + mean * ridge
        found: FloatArray = _power(curved, 0.5) @ _power(even, -0.5)
        return found

    def tilt(self, weights: FloatArray, mean: float) -> FloatArray:
        """Σ (p(1-p) - mean)·x, (d_g,): how the curvature goes with the feature."""
        return (self.counts * (weights - mean)) @ self.x


def _power(matrix: FloatArray, power: float) -> FloatArray:
    roots, axes = np.linalg.eigh(matrix)
    found: FloatArray = (axes * np.maximum(roots, 1e-9 * roots.max()) ** power) @ axes.T
    return found
