"""A curvature of all cells: how a step in one feature's shape moves what others lack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_server.classification.training import picture


@dataclass(frozen=True)
class Coupling:
    """A curvature of all cells: each cell's own, and one direction a feature that they share.

    Attributes:
        own: (features,) curvature along each feature's score; between: (features, features) the
            same across features, with `own` on its diagonal.
    """

    scores: list[FloatArray]
    curvatures: list[FloatArray]
    own: FloatArray
    between: FloatArray

    @classmethod
    def of(
        cls, scores: list[FloatArray], curvatures: list[FloatArray], seen: picture.Picture
    ) -> Coupling:
        """Correlations from the moments, sizes from the cells' curvatures."""
        own = np.array(
            [float(score**2 @ curve) for score, curve in zip(scores, curvatures, strict=True)]
        )
        own = np.maximum(own, 1e-9)
        spread = np.sqrt(np.diag(seen.covariance))
        alike = seen.covariance / np.outer(spread, spread)
        return cls(scores, curvatures, own, alike * np.sqrt(np.outer(own, own)))

    def times(self, shapes: list[FloatArray]) -> list[FloatArray]:
        """The curvature times a set of shapes."""
        along = np.array(
            [
                float((score * curve) @ shape) / own
                for score, curve, shape, own in zip(
                    self.scores, self.curvatures, shapes, self.own, strict=True
                )
            ]
        )
        others = (self.between - np.diag(np.diag(self.between))) @ along / self.own
        return [
            curve * (shape + score * other)
            for curve, shape, score, other in zip(
                self.curvatures, shapes, self.scores, others, strict=True
            )
        ]

    def solve(
        self, goal: list[FloatArray], noise: FloatArray, variances: FloatArray
    ) -> list[FloatArray]:
        """The shapes along the scores that explain the residuals best, damped by their noise."""
        means = np.array(
            [float(part @ score) for part, score in zip(goal, self.scores, strict=True)]
        )
        lengths = np.array([float(np.linalg.norm(score)) for score in self.scores])
        ridge = noise * lengths / np.sqrt(float(variances.mean()))
        found = np.linalg.solve(self.between + np.diag(ridge), means)
        return [slope * score for slope, score in zip(found, self.scores, strict=True)]
