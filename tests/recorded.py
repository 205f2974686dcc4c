"""Whole studies as a white-box audit sees them: recorded from a run, then replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import kit
from kesit_audits.empirical import EmpiricalEpsilon
from kesit_audits.whitebox import ObservedSum, audit, corners, worst_canary
from kesit_privacy import recipes
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.instruction import Instruction
from kesit_privacy.noise import NoiseSource, SeededNoise
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_server.sums import NoisySum
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, simulate

ROWS = 3000


def seeded(*seed: int) -> Callable[[int], NoiseSource]:
    return lambda member: SeededNoise(*seed, member)


@dataclass(frozen=True)
class CountedTwice(Query):
    """A query in whose sums every row counts twice."""

    inner: Query

    @property
    def length(self) -> int:
        return self.inner.length

    @property
    def delta_sq(self) -> int:
        return self.inner.delta_sq

    def params(self) -> dict[str, Any]:
        return self.inner.params()

    @classmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> CountedTwice:
        raise NotImplementedError

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        return 2 * self.inner.sum(codes)


@dataclass(frozen=True)
class RecordedStudy:
    """A simulated study, its customers, and its sums as an adversary knows them.

    `orders` and `opened` are what the server told and what it learnt, in order.
    """

    study: Study
    codes: CodeArray
    sums: tuple[ObservedSum, ...]
    spent_units: int
    orders: tuple[Instruction, ...]
    opened: tuple[NoisySum, ...]

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(order.step for order in self.orders)

    def replaced(self, step: str, **changes: Any) -> list[ObservedSum]:
        """The sums, with changes to that of one step."""
        return [
            replace(seen, **changes) if name == step else seen
            for name, seen in zip(self.steps, self.sums, strict=True)
        ]

    @property
    def canary(self) -> CodeArray:
        """A corner that the sums betray within 0.5 % of the most that they can betray."""
        return worst_canary(self.sums, corners(self.study))

    def audit(
        self, sums: Sequence[ObservedSum] | None = None, **changes: Any
    ) -> tuple[EmpiricalEpsilon, EmpiricalEpsilon]:
        settings = {
            "claimed": self.study.epsilon,
            "delta": self.study.delta,
            "source": seeded(2026),
        }
        return audit(sums or self.sums, self.codes, self.canary, **(settings | changes))


SEED = 1
"""Of the run: of the members' noise, and of the server's restarts and synthetic customers."""

STUDIES = {
    "grid": (kit.small_study, recipes.GRID_PLAN),
    "grid alone": (kit.small_study, recipes.GRID_ALONE_PLAN),
    "codebook": (kit.mixed_study, recipes.CODEBOOK_PLAN),
    "deep codebook": (kit.mixed_study, recipes.DEEP_CODEBOOK_PLAN),
}
RECIPES = pytest.mark.parametrize("recipe", ["grid", "codebook"])
ALL_PLANS = pytest.mark.parametrize("recipe", STUDIES)


@cache
def recorded(
    recipe: str, epsilon: float = 2.0, clients: int = 3, colluders: int = 1, multiplicity: int = 1
) -> RecordedStudy:
    """Run a study through the production apps, masks on, and keep what the server asked for."""
    build, steps = STUDIES[recipe]
    study = build(
        epsilon=epsilon,
        roster={"min_size": clients, "max_colluders": colluders},
        max_clients_per_customer=multiplicity,
    )
    study = replace(study, plan=steps)
    codes = kit.random_codes(study, ROWS)
    parts = tuple(np.array_split(np.arange(ROWS), clients))
    plan = SimulationPlan(data="none", clients=clients, noise="seeded", masks=True, seed=SEED)
    federation = simulate(study, plan, Customers(codes, parts)).federation
    sums = tuple(ObservedSum.of(study, order) for order in federation.orders)
    orders, opened = tuple(federation.orders), tuple(federation.sums)
    return RecordedStudy(study, codes, sums, federation.spent_units, orders, opened)
