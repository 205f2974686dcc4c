"""A study gone through again with its own synopsis in the customers' place, and fresh noise.

A parametric bootstrap: what differs between rehearsals, the noise decides. It asks nobody and sees
released values alone, so it costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kesit_privacy.errors import BudgetError
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_server.segmentation.responses import responses
from kesit_server.segmentation.synopsis import Synopsis
from kesit_server.sums import NoisySum


@dataclass(frozen=True)
class Rehearsal:
    """Who answers in a rehearsal: `customers`, with noise of each step's σ as it was released.

    Steps that the run itself could not afford are not affordable here.
    """

    study: Study
    customers: Synopsis
    noisy: bool
    rng: np.random.Generator

    def noise_ahead(self, step: str, delta: float) -> float:
        """σ of that step as it was released, for a query of sensitivity 1."""
        return self._sigma(step) * delta

    def sum(self, step: str, query: Query) -> NoisySum:
        """The synopsis' own sum with fresh noise, if the run had any.

        Raises:
            BudgetError: the run has released no such step.
        """
        sigma = self._sigma(step)
        exact = responses(query, self.customers.codes).T @ self.customers.weights
        noise = self.rng.normal(0, sigma, query.length) if self.noisy else 0.0
        return NoisySum(step, exact + noise, sigma, 0, 1)

    def note(self, text: str) -> None:
        """Nobody watches a rehearsal."""

    def _sigma(self, step: str) -> float:
        for released in self.customers.released:
            if released.step == step:
                return released.sigma
        raise BudgetError(f"{step} was not released.", remedy="Rehearse what the run released.")
