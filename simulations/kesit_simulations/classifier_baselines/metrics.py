"""How held-out probabilities are scored: one number for two classes, a plain mean for several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kesit_privacy.features import FloatArray, IntArray
from kesit_simulations.errors import SimulationError


def auc(labels: IntArray, probabilities: FloatArray) -> float:
    """Area under the ROC curve: scikit-learn's `roc_auc_score`; 0.5 is chance.

    Several classes: the mean over classes of each against the rest, whatever their sizes ("macro,
    one-vs-rest"). Classes that no label has, or all have, are left out.

    Args:
        labels: (n,), in 0 .. classes-1.
        probabilities: (n, classes), or (m, n, classes) for m models, whose mean AUC is returned.

    Raises:
        SimulationError: the labels are all of one class, or of another number than probabilities.
    """
    from sklearn.metrics import roc_auc_score  # imported on first use: it takes a second

    return _score(labels, probabilities, roc_auc_score)


def average_precision(labels: IntArray, probabilities: FloatArray) -> float:
    """scikit-learn's `average_precision_score`; chance is the class' share.

    Args, several classes, errors: as in `auc`. With two classes, class 1 is looked for.
    """
    from sklearn.metrics import average_precision_score

    return _score(labels, probabilities, average_precision_score)


def _score(
    labels: IntArray, probabilities: FloatArray, metric: Callable[[IntArray, FloatArray], float]
) -> float:
    models = probabilities if probabilities.ndim == 3 else probabilities[None]
    if models.shape[1] != len(labels):
        raise SimulationError(
            f"{len(labels)} labels cannot score probabilities of {models.shape[1]} rows.",
            remedy="Score what `fit` returns with `held_labels` of the same problem.",
        )
    present = np.unique(labels)
    if len(present) < 2:
        raise SimulationError(
            "All held-out rows are of one class; no ranking can be scored.",
            remedy="Hold out more rows.",
        )
    looked_for = np.array([1]) if models.shape[2] == 2 else present
    scores = [
        metric((labels == one).astype(np.int64), model[:, one])
        for model in models
        for one in looked_for
    ]
    return float(np.mean(scores))
