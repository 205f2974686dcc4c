"""How shapes learn from sums of residuals: one logit's shapes, corrected after each sum."""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import FloatArray, Numeric
from kesit_server.classification.training import picture
from kesit_server.classification.training.coupling import Coupling
from kesit_server.classification.training.moments import Scores, Slopes
from kesit_server.classification.training.shapes import SMALL_SIZES, shape

STEP = 0.7
"""Part of a Newton step that is taken: its curvature is a picture, not a measurement."""

LARGEST_STEP = 1.0
"""Most log odds that one sum may move a cell."""

LARGEST_FINE = 3.0
"""Most log odds by which features may differ on their own account, all together (standard
deviations, added up): features that are alike would each mend the same customers."""

FLATTEST = 0.5
"""Least curvature of a cell, in that of the class as a whole: where chances are near 0 or 1, the
picture's is too small to step by."""


class Learner:
    """One logit's shapes, corrected after each sum of residuals.

    A residual tells, cell by cell, the curvature times what the shape lacks. The curvature couples
    the features in one direction each, that of their scores (`Slopes.alike`): there the step is a
    joint one; across it, each feature takes its own, drawn towards smooth and small by
    `shapes.shape`. Every sum so far counts: an earlier one is carried to where the shapes stand.
    """

    def __init__(
        self, scores: Scores, found: Slopes, kind: int, two: bool, left_out: frozenset[int]
    ) -> None:
        self.labels = scores.labels
        self.share = float(scores.labels.shares[kind])
        self.scale = 1.0 if two else 1 - self.share  # of log odds against all others, in logits
        self._scores = [odds[:, kind] for odds in scores.odds]
        self._variances = scores.variances[:, kind]
        self._picture = found.picture(scores, kind)
        self.shapes = [b * s for b, s in zip(found.values, self._scores, strict=True)]
        self._start = [own.copy() for own in self.shapes]
        self._at = picture.intercept(self._picture.variance(found.values), self.share)
        prior = 0.0 if two else float(np.log(1 - self.share))
        self.intercept = self._at + prior
        self._seen = [np.zeros(len(own)) for own in self.shapes]
        self._weights: list[float] = []
        self._told: list[FloatArray] = []
        self._left_out = left_out

    def spread(self, feature: int, first: FloatArray) -> FloatArray:
        """Standard deviation of the shape, (cells,), in logits.

        Args:
            first: of the feature's own log odds, before any residual was seen. What the residuals
                tell of a cell adds to its precision; nothing is taken from the prior a second time.
        """
        spread: FloatArray = self.scale / np.sqrt(first**-2.0 + self._told[feature])
        return spread

    def learn(self, residuals: list[FloatArray], noise: FloatArray) -> None:
        """Take a step, from a sum of residuals (cells,) and its noise for each feature."""
        curvatures = self._curvatures()
        coupling = Coupling.of(self._scores, curvatures, self._picture)
        left = self._without_intercept(residuals, curvatures, noise)
        ahead = coupling.times(
            [now - then for now, then in zip(self.shapes, self._start, strict=True)]
        )
        weight = len(self._weights) + 1.0  # later sums stand nearer to what is sought
        self._weights.append(weight)
        for seen, now, carried in zip(self._seen, left, ahead, strict=True):
            seen += weight * (now + carried)
        total = sum(self._weights)
        variance = noise**2 * sum(w * w for w in self._weights) / total**2
        goal = [seen / total for seen in self._seen]
        joint = coupling.solve(goal, np.sqrt(variance), self._variances)
        self._step(goal, joint, curvatures, coupling, variance)

    def _step(
        self,
        goal: list[FloatArray],
        joint: list[FloatArray],
        curvatures: list[FloatArray],
        coupling: Coupling,
        variance: FloatArray,
    ) -> None:
        told = coupling.times(joint)
        self._told = [
            curvature**2 / (float(noise) + curvature + 1e-9)
            for curvature, noise in zip(curvatures, variance, strict=True)
        ]
        fines = self._fines(goal, told, curvatures, coupling, variance)
        together = sum(
            float(np.sqrt(fine**2 @ curvature / max(float(curvature.sum()), 1e-9)))
            for fine, curvature in zip(fines, curvatures, strict=True)
        )
        held = min(1.0, LARGEST_FINE / max(together, 1e-9))
        for k, fine in enumerate(fines):
            if k in self._left_out:
                continue
            step = self._start[k] + joint[k] + held * fine - self.shapes[k]
            self.shapes[k] = self.shapes[k] + STEP * np.clip(step, -LARGEST_STEP, LARGEST_STEP)

    def _fines(
        self,
        goal: list[FloatArray],
        told: list[FloatArray],
        curvatures: list[FloatArray],
        coupling: Coupling,
        variance: FloatArray,
    ) -> list[FloatArray]:
        """Each feature's own step, across its score; what all together lack is the joint one's."""
        found = []
        for k, (score, curvature) in enumerate(zip(self._scores, curvatures, strict=True)):
            if k in self._left_out:
                found.append(np.zeros(len(score)))
                continue
            ordered = isinstance(self.labels.space.features[k], Numeric)
            own = shape(
                goal[k] - told[k], curvature, float(variance[k]), ordered=ordered, sizes=SMALL_SIZES
            )
            fine = self.labels.centred(k, own.mean)
            along = float((score * curvature) @ fine) / coupling.own[k]
            found.append(fine - score * along)
        return found

    def _curvatures(self) -> list[FloatArray]:
        """Customers times mean p(1-p) of each cell, by the Gaussian picture."""
        slopes_now = np.array(
            [
                float((shape * score) @ size) / max(float((score**2) @ size), 1e-9)
                for shape, score, size in zip(
                    self.shapes, self._scores, self.labels.sizes, strict=True
                )
            ]
        )
        flattest = FLATTEST * self.share * (1 - self.share)
        return [
            size * np.maximum(self._picture.cell(k, score, self._at, slopes_now), flattest)
            for k, (score, size) in enumerate(zip(self._scores, self.labels.sizes, strict=True))
        ]

    def _without_intercept(
        self, residuals: list[FloatArray], curvatures: list[FloatArray], noise: FloatArray
    ) -> list[FloatArray]:
        """Move the intercept by what all cells lack together, and take it out of the residuals."""
        precision = 1 / (noise**2 * [len(part) for part in residuals])
        lacking = float(np.average([part.sum() for part in residuals], weights=precision))
        step = lacking / max(float(np.mean([part.sum() for part in curvatures])), 1e-9)
        step = float(np.clip(step, -LARGEST_STEP, LARGEST_STEP))
        self._at += STEP * step
        self.intercept += STEP * step * self.scale
        return [part - step * curve for part, curve in zip(residuals, curvatures, strict=True)]
