"""Logistic regression with a private second moment: one sum of moments, then sums of gradients.

The second moments and the classes' sums give a first model in one sum; whitened sums of what it
gets wrong correct it. A number's shape may bend once (`kesit_privacy.coordinates`), and comes out
as a table of cells, so that it is read, scored and explained like any additive model.
"""

from __future__ import annotations

import math

import numpy as np

from kesit_privacy.cells import MAX_BINS
from kesit_privacy.coordinates import UNIT, table
from kesit_privacy.features import FloatArray
from kesit_privacy.scorecard import LARGEST, LOGIT, Cells, Scorecard
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold
from kesit_server.classification.training.gram import Gram, moments_query
from kesit_server.classification.training.learner import Learner, Residuals
from kesit_server.classification.training.population import population
from kesit_server.classification.training.whitening import Whitening
from kesit_server.classification.training.within import Within

BINS = 128
"""Cells of a number's shape at least: it is smooth, so more cells cost nothing but room."""


def fit(fold: Fold) -> Fitted:
    """Train over a federation whose hello is done.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for a sum.
    """
    study = fold.study
    first = moments_query(study, fold.counted)
    declared = study.declared_customers * (1 - fold.share)
    gram = Gram.of(first, fold.sum("second-moments", first), declared)
    shape = Shape(gram, min(MAX_BINS, max(BINS, study.classifying.bins)))
    for step in fold.rounds():
        prior = np.mean([learner.found.prior[1:] for learner in shape.learners], axis=0)
        curvature = float(np.mean([learner.curvature().mean for learner in shape.learners]))
        spread = math.sqrt(1 if gram.target.logits == 1 else 2)
        white = Whitening.of(gram, prior, curvature, fold.noise_ahead(step, spread))
        query = white.query(study, fold.counted, shape.model())
        opened = fold.sum(step, query)
        values = query.split(opened.values) / query.radius
        noise = opened.sigma / (query.step * query.radius)
        for place, learner in enumerate(shape.learners):
            seen = Residuals(values[:, place], noise**2, learner.values, white.directions)
            learner.learn(seen)
    return Fitted(shape.model(), population(gram, shape.bins), shape.spreads())


class Shape:
    """The learners' coefficients as a scorecard of cells.

    For more than two classes a learner holds the log odds against all others; its logit is (1 -
    share) of that, because what one class wins the others lose together.
    """

    def __init__(self, gram: Gram, bins: int) -> None:
        self.gram, self.bins = gram, bins
        two = gram.target.logits == 1
        kinds = [1] if two else range(len(gram.shares))
        within = Within.all_of(gram)
        self.learners = [
            Learner(gram, within, place, float(gram.shares[kind]))
            for place, kind in enumerate(kinds)
        ]
        self._scales = [1.0 if two else 1 - learner.share for learner in self.learners]
        self._tables = [self._centred(place) for place in range(len(gram.groups))]

    def _centred(self, place: int) -> FloatArray:
        """Coordinates of a feature's cells from their mean, on the basis, (cells, d).

        Shapes that are not centred can add up to more than the points of an intercept can hold.
        """
        gram, own = self.gram, self.gram.groups[place]
        start, end = gram.coordinates.offsets[place : place + 2]
        found = table(gram.coordinates.space.features[place], self.bins) / UNIT
        rows: FloatArray = found @ gram.basis[start:end]
        rows[:, own] -= gram.means[own]
        return rows

    def model(self) -> Scorecard:
        """In whole points."""
        values = np.stack(
            [
                scale * learner.values
                for scale, learner in zip(self._scales, self.learners, strict=True)
            ],
            axis=1,
        )
        parts = [Cells(_points(rows @ values[1:])) for rows in self._tables]
        intercept = _points(self._intercepts()[None])[0]
        return Scorecard(self.gram.coordinates.space, intercept, tuple(parts))

    def _intercepts(self) -> FloatArray:
        if len(self.learners) == 1:
            return self.learners[0].values[:1]
        shares = self.gram.shares
        odds = np.array([learner.values[0] for learner in self.learners])
        found: FloatArray = np.log(shares) + (1 - shares) * (odds - np.log(shares / (1 - shares)))
        return found

    def spreads(self) -> tuple[FloatArray, ...]:
        """For each feature (cells, logits): standard deviation of the shape, in logits."""
        found = []
        for rows in self._tables:
            variances = [
                scale**2 * np.einsum("ij,jk,ik->i", rows, learner.found.covariance[1:, 1:], rows)
                for scale, learner in zip(self._scales, self.learners, strict=True)
            ]
            found.append(np.sqrt(np.maximum(np.stack(variances, axis=1), 0)))
        return tuple(found)


def _points(values: FloatArray) -> tuple[tuple[int, ...], ...]:
    whole = np.clip(np.rint(values * LOGIT), -LARGEST, LARGEST).astype(int)
    return tuple(tuple(row) for row in whole.tolist())
