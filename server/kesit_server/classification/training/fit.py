"""Training: the estimator that the study names, over whoever answers a fold's sums."""

from __future__ import annotations

from collections.abc import Callable

from kesit_server.classification.training import additive, logistic, neural
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold

ESTIMATORS: dict[str, Callable[[Fold], Fitted]] = {
    "additive": additive.fit,
    "logistic": logistic.fit,
    "neural": neural.fit,
}
"""By name; `classifier_recipes.settled` has put one of them for `auto`."""


def fit(fold: Fold) -> Fitted:
    """Train the study's estimator over a federation whose hello is done; everybody but the held.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for a sum.
    """
    return ESTIMATORS[fold.study.classifying.estimator](fold)
