"""What every baseline is given, what it gives back, and how it is scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, FloatArray, IntArray
from kesit_privacy.study import Study
from kesit_simulations.errors import SimulationError

if TYPE_CHECKING:  # at run time a process that only fits baselines needs neither Flower nor Polars
    from kesit_simulations.plan import SimulationPlan
    from kesit_simulations.runner import Customers

CHUNK_CELLS = 1 << 22
"""Distances held at once while scoring: 32 MiB."""


@dataclass(frozen=True)
class Problem:
    """One k-means task, the same for all baselines.

    Attributes:
        rows: (n, d) coordinates of all customers, every one of them in [0, 1] (public bounds).
        parts: row numbers of each client: every row is at one client; a client may have none.
        k: number of segments.
        epsilon, delta: the whole budget of a private baseline, add/remove of one customer.
        max_colluders: c; a *federated* baseline among m clients opens noise of √(m/(m-c)) times the
            charged standard deviation, so that c members who subtract their own shares still face
            the charged noise. A central baseline does not look at it.
        seed: of everything random in `fit`.

    Raises:
        SimulationError: no rows, a coordinate outside the box, or numbers that make no task.
    """

    rows: FloatArray
    parts: tuple[IntArray, ...]
    k: int
    epsilon: float
    delta: float
    max_colluders: int
    seed: int

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or 0 in self.rows.shape:
            raise SimulationError(
                f"A baseline needs a table of rows and columns, not the shape {self.rows.shape}.",
                remedy="Give at least one row with at least one coordinate.",
            )
        if not ((self.rows >= 0) & (self.rows <= 1)).all():  # NaN fails too
            raise SimulationError(
                "A row has a coordinate outside [0, 1].",
                remedy="Scale the rows by the features' public bounds; `problem_of` does.",
            )
        budget = 0 < self.epsilon < math.inf and 0 < self.delta < 1
        if not (self.k >= 1 and budget and self.seed >= 0):
            raise SimulationError(
                f"k = {self.k}, epsilon = {self.epsilon:g}, delta = {self.delta:g} and"
                f" seed = {self.seed} make no task.",
                remedy="Use k >= 1, a finite epsilon > 0, a delta between 0 and 1, and seed >= 0.",
            )
        held = np.concatenate([*self.parts, np.empty(0, dtype=np.int64)])
        if not np.array_equal(np.sort(held), np.arange(len(self.rows))):
            raise SimulationError(
                f"The clients' {len(held)} row numbers are not those of the {len(self.rows)} rows,"
                " each once.",
                remedy="Divide the rows with `kesit_simulations.plan.divide`.",
            )
        if not 0 <= self.max_colluders < len(self.parts):
            raise SimulationError(
                f"{len(self.parts)} clients cannot hold against {self.max_colluders} colluders.",
                remedy="Use more clients, or a smaller max_colluders.",
            )

    @property
    def dimensions(self) -> int:
        """Number of coordinates, d."""
        return int(self.rows.shape[1])

    @property
    def random_state(self) -> int:
        """The seed in the form that scikit-learn takes."""
        return self.seed % (1 << 31)

    @property
    def federated_factor(self) -> float:
        """√(m/(m-c)): the opened standard deviation of a federated sum over the charged one."""
        clients = len(self.parts)
        return float(np.sqrt(clients / (clients - self.max_colluders)))

    def generator(self, stream: int) -> np.random.Generator:
        """A generator of its own for each use (`stream`), so that uses do not disturb others."""
        return np.random.default_rng([self.seed, stream])


@dataclass(frozen=True)
class Baseline:
    """Something to compare a segmentation with.

    Attributes:
        name: its key in `BASELINES`.
        title: one line, for legends.
        private: whether the result depends on epsilon (and delta).
        trust: who must be trusted with what; baselines differ in this above all.
        fit: gives centres inside the box, shape (k, d), or (m, k, d) where m parties end up with
            centres of their own (`alone`). `inertia` scores both forms.
    """

    name: str
    title: str
    private: bool
    trust: str
    fit: Callable[[Problem], FloatArray]


def inertia(rows: FloatArray, centres: FloatArray) -> float:
    """Sum over the rows of the squared distance to the nearest centre.

    Args:
        rows: (n, d).
        centres: (k, d), or (m, k, d) for m sets of centres, whose mean inertia is returned.
    """
    sets = centres if centres.ndim == 3 else centres[None]
    return float(np.mean([_inertia(rows, one) for one in sets]))


def _inertia(rows: FloatArray, centres: FloatArray) -> float:
    total = 0.0
    size = max(1, CHUNK_CELLS // (len(centres) * rows.shape[1]))
    for start in range(0, len(rows), size):
        # Differences, not ‖x‖² - 2xc + ‖c‖²: exact where rows lie on their centre.
        offsets = rows[start : start + size, None, :] - centres[None]
        total += float(np.einsum("nkd,nkd->nk", offsets, offsets).min(axis=1).sum())
    return total


def problem_of(study: Study, plan: SimulationPlan, customers: Customers) -> Problem:
    """A simulated study as a task for baselines.

    Rows are the study's own coordinates over `GRID`. A missing number stands at the mean of its
    feature's present ones: a baseline is given that for nothing, where a study must pay for it.
    """
    space = Embedding.of(study)
    fill = []
    for feature, column in zip(space.features, space.columns, strict=True):
        present = customers.codes[:, column]
        present = present[present >= 0]
        numeric = feature.kind == "numeric" and len(present) > 0
        fill.append(round(float(present.mean())) if numeric else 0)
    return Problem(
        rows=space.expand(customers.codes, tuple(fill)) / GRID,
        parts=customers.parts,
        k=study.segmenting.k,
        epsilon=study.epsilon,
        delta=study.delta,
        max_colluders=study.roster.max_colluders,
        seed=plan.seed,
    )
