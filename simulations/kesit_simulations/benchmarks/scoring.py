"""How long a client takes to score a million customers with a released model: table to table."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass

import polars as pl

from kesit_client.results.scoring import score
from kesit_privacy.model_file import MODEL, ScoringModel
from kesit_privacy.study_file import study_from_tables
from kesit_simulations import datasets, studies
from kesit_simulations.benchmarks.report import Report, Tell, seconds, time_table, times
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import code_customers, simulate

SET = "adult-income"


@dataclass(frozen=True)
class Size:
    """Number of customers, and of times that all are scored."""

    customers: int = 1_000_000
    repeats: int = 5


def run(quick: bool, tell: Tell) -> Report:
    """1,000,000 customers five times, or 100,000 twice."""
    return measure(Size(100_000, 2) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Train the packaged study once, and score its customers again and again.

    Raises:
        DatasetError: the data set is not on this machine.
    """
    tables = tomllib.loads(studies.text(SET))
    study = study_from_tables(tables)
    data = datasets.load(tables["simulation"]["data"])
    plan = SimulationPlan(data=tables["simulation"]["data"])
    tell("scoring: one study is trained")
    result = simulate(study, plan, code_customers(study, plan, data.frame, data.id_column))
    model = ScoringModel.from_dict(json.loads(result.files[MODEL]))
    copies = -(-size.customers // len(data.frame))
    frame = pl.concat([data.frame] * copies).head(size.customers)
    frame = frame.with_columns(pl.Series(data.id_column, range(size.customers)).cast(pl.String))
    tell(f"scoring: {size.customers:,} customers")
    spent = [seconds(lambda: score(model, frame, data.id_column)) for _ in range(size.repeats)]
    title = f"{size.customers:,} customers, {len(model.features)} features, from table to table"
    return Report(
        (time_table(title, [times("score", spent, "s")]),),
        {"customers": size.customers, "seconds": spent},
    )
