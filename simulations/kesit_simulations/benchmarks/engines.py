"""The in-process grid beside Flower's own engine (Ray): one study, the same result, two clocks.

Imports of this process are excluded. Ray's start is included, with what its processes import; a
second row shows Ray from the first client's answer on, when all that is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from kesit_privacy.study import Study
from kesit_simulations import ray_backend
from kesit_simulations.benchmarks.data import bench_customers, bench_study
from kesit_simulations.benchmarks.report import Report, Table, Tell, time_table, times
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, SimulationResult, Watcher, simulate

CUSTOMERS, K = 20_000, 15


@dataclass(frozen=True)
class Size:
    """Number of clients, and how often the two engines alternate."""

    clients: int = 200
    repeats: int = 3


def run(quick: bool, tell: Tell) -> Report:
    """200 clients, masks off and on."""
    return measure(Size(repeats=1) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """Alternate the two engines, masks off and on.

    Raises:
        SimulationError: Ray is not installed, or the engines' results differ.
    """
    ray_backend.preload()
    study = bench_study(2, K, CUSTOMERS)
    customers = bench_customers(CUSTOMERS, size.clients, K)
    plan = SimulationPlan(data="bench", clients=size.clients)
    tables, values = [], []
    simulate(study, plan, customers)  # what is imported on first use is imported now
    for masks, goal in ((False, 10), (True, 4)):
        runs = []
        for turn in range(size.repeats):
            tell(f"ray: masks {'on' if masks else 'off'}, run {turn + 1} of {size.repeats}")
            runs.append(_pair(study, replace(plan, masks=masks), customers))
        title = f"{size.clients:,} clients, masks {'on' if masks else 'off'}"
        tables.append(_table(title, runs, goal))
        values.append({"masks": masks, "runs": [vars(pair) for pair in runs]})
    notes = ("Both engines gave the same segments, to the bit.",)
    return Report(tuple(tables), {"clients": size.clients, "engines": values}, notes)


@dataclass(frozen=True)
class Pair:
    """Seconds of one run on each engine; `ray_answering` is from the first answer to the end."""

    in_process: float
    ray: float
    ray_answering: float


def _pair(study: Study, plan: SimulationPlan, customers: Customers) -> Pair:
    here = simulate(study, plan, customers)
    answers: list[float] = []
    watcher = Watcher(on_reply=lambda answered, asked: answers.append(time.perf_counter()))
    there = simulate(study, replace(plan, backend="ray"), customers, watcher)
    _require_same(here, there)
    return Pair(here.seconds, there.seconds, time.perf_counter() - answers[0])


def _require_same(here: SimulationResult, there: SimulationResult) -> None:
    if not np.array_equal(here.segments.centres, there.segments.centres):
        raise SimulationError(
            "The two engines gave different segments.",
            remedy="This is a bug in Kesit: report it with the output of `kesit bench ray`.",
        )


def _table(title: str, runs: list[Pair], goal: int) -> Table:
    whole = [pair.ray / pair.in_process for pair in runs]
    answering = [pair.ray_answering / pair.in_process for pair in runs]
    return time_table(
        title,
        [
            times("in-process", [pair.in_process for pair in runs], "s"),
            times("ray", [pair.ray for pair in runs], "s"),
            times(f"ratio (at least {goal})", whole, "x"),
            times("ray, from its first answer on", [pair.ray_answering for pair in runs], "s"),
            times("ratio without Ray's start", answering, "x"),
        ],
    )
