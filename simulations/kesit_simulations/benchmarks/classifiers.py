"""How good classifiers are: AUC on held-out customers, of Kesit and of baselines.

Packaged studies, divided at random among five clients of whom one may collude; each seed holds out
another fifth (the study's `split`). Baselines see the same rows, bounds and split.
"""

from __future__ import annotations

import statistics
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from kesit_client.rows.coding import encode
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import KesitError
from kesit_privacy.features import CodeArray, FloatArray, Numeric
from kesit_privacy.scorecard import CHANCE
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import Target, held_out
from kesit_simulations import datasets, studies
from kesit_simulations.benchmarks.report import Report, Table, Tell
from kesit_simulations.classifier_baselines import BASELINES, ClassifierProblem, auc
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, divide_table, simulate
from kesit_simulations.runner import Table as CustomerTable

SETS = ("adult-income", "bank-subscription", "telco-churn")
ESTIMATORS = ("additive", "logistic")
KESIT = "kesit-"
"""Begins the name of a method that is ours: an estimator and a baseline may be called alike."""

CLIENTS = 5
DELTA = 1e-5


@dataclass(frozen=True)
class Size:
    """What is run: packaged studies, values of ε, number of seeds, estimators and baselines."""

    sets: tuple[str, ...] = SETS
    epsilons: tuple[float, ...] = (0.5, 1.0)
    seeds: int = 5
    estimators: tuple[str, ...] = ESTIMATORS
    baselines: tuple[str, ...] = tuple(BASELINES)


@dataclass(frozen=True)
class Score:
    """One run of one method.

    Attributes:
        epsilon: None for a method without privacy.
        auc: on the customers held out; None if the run was refused.
        refusal: why; messages: that one client answered.
    """

    data: str
    method: str
    epsilon: float | None
    seed: int
    auc: float | None = None
    refusal: str | None = None
    seconds: float | None = None
    messages: float | None = None


