"""Small private synopses for tests: lumps of points whose redraws wobble as noise would do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import GRID, FloatArray
from kesit_server.segmentation.lloyd import cluster


@dataclass(frozen=True)
class Lumps:
    """Weighted points; a redraw shifts points and weights by noise of these deviations."""

    points: FloatArray
    weights: FloatArray
    wobble: float = 0.0
    weight_sigma: float = 0.0

    def redrawn(self, rng: np.random.Generator) -> Lumps:
        """The same lumps with fresh noise."""
        points = self.points + rng.normal(0, self.wobble, self.points.shape)
        weights = self.weights + rng.normal(0, self.weight_sigma, self.weights.shape)
        return Lumps(points, np.maximum(weights, 0.1), self.wobble, self.weight_sigma)

    def redraws(self, rng: np.random.Generator, draws: int) -> list[Lumps]:
        """So many redraws."""
        return [self.redrawn(rng) for _ in range(draws)]

    def found(self, rng: np.random.Generator, k: int, draws: int) -> list[FloatArray]:
        """The centres of k-means on so many redraws."""
        return [cluster(each.points, each.weights, k, rng, 3) for each in self.redraws(rng, draws)]


def lumps(
    centres: FloatArray, *, spread: float, each: int = 40, seed: int = 0, wobble: float = 50.0
) -> Lumps:
    """`each` points around every centre (in public ranges), weights of 5 to 15 customers."""
    rng = np.random.default_rng(seed)
    middles = np.repeat(np.asarray(centres, dtype=np.float64) * GRID, each, axis=0)
    points = middles + rng.normal(0, spread * GRID, middles.shape)
    return Lumps(points, rng.uniform(5, 15, len(points)), wobble, 1.0)
