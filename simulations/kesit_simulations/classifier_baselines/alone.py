"""Each client alone: a model of its own rows, scored on everybody's held-out rows.

What a member has if it does not take part. Clients hold different customers, so each has the whole
(ε, δ) for its own model. A client whose training rows are all of one class says that class with
certainty (an AUC of 0.5); a client without training rows has no model and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from kesit_privacy.features import FloatArray, IntArray
from kesit_simulations.classifier_baselines.ibm import diffprivlib_tuned
from kesit_simulations.classifier_baselines.problem import ClassifierProblem, spread
from kesit_simulations.classifier_baselines.reference import logistic

FIRST_STREAM = 1000
"""Of the first client's random numbers; the others' follow."""


def alone_private(problem: ClassifierProblem) -> FloatArray:
    """diffprivlib's tuned logistic regression at each client, at the same ε.

    Returns:
        Shape (clients with training rows, held out, classes).

    Raises:
        SimulationError: diffprivlib is not installed.
    """
    return _each(problem, diffprivlib_tuned)


def alone_clear(problem: ClassifierProblem) -> FloatArray:
    """scikit-learn's logistic regression at each client, without privacy.

    Returns:
        Shape (clients with training rows, held out, classes).
    """
    return _each(problem, logistic)


def _each(problem: ClassifierProblem, fit: Callable[[ClassifierProblem], FloatArray]) -> FloatArray:
    held = np.flatnonzero(~problem.train)
    models = []
    for place, rows in _training_rows(problem):
        if len(np.unique(problem.labels[rows])) > 1:
            models.append(fit(problem.among(rows, held, FIRST_STREAM + place)))
        else:
            certain = np.ones((len(held), 1))
            models.append(spread(certain, problem.labels[rows[:1]], problem.classes))
    return np.stack(models)


def _training_rows(problem: ClassifierProblem) -> Iterator[tuple[int, IntArray]]:
    """Of each client that has any: its place in `parts`, and its training rows."""
    for place, part in enumerate(problem.parts):
        rows = part[problem.train[part]]
        if len(rows):
            yield place, rows
