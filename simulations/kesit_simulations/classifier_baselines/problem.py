"""What every baseline classifier is given and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kesit_privacy.features import (
    GRID,
    MISSING_NUMERIC,
    CodeArray,
    Feature,
    FloatArray,
    IntArray,
    Numeric,
)
from kesit_simulations.classifier_baselines.design import linear_design, row_norm, tree_table
from kesit_simulations.errors import SimulationError

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassifierProblem:
    """One task of classification, the same for all baselines.

    Attributes:
        features: the public data dictionary, d features without the target.
        codes: (n, d) codes of all customers (`kesit_privacy.features`).
        labels: (n,) classes, in 0 .. classes-1. Those of held-out rows are for scoring only.
        train: (n,) True where a row may be learnt from; the others are held out.
        epsilon, delta: the whole budget of a private baseline.
        seed: of everything random in `fit`.
        parts: row numbers of each client: every row is at one client; a client may have none.
        classes: number of classes that the data dictionary lists.
        may_be_missing: names of features that the data dictionary says may be empty; linear methods
            get an indicator for each. A missing value elsewhere has none.

    Raises:
        SimulationError: shapes, codes, labels, parts or numbers that make no task.
    """

    features: tuple[Feature, ...]
    codes: CodeArray
    labels: IntArray
    train: BoolArray
    epsilon: float
    delta: float
    seed: int
    parts: tuple[IntArray, ...]
    classes: int = 2
    may_be_missing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_codes()
        self._check_labels()
        budget = 0 < self.epsilon < math.inf and 0 < self.delta < 1
        if not (budget and self.seed >= 0):
            raise SimulationError(
                f"epsilon = {self.epsilon:g}, delta = {self.delta:g} and seed = {self.seed} make no"
                " task.",
                remedy="Use a finite epsilon > 0, a delta between 0 and 1, and seed >= 0.",
            )
        held = np.concatenate([*self.parts, np.empty(0, dtype=np.int64)])
        if not np.array_equal(np.sort(held), np.arange(len(self.codes))):
            raise SimulationError(
                f"The clients' {len(held)} row numbers are not those of the {len(self.codes)} rows,"
                " each once.",
                remedy="Divide the rows with `kesit_simulations.plan.divide`.",
            )

    @cached_property
    def x(self) -> FloatArray:
        """All rows as linear methods take them, shape (n, p); see `design.linear_design`."""
        return linear_design(self.features, self.codes, self.may_be_missing)

    @cached_property
    def table(self) -> FloatArray:
        """All rows as tree methods take them, shape (n, d); see `design.tree_table`."""
        return tree_table(self.features, self.codes)

    @property
    def norm(self) -> float:
        """The largest Euclidean norm that a row of `x` can have, by the public schema alone."""
        return row_norm(self.features, self.may_be_missing)

    @property
    def held_labels(self) -> IntArray:
        """Labels of the held-out rows, in the order of what `fit` returns; for scoring only."""
        return self.labels[~self.train]

    @property
    def random_state(self) -> int:
        """The seed in the form that scikit-learn takes."""
        return self.seed % (1 << 31)

    def generator(self, stream: int) -> np.random.Generator:
        """A generator of its own for each use (`stream`), so that uses do not disturb others."""
        return np.random.default_rng([self.seed, stream])

    def among(self, learn: IntArray, score: IntArray, stream: int) -> ClassifierProblem:
        """A smaller task: learn from the rows `learn`, hold out the rows `score`, in this order.

        Args:
            learn, score: row numbers; they must not overlap.
            stream: of the smaller task's seed; tasks that must not share noise have different ones.

        Raises:
            SimulationError: as for any task; among others, `learn` holds one class only.
        """
        rows = np.concatenate([learn, score])
        return replace(
            self,
            codes=self.codes[rows],
            labels=self.labels[rows],
            train=np.arange(len(rows)) < len(learn),
            seed=int(self.generator(stream).integers(1 << 31)),
            parts=(np.arange(len(rows)),),
        )

    def _check_shapes(self) -> None:
        n, d = len(self.labels), len(self.features)
        if self.codes.shape != (n, d) or self.train.shape != (n,) or d == 0:
            raise SimulationError(
                f"Codes of shape {self.codes.shape}, {n} labels, a training mask of shape"
                f" {self.train.shape} and {d} features make no task.",
                remedy="Give one code a row and feature, and one label and one mark a row.",
            )
        if self.train.dtype != np.bool_ or not self.train.any() or self.train.all():
            raise SimulationError(
                "The training mask does not divide the rows in two.",
                remedy="Mark with True and False; hold out at least one row, and learn from one.",
            )

    def _check_codes(self) -> None:
        for place, feature in enumerate(self.features):
            column = self.codes[:, place]
            if isinstance(feature, Numeric):
                low, high, remedy = MISSING_NUMERIC, GRID, "Code a number with `Numeric.encode`."
            else:
                low, high = 0, feature.missing
                remedy = "Code a level by its place in the list of levels."
            if column.min() < low or column.max() > high:
                raise SimulationError(
                    f"{feature.name} has a code outside {low} .. {high}.", remedy=remedy
                )
        unknown = sorted(set(self.may_be_missing) - {feature.name for feature in self.features})
        if unknown:
            raise SimulationError(
                f"{unknown[0]} may be missing, but is no feature.",
                remedy="Name features of this task in may_be_missing.",
            )

    def _check_labels(self) -> None:
        if self.classes < 2 or self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise SimulationError(
                f"Labels from {self.labels.min()} to {self.labels.max()} are not"
                f" {self.classes} classes.",
                remedy="Number the classes from 0, and give their number as `classes`.",
            )
        if len(np.unique(self.labels[self.train])) < 2:
            raise SimulationError(
                "All training rows are of one class; there is nothing to learn.",
                remedy="Divide the rows otherwise, or take another target.",
            )


@dataclass(frozen=True)
class ClassifierBaseline:
    """Something to compare a federated classifier with.

    Attributes:
        name: its key in `BASELINES`.
        title: one line, for legends.
        trust: who must be trusted with what; baselines differ in this above all.
        private: whether the result depends on epsilon (and delta).
        fit: learns from the training rows and gives probabilities of the classes for the held-out
            ones, in their order: shape (held out, classes), or (m, held out, classes) where m
            parties end up with models of their own (`alone`). `metrics` score both forms.
        extra: the optional dependency group it needs, as in `pip install 'kesit[extra]'`, or None.
    """

    name: str
    title: str
    trust: str
    private: bool
    fit: Callable[[ClassifierProblem], FloatArray]
    extra: str | None = None


def spread(probabilities: FloatArray, found: IntArray, classes: int) -> FloatArray:
    """Probabilities of all classes, shape (n, classes); 0 for those that training rows lacked.

    Args:
        probabilities: (n, len(found)).
        found: the classes that the columns stand for.
    """
    if len(found) == classes:
        return probabilities
    whole = np.zeros((len(probabilities), classes))
    whole[:, found] = probabilities
    return whole
