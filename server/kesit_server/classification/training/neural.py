"""A small neural network, trained with DP-SGD at the members and averaged through the masked sum.

A first noisy sum, the label histograms, says how the features lie and how rare each class is: it
centres the inputs and gives the network its first guess. Then each round sends the network out and
takes the mean of what the members made of it, all of them with the same weight: how many customers
each has is nobody's business.
"""

from __future__ import annotations

import numpy as np

from kesit_privacy import classifier_recipes
from kesit_privacy.errors import BudgetError
from kesit_privacy.features import GRID, FloatArray, Numeric
from kesit_privacy.network import (
    LARGEST_SCALE,
    LARGEST_WEIGHT,
    SCALE_BITS,
    WEIGHT,
    WEIGHT_BITS,
    Inputs,
    Network,
    size,
)
from kesit_privacy.queries import TrainedWeights
from kesit_privacy.study import Study
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold
from kesit_server.classification.training.labels import Labels, labels_query

SEED = 17
"""Of the first weights: they must break symmetry, and need be no secret."""


def fit(fold: Fold) -> Fitted:
    """Train over a federation whose hello is done.

    Failed attempts are paid from the same pot, so they cost rounds at the end.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for one round.
    """
    study = fold.study
    first = labels_query(study, fold.counted)
    labels = Labels.of(first, fold.sum("labels", first))
    model, done = start(study, labels), 0
    for step in classifier_recipes.trainings(study):
        try:
            opened = fold.sum(step, _query(fold, model))
        except BudgetError as error:
            if not done:
                raise
            fold.sums.note(f"{step} is left out, failed attempts used its budget: {error.cause}")
            break
        weights = np.rint(opened.values / opened.roster * WEIGHT)
        model, done = _with(model, weights), done + 1
    return Fitted(model, labels, ())


def start(study: Study, labels: Labels) -> Network:
    """The first network: inputs of about unit spread, small weights, the base rates as bias.

    Starting from the features' own log odds was tried and is worse: a unit that stands high enough
    to be linear has so long a gradient that the clip leaves little of the others'.
    """
    assert study.training is not None
    inputs = _inputs(labels)
    hidden, logits = study.training.hidden, labels.target.logits
    rng = np.random.default_rng(SEED)
    spread = np.sqrt(1 / len(labels.space.features))
    parts = [
        rng.normal(0, spread, (hidden, inputs.count)),
        np.zeros(hidden),
        rng.normal(0, np.sqrt(1 / hidden), (logits, hidden)),
        _base(labels.shares),
    ]
    weights = np.concatenate([part.ravel() for part in parts]) * WEIGHT
    empty = Network(inputs, hidden, logits, (0,) * size(inputs, hidden, logits))
    return _with(empty, np.rint(weights))


def _with(model: Network, weights: FloatArray) -> Network:
    whole = np.clip(weights, -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int64).tolist()
    return Network(model.inputs, model.hidden, model.logits, tuple(whole))


def _query(fold: Fold, model: Network) -> TrainedWeights:
    params = {"held": fold.counted, "model": model.params()}
    return TrainedWeights.bind(fold.study, params, WEIGHT_BITS)


def _base(shares: FloatArray) -> FloatArray:
    """Logits of the classes' shares."""
    logs = np.log(shares)
    return np.array([logs[1] - logs[0]]) if len(shares) == 2 else logs - logs.mean()


def _inputs(labels: Labels) -> Inputs:
    """Centres and scales of the numbers, from the noisy histograms."""
    centres, scales = [], []
    for k, feature in enumerate(labels.space.features):
        if not isinstance(feature, Numeric):
            continue
        sizes = labels.sizes[k][:-1]  # the last cell is of missing values
        middles = (np.arange(labels.bins) + 0.5) * GRID / labels.bins
        total = max(float(sizes.sum()), 1.0)
        mean = float(sizes @ middles) / total
        spread = np.sqrt(float(sizes @ (middles - mean) ** 2) / total)
        centres.append(int(np.clip(round(mean), 0, GRID)))
        scale = round((GRID << SCALE_BITS) / max(spread, 1.0))
        scales.append(int(np.clip(scale, 1, LARGEST_SCALE)))
    return Inputs(labels.space, tuple(centres), tuple(scales))
