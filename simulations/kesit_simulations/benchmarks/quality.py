"""How good segments are: inertia of Kesit and of the baselines over that of scikit-learn's KMeans.

Five data sets of the literature, divided at random among five clients of whom one may collude, with
public bounds and δ = 1/(n ln n). Baselines see the same rows, scaled by the same bounds.
"""

from __future__ import annotations

import math
import statistics
import time
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from kesit_privacy.errors import KesitError
from kesit_privacy.features import GRID, FloatArray
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_simulations import studies
from kesit_simulations.baselines import BASELINES, inertia, problem_of
from kesit_simulations.benchmarks.report import Report, Table, Tell
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, divide_table, load_table, simulate
from kesit_simulations.runner import Table as CustomerTable

SETS = ("s1", "adult", "digits", "yeast", "house")
CLIENTS = 5
KESIT = "kesit"


@dataclass(frozen=True)
class Size:
    """What is run: packaged studies, values of ε, number of seeds, and baselines."""

    sets: tuple[str, ...] = SETS
    epsilons: tuple[float, ...] = (0.1, 0.5, 1.0)
    seeds: int = 10
    baselines: tuple[str, ...] = tuple(BASELINES)


@dataclass(frozen=True)
class Score:
    """One run of one method.

    Attributes:
        epsilon: None for a method without privacy.
        ratio: of inertia to that of KMeans(n_init=10) on all rows; None if the run was refused.
        refusal: why; messages, received, sent: of one client, the latter two in bytes.
    """

    data: str
    method: str
    epsilon: float | None
    seed: int
    ratio: float | None = None
    refusal: str | None = None
    seconds: float | None = None
    messages: float | None = None
    received: float | None = None
    sent: float | None = None


