"""The federated additive model: label histograms, score moments, then sums of residuals.

The histograms give each feature a shape of its own; the moments say how much each shape counts
beside the others; what is left, the residuals correct cell by cell. Messages are the currency, so
each sum is used for all that it can tell (decision 0015).
"""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_privacy.queries import ResidualSums
from kesit_privacy.scorecard import LARGEST, LOGIT, Cells, Scorecard
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold
from kesit_server.classification.training.labels import SCALE, Labels, labels_query, whole_weights
from kesit_server.classification.training.learning import Learner
from kesit_server.classification.training.moments import Scores, slopes


def fit(fold: Fold) -> Fitted:
    """Train over a federation whose hello is done.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for a sum.
    """
    study = fold.study
    first = labels_query(study, fold.counted)
    labels = Labels.of(first, fold.sum("labels", first))
    odds, first_spreads, freedom = _alone(labels)
    left_out = _left_out(labels, odds, study.classifying.keep)
    odds = [values * (k not in left_out) for k, values in enumerate(odds)]
    freedom[list(left_out)] = 0
    scores = Scores.of(labels, odds)
    second = scores.query(study, fold.counted)
    found = slopes(second, fold.sum("moments", second), scores)
    two = len(labels.shares) == 2
    learners = [
        Learner(scores, found, 1 if two else c, two, left_out) for c in range(labels.target.logits)
    ]
    for step in fold.rounds():
        query = _residuals(fold, _model(labels, learners), freedom)
        opened = fold.sum(step, query)
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


def _left_out(labels: Labels, odds: list[FloatArray], keep: int | None) -> frozenset[int]:
    """Places of the features that tell least of the target, but for the `keep` best."""
    if keep is None:
        return frozenset()
    order = np.argsort(-labels.information(odds), kind="stable")
    return frozenset(int(place) for place in order[keep:])


def _residuals(fold: Fold, model: Scorecard, freedom: FloatArray) -> ResidualSums:
    """The query for what the model gets wrong; features that tell more get more weight."""
    params = {
        "held": fold.counted,
        "model": model.params(),
        "bins": fold.study.classifying.bins,
        "weights": whole_weights(np.where(freedom > 0, np.maximum(freedom, 1), 0) ** 0.25),
    }
    return ResidualSums.bind(fold.study, params, scale_bits=SCALE)


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
