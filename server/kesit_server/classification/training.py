"""Training: the estimator that the study names, over whoever answers sums."""

from __future__ import annotations

from collections.abc import Callable

from kesit_server.classification import additive, logistic, neural
from kesit_server.classification.fitted import Fitted
from kesit_server.sums import Sums

ESTIMATORS: dict[str, Callable[[Sums], Fitted]] = {
    "additive": additive.fit,
    "logistic": logistic.fit,
    "neural": neural.fit,
}
"""By name; `classifier_recipes.settled` has put one of them for `auto`."""


def fit(federation: Sums) -> Fitted:
    """Train the study's estimator over a federation whose hello is done.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for a sum.
    """
    return ESTIMATORS[federation.study.classifying.estimator](federation)