def run(quick: bool, tell: Tell) -> Report:
    """Ten seeds of everything, or three."""
    return measure(Size(seeds=3) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Run Kesit and the baselines on each data set.

    Raises:
        DatasetError: a data set is not on this machine.
    """
    tasks = {name: Task.of(name) for name in size.sets}  # all of them before an hour's work
    scores = [
        score for name in size.sets for score in _score_set(name, tasks.pop(name), size, tell)
    ]
    tables = [*(_ratio_table(size, scores, e) for e in size.epsilons), _cost_table(size, scores)]
    refusals = {f"{s.method} on {s.data}: {s.refusal}" for s in scores if s.refusal is not None}
    return Report(
        tuple(tables),
        {"ratio": "inertia over that of KMeans(n_init=10)", "scores": [asdict(s) for s in scores]},
        tuple(sorted(refusals)),
    )


@dataclass(frozen=True)
class Task:
    """A packaged study with its customers in one table, and KMeans' inertia on all of them."""

    tables: dict[str, Any]
    customers: CustomerTable
    best: float

    @classmethod
    def of(cls, name: str) -> Task:
        """Load the data and fit KMeans without privacy."""
        from sklearn.cluster import KMeans

        tables = tomllib.loads(studies.text(name))
        plan = SimulationPlan(data=name, clients=CLIENTS)
        table = load_table(study_from_tables(tables), plan)
        n = len(table.codes)
        tables |= {"declared_customers": n, "delta": 1 / (n * math.log(n))}
        tables["roster"] = {"max_colluders": 1}
        task = cls(tables, table, 0.0)
        rows = problem_of(*task.at(1.0, 0)).rows
        model = KMeans(tables["segmentation"]["k"], n_init=10, random_state=0).fit(rows)
        return replace(task, best=inertia(rows, model.cluster_centers_))

    def at(self, epsilon: float, seed: int) -> tuple[Study, SimulationPlan, Customers]:
        """The study at this ε, among clients that the seed divides."""
        study = study_from_tables({**self.tables, "epsilon": epsilon})
        plan = SimulationPlan(data=study.name, clients=CLIENTS, seed=seed)
        return study, plan, divide_table(study, plan, self.customers)


def _score_set(name: str, task: Task, size: Size, tell: Tell) -> Iterator[Score]:
    for seed in range(size.seeds):
        tell(f"quality: {name}, seed {seed + 1} of {size.seeds}")
        for epsilon in size.epsilons:
            yield _try_kesit(Score(name, KESIT, epsilon, seed), task, epsilon)
            for method in size.baselines:
                if BASELINES[method].private:
                    yield _try_baseline(Score(name, method, epsilon, seed), task, epsilon)
        for method in size.baselines:
            if not BASELINES[method].private:
                yield _try_baseline(Score(name, method, None, seed), task, size.epsilons[0])


def _try_kesit(score: Score, task: Task, epsilon: float) -> Score:
    study, plan, customers = task.at(epsilon, score.seed)
    try:
        result = simulate(study, plan, customers)
    except KesitError as error:
        return replace(score, refusal=str(error))
    rows = problem_of(study, plan, customers).rows
    courier = result.federation.courier
    return replace(
        score,
        ratio=inertia(rows, result.segments.centres / GRID) / task.best,
        seconds=result.seconds,
        messages=courier.messages / CLIENTS,
        received=courier.bytes_sent / CLIENTS,
        sent=courier.bytes_received / CLIENTS,
    )


def _try_baseline(score: Score, task: Task, epsilon: float) -> Score:
    problem = problem_of(*task.at(epsilon, score.seed))
    begun = time.perf_counter()
    try:
        centres: FloatArray = BASELINES[score.method].fit(problem)
    except KesitError as error:
        return replace(score, refusal=str(error))
    spent = time.perf_counter() - begun
    return replace(score, ratio=inertia(problem.rows, centres) / task.best, seconds=spent)


def _ratio_table(size: Size, scores: list[Score], epsilon: float) -> Table:
    rows = []
    for method in (KESIT, *size.baselines):
        means = [_mean_ratio(scores, name, method, epsilon) for name in size.sets]
        known = [mean for mean in means if mean is not None]
        whole = f"{statistics.geometric_mean(known):.3f}" if len(known) == len(means) else "-"
        cells = ["refused" if mean is None else f"{mean:.3f}" for mean in means]
        title = "Kesit" if method == KESIT else BASELINES[method].title
        rows.append((title, *cells, whole))
    return Table(
        f"ε = {epsilon:g}: inertia over KMeans(n_init=10), mean of {size.seeds} seeds",
        ("", *size.sets, "geometric mean"),
        tuple(rows),
        tuple(range(1, len(size.sets) + 2)),
    )


def _mean_ratio(scores: list[Score], name: str, method: str, epsilon: float) -> float | None:
    """The mean over seeds; None if any was refused."""
    ratios = [
        score.ratio
        for score in scores
        if (score.data, score.method) == (name, method) and score.epsilon in (None, epsilon)
    ]
    known = [ratio for ratio in ratios if ratio is not None]
    return statistics.fmean(known) if len(known) == len(ratios) else None


def _cost_table(size: Size, scores: list[Score]) -> Table:
    rows = []
    for name in size.sets:
        for epsilon in size.epsilons:
            key = (name, KESIT, epsilon)
            done = [s for s in scores if (s.data, s.method, s.epsilon) == key and not s.refusal]
            if not done:
                continue
            rows.append(
                (
                    name,
                    f"{epsilon:g}",
                    f"{max(s.messages or 0 for s in done):g}",
                    f"{max(s.received or 0 for s in done) / 1000:,.1f}",
                    f"{max(s.sent or 0 for s in done) / 1000:,.1f}",
                    f"{statistics.median(s.seconds or 0 for s in done):.2f}",
                )
            )
    return Table(
        "What a client of Kesit answers, the most of all seeds, and how long a study takes",
        ("", "ε", "messages", "kB received", "kB sent", "median s"),
        tuple(rows),
        (1, 2, 3, 4, 5),
    )
