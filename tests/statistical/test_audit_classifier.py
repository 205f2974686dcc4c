"""White-box audits of a classifier's training: sound sums stay under their claim, bugs do not.

Noise is seeded, so verdicts repeat. A fresh seed lets a sound sum FAIL with about 0.3 %
(`test_audit`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest

from classifierkit import churn_frame, churn_tables, customers, three_tables
from kesit_audits.empirical import EmpiricalEpsilon, Verdict
from kesit_audits.whitebox import ObservedSum, audit, canary_mu, corners, worst_canary
from kesit_privacy import accounting
from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.queries import (
    GradientSums,
    LabelHistograms,
    Query,
    ResidualSums,
    ScoreMoments,
    SecondMoments,
)
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import held_out
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import simulate
from recorded import seeded

pytestmark = pytest.mark.slow

REPLAYS = 10_000
EPSILON = 2.0


@dataclass(frozen=True)
class Recorded:
    """The training sums of one simulated study, and its customers."""

    study: Study
    codes: CodeArray
    sums: list[ObservedSum]

    @property
    def claimed(self) -> float:
        """ε of all training sums together."""
        return accounting.epsilon(sum(seen.units for seen in self.sums), self.study.delta)

    @property
    def canary(self) -> CodeArray:
        """Of random corners the one that the sums betray most."""
        return worst_canary(self.sums, corners(self.study, 2000))

    def audit(self, sums: list[ObservedSum]) -> EmpiricalEpsilon:
        """The bound by Gaussian DP."""
        return audit(
            sums,
            self.codes,
            self.canary,
            claimed=self.claimed,
            delta=self.study.delta,
            source=seeded(3),
            replays=REPLAYS,
        )[0]

    def with_bug(self, kind: type[Query], bug: Callable[[Any], Query]) -> list[ObservedSum]:
        """The sums, with those of one query replaced."""
        return [
            replace(seen, query=bug(seen.query)) if isinstance(seen.query, kind) else seen
            for seen in self.sums
        ]


@pytest.fixture(scope="module", params=["additive-2", "additive-3", "logistic-2", "logistic-3"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    estimator, classes = request.param.split("-")
    tables = churn_tables() if classes == "2" else three_tables()
    task = tables["classification"] | {"estimator": estimator}
    study = study_from_tables(tables | {"epsilon": EPSILON, "classification": task})
    held = customers(study, churn_frame(2000))
    result = simulate(study, SimulationPlan(data="none", clients=5), held)
    orders = [order for order in result.federation.orders if order.step != "evaluation"]
    return Recorded(study, held.codes, [ObservedSum.of(study, order) for order in orders])


def vars_of(query: Any) -> dict[str, Any]:
    return {field.name: getattr(query, field.name) for field in fields(query)}


def test_training_stays_under_its_claim(recorded: Recorded) -> None:
    found = recorded.audit(recorded.sums)
    assert found.verdict is Verdict.PASS, found
    assert found.lower > 0.5 * recorded.claimed


def test_a_customer_who_is_held_out_leaves_no_trace_in_training(recorded: Recorded) -> None:
    canary = recorded.canary.copy()
    canary[-1] = held_out(recorded.study)[0]
    assert canary_mu(recorded.sums, canary) == 0


@dataclass(frozen=True)
class Unclipped(ScoreMoments):
    """Promises the sensitivity of its radii, and counts with radii four times as long."""

    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        wide = replace(ScoreMoments(**vars_of(self)), radii=(4 * self.radii[0], 4 * self.radii[1]))
        object.__setattr__(wide, "amplitudes", self.amplitudes)  # those of the narrow ones
        return wide._sum_chunk(codes)


def twice(query: Query) -> Query:
    """The same query, which counts every customer twice."""

    def loud(self: Any, codes: CodeArray) -> IntArray:
        return 2 * type(query)._sum_chunk(self, codes)

    made: Query = type("Twice", (type(query),), {"_sum_chunk": loud})(**vars_of(query))
    return made


LARGE = (LabelHistograms, ResidualSums, SecondMoments, GradientSums)
"""Queries with so much of the budget that 10,000 replays tell that one of them counts twice."""


def test_customers_who_count_twice_are_caught(recorded: Recorded) -> None:
    asked = {type(seen.query) for seen in recorded.sums} & set(LARGE)
    assert len(asked) == 2  # each estimator asks for two of these
    for kind in asked:
        found = recorded.audit(recorded.with_bug(kind, twice))
        assert found.verdict is Verdict.FAIL, (kind.name, found)


def test_scores_that_are_not_clipped_are_caught() -> None:
    """A row of scores four times as long as promised, in moments that are all of the budget."""
    study = study_from_tables(churn_tables(epsilon=EPSILON))
    held = customers(study, churn_frame(2000))
    result = simulate(study, SimulationPlan(data="none", clients=5), held)
    order = next(o for o in result.federation.orders if o.step == "moments")
    seen = ObservedSum.of(study, order)
    assert isinstance(seen.query, ScoreMoments)
    long = [[[4 * value for value in cell] for cell in table] for table in order.params["scores"]]
    query = ScoreMoments.bind(study, order.params | {"scores": long}, order.scale_bits)
    loud = replace(seen, query=Unclipped(**vars_of(query)))
    whole = Recorded(study, held.codes, [replace(seen, query=query)])
    assert whole.audit(whole.sums).verdict is not Verdict.FAIL
    assert whole.audit([loud]).verdict is Verdict.FAIL


def test_noise_that_is_half_as_much_is_caught(recorded: Recorded) -> None:
    short = [replace(seen, share_variance=seen.share_variance / 4) for seen in recorded.sums]
    assert recorded.audit(short).verdict is Verdict.FAIL


def test_the_claim_is_what_the_books_charged(recorded: Recorded) -> None:
    shares = sum(step.share for step in recorded.study.plan if step.query != "score-evaluation")
    spent = sum(seen.units for seen in recorded.sums)
    assert spent == pytest.approx(shares * recorded.study.mu2_units, rel=1e-6)
    assert np.isclose(recorded.claimed, accounting.epsilon(spent, recorded.study.delta))