def run(quick: bool, tell: Tell) -> Report:
    """Five seeds of everything, or two with the baselines that take seconds."""
    fast = tuple(name for name in BASELINES if name in ("logistic", "boosting"))
    return measure(Size(seeds=2, baselines=fast) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Run Kesit and the baselines on each data set.

    Raises:
        DatasetError: a data set is not on this machine.
    """
    tasks = {name: Task.of(name) for name in size.sets}  # all of them before an hour's work
    scores = [
        score for name in size.sets for score in _score_set(name, tasks.pop(name), size, tell)
    ]
    tables = tuple(_table(size, scores, epsilon) for epsilon in size.epsilons)
    missing = _missing_table(tell, size)
    refusals = {f"{s.method} on {s.data}: {s.refusal}" for s in scores if s.refusal is not None}
    return Report(
        (*tables, missing),
        {"auc": "on the held-out fifth", "scores": [asdict(score) for score in scores]},
        tuple(sorted(refusals)),
    )


@dataclass(frozen=True)
class Task:
    """A packaged study and its data set, as a table."""

    tables: dict[str, Any]
    frame: pl.DataFrame
    id_column: str

    @classmethod
    def of(cls, name: str) -> Task:
        """Read the study and its data."""
        tables = tomllib.loads(studies.text(name))
        found = datasets.load(tables["simulation"]["data"])
        return cls(tables, found.frame, found.id_column)

    def at(self, estimator: str, epsilon: float, seed: int) -> tuple[Study, Customers]:
        """The study at this ε, holding out what the seed says, among clients that it divides."""
        task = {**self.tables["classification"], "estimator": estimator, "split": seed}
        changes = {"epsilon": epsilon, "delta": DELTA, "classification": task}
        study = study_from_tables({**self.tables, **changes})
        plan = SimulationPlan(data=study.name, clients=CLIENTS, seed=seed)
        codes = encode(self.frame, study, self.id_column)
        return study, divide_table(study, plan, CustomerTable(self.frame, codes))

    def without(self, column: str) -> Task:
        """The same study without one feature."""
        kept = [f for f in self.tables["features"] if f["name"] != column]
        return replace(self, tables={**self.tables, "features": kept})


def problem_of(study: Study, customers: Customers, epsilon: float, seed: int) -> ClassifierProblem:
    """What a baseline is given: the rows with a known label, and those that training may see."""
    target, space = Target.of(study), Embedding.of(study)
    labels = target.labels(customers.codes)
    known = np.flatnonzero(labels >= 0)
    place = np.full(len(labels), -1)
    place[known] = np.arange(len(known))
    low, high = held_out(study)
    part = customers.codes[known, target.part_column]
    parts = tuple(place[rows][place[rows] >= 0] for rows in customers.parts)
    return ClassifierProblem(
        space.features,
        customers.codes[known][:, list(space.columns)],
        labels[known],
        (part < low) | (part >= high),
        epsilon,
        study.delta,
        seed,
        parts,
        len(target.classes),
        _may_be_missing(space, customers.codes),
    )


def _may_be_missing(space: Embedding, codes: CodeArray) -> tuple[str, ...]:
    """Features of which some value is missing: baselines are told, though only the data say so."""
    return tuple(
        feature.name
        for feature, column in zip(space.features, space.columns, strict=True)
        if (codes[:, column] == (-1 if isinstance(feature, Numeric) else feature.missing)).any()
    )


def kesit_auc(study: Study, customers: Customers, seed: int) -> tuple[float, float]:
    """AUC on the customers held out, and messages that one client answered."""
    result = simulate(study, SimulationPlan(data=study.name, clients=CLIENTS, seed=seed), customers)
    problem = problem_of(study, customers, study.epsilon, seed)
    target = Target.of(study)
    known = customers.codes[target.labels(customers.codes) >= 0][~problem.train]
    chances: FloatArray = result.classifier.fitted.model.chances(known) / CHANCE
    area = float(auc(problem.held_labels, chances))
    return area, result.federation.courier.messages / CLIENTS


def _score_set(name: str, task: Task, size: Size, tell: Tell) -> Iterator[Score]:
    for seed in range(size.seeds):
        tell(f"classifiers: {name}, seed {seed + 1} of {size.seeds}")
        for epsilon in size.epsilons:
            for estimator in size.estimators:
                yield _try_kesit(Score(name, f"{KESIT}{estimator}", epsilon, seed), task, epsilon)
            for method in size.baselines:
                if BASELINES[method].private:
                    yield _try_baseline(Score(name, method, epsilon, seed), task, epsilon)
        for method in size.baselines:
            if not BASELINES[method].private:
                yield _try_baseline(Score(name, method, None, seed), task, size.epsilons[0])


def _try_kesit(score: Score, task: Task, epsilon: float) -> Score:
    begun = time.perf_counter()
    try:
        estimator = score.method.removeprefix(KESIT)
        study, customers = task.at(estimator, epsilon, score.seed)
        area, messages = kesit_auc(study, customers, score.seed)
    except KesitError as error:
        return replace(score, refusal=str(error))
    return replace(score, auc=area, messages=messages, seconds=time.perf_counter() - begun)


def _try_baseline(score: Score, task: Task, epsilon: float) -> Score:
    study, customers = task.at("additive", epsilon, score.seed)
    problem = problem_of(study, customers, epsilon, score.seed)
    begun = time.perf_counter()
    try:
        chances = BASELINES[score.method].fit(problem)
    except KesitError as error:
        return replace(score, refusal=str(error))
    area = float(auc(problem.held_labels, chances))
    return replace(score, auc=area, seconds=time.perf_counter() - begun)


def _table(size: Size, scores: Sequence[Score], epsilon: float) -> Table:
    rows = []
    for method in (*(f"{KESIT}{name}" for name in size.estimators), *size.baselines):
        cells = [_cell(scores, name, method, epsilon) for name in size.sets]
        own = [s for s in scores if s.method == method and s.messages is not None]
        messages = f"{max(s.messages or 0 for s in own):g}" if own else ""
        own_title = f"Kesit, {method.removeprefix(KESIT)}"
        title = BASELINES[method].title if method in BASELINES else own_title
        rows.append((title, *cells, messages))
    return Table(
        f"ε = {epsilon:g}: AUC on the customers held out, mean (standard deviation) of"
        f" {size.seeds} splits",
        ("", *size.sets, "messages"),
        tuple(rows),
        tuple(range(1, len(size.sets) + 2)),
    )


def _cell(scores: Sequence[Score], name: str, method: str, epsilon: float) -> str:
    own = [
        score
        for score in scores
        if (score.data, score.method) == (name, method) and score.epsilon in (None, epsilon)
    ]
    known = [score.auc for score in own if score.auc is not None]
    if not own or len(known) < len(own):
        return "refused"
    spread = f" ({statistics.stdev(known):.4f})" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.4f}{spread}"


GAPS = {
    "adult-income": ("education_num", "age"),
    "bank-subscription": ("duration", "age"),
    "telco-churn": ("tenure", "MonthlyCharges"),
}
"""A column that predicts, and one on which its absence depends, for the table of missing values."""

MISSING_SHARE = 0.15


def _missing_table(tell: Tell, size: Size) -> Table:
    """What it costs if 15 % of a telling column is missing, beside losing the column."""
    rows = []
    for name in size.sets:
        if name not in GAPS:
            continue
        tell(f"classifiers: missing values in {name}")
        task, (column, other) = Task.of(name), GAPS[name]
        areas = [
            _mean_auc(each, size)
            for each in (
                task,
                replace(task, frame=with_gaps(task.frame, column, None)),
                replace(task, frame=with_gaps(task.frame, column, other)),
                task.without(column),
            )
        ]
        whole = areas[0]
        cells = [f"{area:.4f} ({area - whole:+.4f})" for area in areas[1:]]
        rows.append((name, column, f"{whole:.4f}", *cells))
    return Table(
        "ε = 1, additive: AUC if 15 % of a column is missing, at random or depending on another"
        f" column, and without the column; mean of {size.seeds} splits",
        ("", "column", "whole", "at random", "depending", "without it"),
        tuple(rows),
        (2, 3, 4, 5),
    )


def with_gaps(frame: pl.DataFrame, column: str, depends_on: str | None) -> pl.DataFrame:
    """15 % of a column's values taken away: at random, or mostly where another one is large."""
    rng = np.random.default_rng(0)
    weight = np.ones(len(frame))
    if depends_on is not None:
        values = frame[depends_on].cast(pl.Float64).fill_null(0).to_numpy()
        weight = np.where(values > np.median(values), 5.0, 1.0)
    chance = MISSING_SHARE * weight / weight.mean()
    gone = pl.Series(rng.random(len(frame)) < chance)
    return frame.with_columns(pl.when(~gone).then(pl.col(column)).alias(column))


def _mean_auc(task: Task, size: Size) -> float:
    found = []
    for seed in range(size.seeds):
        study, customers = task.at("additive", 1.0, seed)
        found.append(kesit_auc(study, customers, seed)[0])
    return statistics.fmean(found)
