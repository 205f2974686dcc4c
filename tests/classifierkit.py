"""Builders for tests of classifiers: a small study, customers whose chances are known, a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from kesit_privacy import accounting
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_server.classification.training.fold import Fold
from kesit_server.sums import NoisySum
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, SimulationResult, code_customers, simulate


def churn_tables(**changes: Any) -> dict[str, Any]:
    """Parsed TOML of a classifier's study: two numbers, one list, a target of two levels."""
    tables: dict[str, Any] = {
        "name": "churn",
        "purpose": "churn-prediction",
        "legal_basis": "explicit-consent",
        "epsilon": 2.0,
        "delta": 1e-5,
        "declared_customers": 4000,
        "target": "left",
        "classification": {"estimator": "additive", "positive": "yes", "bins": 8},
        "features": [
            {"kind": "numeric", "name": "tenure", "lower": 0.0, "upper": 60.0},
            {
                "kind": "numeric",
                "name": "spending",
                "lower": -100.0,
                "upper": 1e5,
                "transform": "signed-log",
                "label_tr": "harcama",
            },
            {"kind": "categorical", "name": "channel", "levels": ["web", "shop", "phone"]},
            {"kind": "categorical", "name": "left", "levels": ["yes", "no"]},
        ],
    }
    return tables | changes


def clouds(
    rows: FloatArray, kinds: IntArray, bounds: tuple[float, float], estimator: str, epsilon: float
) -> tuple[Study, pl.DataFrame]:
    """A study of numbers (n, features) that is to tell the kinds 0, 1, ... (n,), and its table."""
    names = [f"x{i}" for i in range(rows.shape[1])]
    levels = list("abcdefgh"[: kinds.max() + 1])
    lower, upper = bounds
    tables = churn_tables(
        classification={"estimator": estimator},
        target="kind",
        epsilon=epsilon,
        features=[
            *({"kind": "numeric", "name": n, "lower": lower, "upper": upper} for n in names),
            {"kind": "categorical", "name": "kind", "levels": levels},
        ],
    )
    frame = pl.DataFrame(dict(zip(names, rows.T, strict=True))).with_columns(
        pl.Series("id", [f"c{i}" for i in range(len(rows))]),
        pl.Series("kind", np.array(levels)[kinds]),
    )
    return study_from_tables(tables), frame


def churn_study(**changes: Any) -> Study:
    """The study of `churn_tables`."""
    return study_from_tables(churn_tables(**changes))


def three_tables(**changes: Any) -> dict[str, Any]:
    """The same with a target of three levels, the tariff that a customer would take."""
    tables = churn_tables(target="tariff", classification={"estimator": "additive", "bins": 8})
    tables["features"][-1] = {
        "kind": "categorical",
        "name": "tariff",
        "levels": ["small", "medium", "large"],
    }
    return tables | changes


def log_odds(frame: pl.DataFrame) -> FloatArray:
    """How likely a customer of `churn_frame` is to leave: the true model, shape (n,)."""
    tenure = frame["tenure"].fill_null(30.0).to_numpy()
    spending = np.log1p(frame["spending"].to_numpy())
    phone = (frame["channel"] == "phone").to_numpy()
    found: FloatArray = 1.0 - tenure / 15 + 0.4 * (spending - 5) + 1.5 * phone
    return found


def churn_frame(rows: int, seed: int = 0) -> pl.DataFrame:
    """Customers with some values missing; about a third leave."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "id": [f"c{i}" for i in range(rows)],
            "tenure": pl.Series(rng.uniform(0, 60, rows)),
            "spending": np.expm1(rng.normal(5, 1.5, rows).clip(0, 11)),
            "channel": rng.choice(["web", "shop", "phone"], rows, p=[0.5, 0.3, 0.2]),
        }
    )
    gone = pl.Series(rng.random(rows) < 0.05)
    frame = frame.with_columns(pl.when(gone).then(None).otherwise(pl.col("tenure")).alias("tenure"))
    chance = 1 / (1 + np.exp(-log_odds(frame)))
    leaves = rng.random(rows) < chance
    tariff = np.where(leaves, "small", np.where(rng.random(rows) < 0.4, "large", "medium"))
    return frame.with_columns(
        pl.Series("left", np.where(leaves, "yes", "no")), pl.Series("tariff", tariff)
    )


def customers(study: Study, frame: pl.DataFrame, clients: int = 5) -> Customers:
    """The frame's customers, coded and divided."""
    return code_customers(study, SimulationPlan(data="none", clients=clients), frame, "id")


def trained(study: Study, frame: pl.DataFrame, **plan: Any) -> SimulationResult:
    """A simulated run of a classifier's study."""
    simulation = SimulationPlan(data="none", **({"clients": 5} | plan))
    return simulate(study, simulation, code_customers(study, simulation, frame, "id"))


class Pooled:
    """All rows in one place, summed without noise at the price of a federation's.

    Attributes:
        told: part of a federation's σ that the server is told.
        opened: every sum that was opened. queries: that was asked for.
        answers: opened sums to give instead, in order, whatever the rows are.
    """

    noisy = False

    def __init__(
        self, study: Study, codes: CodeArray, told: float = 1.0, answers: Sequence[NoisySum] = ()
    ) -> None:
        self.study, self.codes, self.told, self.answers = study, codes, told, answers
        self.queries: list[Query] = []
        self.opened: list[NoisySum] = []

    def _sigma(self, step: str, delta_sq: int, scale_bits: int) -> float:
        planned = self.study.step(step)
        assert planned is not None
        variance = accounting.share_variance(
            self.study.step_units(planned),
            delta_sq=delta_sq,
            multiplicity=1,
            roster=5,
            colluders=1,
        )
        return self.told * math.sqrt(5 * variance) / 2.0**scale_bits

    def sum(self, step: str, query: Query) -> NoisySum:
        self.queries.append(query)
        if self.answers:
            return self.answers[len(self.queries) - 1]
        sigma = self._sigma(step, query.delta_sq, query.scale_bits)
        exact = query.sum(self.codes) / 2.0**query.scale_bits
        self.opened.append(NoisySum(step, exact, sigma, 5, 1))
        return self.opened[-1]

    def noise_ahead(self, step: str, delta: float) -> float:
        return self._sigma(step, round(delta**2 * 4**28), 28)

    def note(self, text: str) -> None:
        """Nobody watches."""


def asks_alike(study: Study, fit: Callable[[Fold], object]) -> int:
    """Whether the same opened sums give the same questions, whoever the customers are.

    Returns:
        how many sums were asked for.
    """
    rows = [customers(study, churn_frame(900, seed)).codes for seed in (1, 2)]
    first = Pooled(study, rows[0])
    fit(*Fold.all_of(first))
    again = Pooled(study, rows[1], answers=first.opened)
    fit(*Fold.all_of(again))
    assert [q.params() for q in again.queries] == [q.params() for q in first.queries]
    return len(again.queries)
