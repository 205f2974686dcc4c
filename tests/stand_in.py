"""A stand-in for a federation: all rows in one place, or answers that the test makes up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kesit_privacy.errors import BudgetError
from kesit_privacy.features import CodeArray, FloatArray
from kesit_privacy.queries import ClusterSums, Query
from kesit_privacy.study import Study
from kesit_server.sums import NoisySum


@dataclass
class Pooled:
    """What a `Federation` opens, without clients, lattice words and masks.

    Attributes:
        codes: all rows; sums are exact unless `answer` makes them up (natural units).
        sigmas: σ of each step; `ahead` what is expected of it, the same unless given.
        rng: adds noise of that σ; no noise if None.
        unaffordable: steps whose budget is gone.
        asked, notes: what was asked for and told, in order.
    """

    study: Study
    codes: CodeArray
    sigmas: dict[str, float]
    ahead: dict[str, float] = field(default_factory=dict)
    answer: Callable[[str, Query], FloatArray] | None = None
    rng: np.random.Generator | None = None
    unaffordable: tuple[str, ...] = ()
    asked: list[tuple[str, Query]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def steps(self) -> list[str]:
        """Names of the steps that were asked for, in order."""
        return [step for step, _ in self.asked]

    @property
    def noisy(self) -> bool:
        return self.rng is not None

    def noise_ahead(self, step: str, delta: float) -> float:
        return delta * (self.ahead or self.sigmas)[step]

    def sum(self, step: str, query: Query) -> NoisySum:
        if step in self.unaffordable:
            raise BudgetError(f"{step}: nothing is left.", remedy="Agree on a new study.")
        self.asked.append((step, query))
        if self.answer is not None:
            values = self.answer(step, query)
        else:
            values = query.sum(self.codes, chunk=len(self.codes)) / 2.0**query.scale_bits
        if self.rng is not None:
            values = values + self.rng.normal(0, self.sigmas[step], query.length)
        return NoisySum(step, values, self.sigmas[step], 1, 1)

    def note(self, text: str) -> None:
        self.notes.append(text)


def cluster_values(query: ClusterSums, counts: FloatArray, sums: FloatArray) -> FloatArray:
    """The opened values that mean these counts (k,) and centred sums (k, dimensions, grid steps).

    By the row function's own definition: A a row, w_j a grid step.
    """
    unit = 2.0**query.scale_bits
    weights = np.array([query.sum_scale // radius for radius in query.radii])
    weighted = np.asarray(sums) * weights[:, None]
    return np.concatenate([np.asarray(counts) * query.count_scale, weighted.ravel()]) / unit
