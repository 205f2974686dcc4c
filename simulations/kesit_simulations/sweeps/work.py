"""One cell of a sweep: what a process computes, from the data it has loaded once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

from kesit_privacy import canonical
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import KesitError
from kesit_privacy.features import GRID, FloatArray
from kesit_privacy.study import Study
from kesit_server.statement import privacy_statement
from kesit_simulations import runner
from kesit_simulations.baselines import BASELINES, problem_of
from kesit_simulations.evaluation import assess, fit_pooled, mean_fill
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, Table
from kesit_simulations.sweeps.grid import Cell, plan_of, study_of
from kesit_simulations.sweeps.spec import KESIT, Source, Sweep

POOLED_SEED = 0
"""Of the one KMeans to which all seeds of a sweep are compared."""

Record: TypeAlias = dict[str, Any]
"""What was measured: plain values, for JSON."""


@dataclass(frozen=True)
class PooledFit:
    """The task of fitting KMeans without privacy, once for each data set and k."""

    source: int
    k: int

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"pooled-{self.source}-{self.k}"


@dataclass(frozen=True)
class CellRun:
    """The task of computing one cell."""

    cell: Cell

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"cell-{self.cell.place}"


Task: TypeAlias = PooledFit | CellRun


@dataclass(frozen=True)
class Data:
    """A study's data, loaded once in a process, with what all its cells share."""

    source: Source
    table: Table

    @cached_property
    def fill(self) -> tuple[int, ...]:
        """Where missing numbers stand in everything that is compared."""
        return mean_fill(Embedding.of(self.source.study), self.table.codes)

    @cached_property
    def distinct(self) -> int:
        """Customers that the study can tell apart."""
        return runner.count_distinct(self.source.study, self.table.codes)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the coded rows, the labels and the column that divides them."""
        codes, labels = self.table.codes, self.table.labels
        parts = [repr(codes.shape).encode(), np.ascontiguousarray(codes, "<i2").tobytes()]
        parts.append(b"" if labels is None else labels.astype("<i8").tobytes())
        column = self.source.plan.column
        if column in self.table.frame.columns:
            parts.append(repr(self.table.frame[column].to_list()).encode())
        return canonical.digest(b"".join(map(canonical.digest, parts))).hex()


def load(source: Source) -> Data:
    """Read, check and code a study's data.

    Raises:
        KesitError: they do not fit the study.
    """
    return Data(source, runner.load_table(source.study, source.plan, source.base))


class Worker:
    """Computes tasks of one sweep. Data sets are loaded when they are first needed."""

    def __init__(self, sweep: Sweep, loaded: dict[int, Data] | None = None) -> None:
        self._sweep = sweep
        self._loaded = dict(loaded or {})

    def run(self, task: Task) -> Record:
        """The task's record. An error becomes the record's `error`; nothing is raised for it."""
        started = time.perf_counter()
        try:
            with threadpool_limits(1):  # as many processes as cores; threads would only quarrel
                if isinstance(task, PooledFit):
                    record = self._pooled(task)
                else:
                    record = self._cell(task.cell)
        except KesitError as error:
            record = {"error": " ".join(str(error).split())}
        except Exception as error:  # a bug costs its cell, not the night's work
            what = " ".join(f"{type(error).__name__}: {error}".split())
            record = {"error": f"{what} (a bug in Kesit, or in this method)"}
        return {"seconds": time.perf_counter() - started, **record}

    def _data(self, place: int) -> Data:
        if place not in self._loaded:
            self._loaded[place] = load(self._sweep.sources[place])
        return self._loaded[place]

    def _pooled(self, task: PooledFit) -> Record:
        data = self._data(task.source)
        table, space = data.table, Embedding.of(data.source.study)
        pooled = fit_pooled(space, data.fill, table.codes, task.k, table.labels, seed=POOLED_SEED)
        return {
            "rows": len(table.codes),
            "inertia": pooled.inertia,
            "adjusted_rand": pooled.adjusted_rand,
        }

    def _cell(self, cell: Cell) -> Record:
        data = self._data(cell.source)
        study, plan = study_of(data.source, cell), plan_of(data.source, cell)
        runner.check_distinct(study, data.table.codes, data.distinct)
        customers = runner.divide_table(study, plan, data.table)
        clients = {"clients": len(customers.parts)}
        method = _run_kesit if cell.method == KESIT else _run_baseline
        centres, record = method(cell.method, study, plan, customers)
        return {**clients, **_score(data, centres), **record}


def _run_kesit(
    method: str, study: Study, plan: SimulationPlan, customers: Customers
) -> tuple[FloatArray, Record]:
    result = runner.simulate(study, plan, customers)
    courier, clients = result.federation.courier, len(customers.parts)
    statement = privacy_statement(result.federation)
    noisy = plan.noise != "off"
    return result.segments.centres / GRID, {
        "seconds": result.seconds,
        "messages": courier.messages / clients,
        "bytes": (courier.bytes_sent + courier.bytes_received) / clients,
        "epsilon_spent": statement["epsilon_spent"] if noisy else None,
    }


def _run_baseline(
    method: str, study: Study, plan: SimulationPlan, customers: Customers
) -> tuple[FloatArray, Record]:
    baseline = BASELINES[method]
    problem = problem_of(study, plan, customers)
    started = time.perf_counter()
    centres = baseline.fit(problem)
    seconds = time.perf_counter() - started
    return centres, {
        "seconds": seconds,
        "epsilon_spent": study.epsilon if baseline.private else None,
    }


def _score(data: Data, centres: FloatArray) -> Record:
    """Inertia and agreement over all rows; the mean over parties that have centres of their own."""
    space, table = Embedding.of(data.source.study), data.table
    sets = centres if centres.ndim == 3 else centres[None]
    scores = [assess(space, data.fill, one, table.codes, table.labels) for one in sets]
    agreements = [agreement for _, agreement in scores if agreement is not None]
    return {
        "inertia": float(np.mean([inertia for inertia, _ in scores])),
        "adjusted_rand": float(np.mean(agreements)) if agreements else None,
    }
