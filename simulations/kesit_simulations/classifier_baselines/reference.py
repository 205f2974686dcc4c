"""Baselines without privacy: a linear model and boosted trees, all rows in one place."""

from __future__ import annotations

from kesit_privacy.features import Categorical, FloatArray
from kesit_simulations.classifier_baselines.problem import ClassifierProblem, spread

MAX_STEPS = 1000
"""Enough for L-BFGS to converge on columns in [0, 1]; scikit-learn's 100 sometimes are not."""

MOST_LEVELS = 255
"""scikit-learn's limit for a categorical column of boosted trees; a longer list is a number."""


def logistic(problem: ClassifierProblem) -> FloatArray:
    """scikit-learn's `LogisticRegression` (L2, C = 1) on `x`; shape (held out, classes)."""
    from sklearn.linear_model import LogisticRegression  # imported on first use: it takes a second

    model = LogisticRegression(max_iter=MAX_STEPS)
    model.fit(problem.x[problem.train], problem.labels[problem.train])
    found: FloatArray = model.predict_proba(problem.x[~problem.train])
    return spread(found, model.classes_, problem.classes)


def boosting(problem: ClassifierProblem) -> FloatArray:
    """scikit-learn's `HistGradientBoostingClassifier` on `table`; shape (held out, classes).

    Default settings; missing numbers stay missing, and categories are told as such. From 10,000
    rows on, scikit-learn sets a tenth of the training rows aside to stop early.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    categorical = [
        isinstance(feature, Categorical) and feature.cells <= MOST_LEVELS
        for feature in problem.features
    ]
    model = HistGradientBoostingClassifier(
        categorical_features=categorical, random_state=problem.random_state
    )
    model.fit(problem.table[problem.train], problem.labels[problem.train])
    found: FloatArray = model.predict_proba(problem.table[~problem.train])
    return spread(found, model.classes_, problem.classes)
