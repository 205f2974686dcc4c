"""The federated additive model: label histograms, score moments, then sums of residuals.

The histograms give each feature a shape of its own; the moments say how much each shape counts
beside the others; what is left, the residuals correct cell by cell. Messages are the currency, so
each sum is used for all that it can tell (decision 0015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy import classifier_recipes
from kesit_privacy.features import FloatArray, Numeric
from kesit_privacy.queries import ResidualSums
from kesit_privacy.scorecard import LARGEST, LOGIT, Cells, Scorecard
from kesit_privacy.study import Study
from kesit_privacy.target import Side, held_out
from kesit_server.classification import picture
from kesit_server.classification.labels import SCALE, Labels, labels_query, whole_weights
from kesit_server.classification.moments import Scores, Slopes, slopes
from kesit_server.classification.shapes import SMALL_SIZES, shape
from kesit_server.sums import Sums

STEP = 0.7
"""Part of a Newton step that is taken: its curvature is a picture, not a measurement."""

LARGEST_STEP = 1.0
"""Most log odds that one sum may move a cell."""

FLATTEST = 0.5
"""Least curvature of a cell, in that of the class as a whole: where chances are near 0 or 1, the
picture's is too small to step by."""


@dataclass(frozen=True)
class Fitted:
    """An additive model, and how far to trust it.

    Attributes:
        spreads: for each feature (cells, logits) standard deviations of the shape, in logits.
    """

    model: Scorecard
    labels: Labels
    spreads: tuple[FloatArray, ...]


def fit(federation: Sums) -> Fitted:
    """Train over a federation whose hello is done.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for a sum.
    """
    study = federation.study
    first = labels_query(study)
    labels = Labels.of(first, federation.sum("labels", first))
    odds, first_spreads, freedom = _alone(labels)
    scores = Scores.of(labels, odds)
    second = scores.query(study)
    found = slopes(second, federation.sum("moments", second), scores)
    two = len(labels.shares) == 2
    learners = [Learner(scores, found, 1 if two else c, two) for c in range(labels.target.logits)]
    for step in classifier_recipes.rounds(study):
        query = _residuals(study, _model(labels, learners), freedom)
        opened = federation.sum(step, query)
        noise = opened.sigma / query.amplitudes
        parts = query.split(opened.values)
        for place, learner in enumerate(learners):
            learner.learn([part[:, place] for part in parts], noise)
    spreads = tuple(
        np.stack([learner.spread(k, first_spreads[k]) for learner in learners], axis=1)
        for k in range(len(labels.counts))
    )
    return Fitted(_model(labels, learners), labels, spreads)


def _alone(labels: Labels) -> tuple[list[FloatArray], list[FloatArray], FloatArray]:
    """Each feature's own log odds (cells, classes), their standard deviations (cells,), and how
    many cells' worth it tells."""
    odds, spreads, freedom = [], [], []
    for k in range(len(labels.counts)):
        if len(labels.shares) == 2:  # one class's odds are the other's, upside down
            found = [labels.odds(k, 1)]
            own = [-found[0].mean, found[0].mean]
        else:
            found = [labels.odds(k, c) for c in range(len(labels.shares))]
            own = [posterior.mean for posterior in found]
        odds.append(np.stack([labels.centred(k, values) for values in own], axis=1))
        spreads.append(np.mean([posterior.sd for posterior in found], axis=0))
        freedom.append(max(posterior.freedom for posterior in found))
    return odds, spreads, np.array(freedom)


def _residuals(study: Study, model: Scorecard, freedom: FloatArray) -> ResidualSums:
    """The query for what the model gets wrong; features that tell more get more weight."""
    params = {
        "held": Side(*held_out(study), inside=False).params(),
        "model": model.params(),
        "bins": study.classifying.bins,
        "weights": whole_weights(np.maximum(freedom, 1) ** 0.25),
    }
    return ResidualSums.bind(study, params, scale_bits=SCALE)


def _model(labels: Labels, learners: list[Learner]) -> Scorecard:
    """The learners' shapes in whole points."""

    def points(values: FloatArray) -> list[int]:
        return [int(v) for v in np.clip(np.rint(values * LOGIT), -LARGEST, LARGEST)]

    parts = []
    for k in range(len(labels.counts)):
        cells = np.stack([learner.shapes[k] * learner.scale for learner in learners], axis=1)
        parts.append(Cells(tuple(tuple(points(cell)) for cell in cells)))
    intercept = points(np.array([learner.intercept for learner in learners]))
    return Scorecard(labels.space, tuple(intercept), tuple(parts))


class Learner:
    """One logit's shapes, corrected after each sum of residuals.

    A residual tells, cell by cell, the curvature times what the shape lacks. The curvature couples
    the features in one direction each, that of their scores (`Slopes.alike`): there the step is a
    joint one; across it, each feature takes its own, drawn towards smooth and small by
    `shapes.shape`. Every sum so far counts: an earlier one is carried to where the shapes stand.
    """

    def __init__(self, scores: Scores, found: Slopes, kind: int, two: bool) -> None:
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
        for k, (score, curvature) in enumerate(zip(self._scores, curvatures, strict=True)):
            ordered = isinstance(self.labels.space.features[k], Numeric)
            own = shape(
                goal[k] - told[k], curvature, float(variance[k]), ordered=ordered, sizes=SMALL_SIZES
            )
            fine = self.labels.centred(k, own.mean)
            fine = fine - score * (float((score * curvature) @ fine) / coupling.own[k])
            step = self._start[k] + joint[k] + fine - self.shapes[k]
            self.shapes[k] = self.shapes[k] + STEP * np.clip(step, -LARGEST_STEP, LARGEST_STEP)

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
