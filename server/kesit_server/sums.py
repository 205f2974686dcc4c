"""What is asked and what is opened: a noisy sum, and whoever answers with one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from kesit_privacy.features import FloatArray, IntArray
from kesit_privacy.queries import Query
from kesit_privacy.study import Study


@dataclass(frozen=True)
class NoisySum:
    """An opened sum.

    Attributes:
        values: (length,) in natural units (a customer counted once is 1).
        sigma: standard deviation of the noise on each value, all members' shares together.
        canaries: (count,) the tail, in lattice units.
    """

    step: str
    values: FloatArray
    sigma: float
    roster: int
    attempt: int
    canaries: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Sums(Protocol):
    """Who answers queries: a federation, or a rehearsal of one."""

    @property
    def study(self) -> Study:
        """The study."""

    @property
    def noisy(self) -> bool:
        """Whether there is noise at all (simulations may leave it out)."""

    def noise_ahead(self, step: str, delta: float) -> float:
        """σ of the next sum at that sensitivity."""

    def sum(self, step: str, query: Query) -> NoisySum:
        """The noisy sum.

        Raises:
            BudgetError: too little is left of the budget for this step.
        """

    def note(self, text: str) -> None:
        """Tell whoever watches."""
