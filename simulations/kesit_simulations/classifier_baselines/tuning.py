"""The same tuning for every baseline that is tuned: the best of eight settings, for nothing.

Two divisions of the *training* rows into three quarters and a quarter; each setting learns from the
one at the whole (ε, δ) and is scored (AUC) on the other; the best in the mean learns once more from
all training rows. Nothing is paid for the sixteen looks and the choice, which flatters the
baseline: a curator would have to divide its ε among them or have a public table like this one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from kesit_privacy.features import FloatArray, IntArray
from kesit_simulations.classifier_baselines.metrics import auc
from kesit_simulations.classifier_baselines.problem import ClassifierProblem

Settings = TypeVar("Settings")

SETTINGS = 8
"""How many settings every grid holds: tuning is no contest of patience."""

DIVISIONS = 2
FIRST_STREAM = 2000


def tuned(
    problem: ClassifierProblem,
    grid: Sequence[Settings],
    fit: Callable[[ClassifierProblem, Settings], FloatArray],
) -> FloatArray:
    """What `fit` gives with the best setting of the grid; shape (held out, classes)."""
    return fit(problem, best(problem, grid, fit))


def best(
    problem: ClassifierProblem,
    grid: Sequence[Settings],
    fit: Callable[[ClassifierProblem, Settings], FloatArray],
) -> Settings:
    """The setting of the highest mean AUC inside the training rows; of equals the first.

    The first, too, if a class has fewer than two training rows: nothing could be scored.
    """
    if min(np.bincount(problem.labels[problem.train], minlength=problem.classes)) < 2:
        return grid[0]
    trials = [trial(problem, turn) for turn in range(DIVISIONS)]
    scores = [
        np.mean([auc(one.held_labels, fit(one, setting)) for one in trials]) for setting in grid
    ]
    return grid[int(np.argmax(scores))]


def trial(problem: ClassifierProblem, turn: int) -> ClassifierProblem:
    """A task of the training rows alone: of each class a quarter, one at least, is held out."""
    rng = problem.generator(FIRST_STREAM + turn)
    rows = np.flatnonzero(problem.train)
    learn: list[IntArray] = []
    score: list[IntArray] = []
    for one in range(problem.classes):
        members = rng.permutation(rows[problem.labels[rows] == one])
        cut = max(1, len(members) // 4)
        score.append(members[:cut])
        learn.append(members[cut:])
    return problem.among(
        np.sort(np.concatenate(learn)), np.sort(np.concatenate(score)), FIRST_STREAM + turn
    )
