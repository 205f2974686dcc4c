"""Run a sweep into a folder: from nothing, or from where an interrupted run of the same sweep left.

The folder holds `sweep.json` (what is computed, from which rows, with which versions), the journal,
and at the end `results.parquet`. A folder of anything else is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import polars as pl

from kesit_privacy import canonical
from kesit_server import results
from kesit_server.errors import ResultError
from kesit_server.journal import JOURNAL, Journal
from kesit_simulations.errors import SimulationError
from kesit_simulations.sweeps import pool, table
from kesit_simulations.sweeps.grid import Cell, grid
from kesit_simulations.sweeps.spec import Sweep
from kesit_simulations.sweeps.work import CellRun, Data, PooledFit, Record, Task, Worker, load

IDENTITY: Final = "sweep.json"
FORMAT: Final = 1
VERSIONS: Final = ("kesit", "numpy", "scikit-learn")

_PACKAGES: Final = {"diffprivlib": "diffprivlib"}
"""Import names of what methods need beyond the base install."""


@dataclass(frozen=True)
class Tally:
    """How far a sweep is: cells done, of how many, how many of those done failed."""

    done: int
    cells: int
    failed: int


def prepare(sweep: Sweep) -> dict[int, Data]:
    """Load all data, so that what is wrong with them shows before anything is written.

    Raises:
        KesitError: data that do not fit their study, or a method whose package is missing.
    """
    for method in sweep.axes.methods:
        package = _PACKAGES.get(method)
        if package is not None and find_spec(package) is None:
            raise SimulationError(
                f"sweep.methods: {method} needs the package {package}, which is not installed.",
                remedy="pip install 'kesit[simulation]', or leave that method out.",
            )
    return {place: load(source) for place, source in enumerate(sweep.sources)}


def run(
    sweep: Sweep,
    folder: Path,
    *,
    processes: int = 1,
    many: bool = False,
    loaded: dict[int, Data] | None = None,
    on_progress: Callable[[Tally], None] = lambda tally: None,
) -> pl.DataFrame:
    """Compute what is missing of a sweep, and write its table.

    Args:
        folder: new, empty, or that of the same sweep.
        processes: with 1 everything runs in this process.
        many: allow more cells than `grid.MANY_CELLS`.
        loaded: of `prepare`, if it was called.
        on_progress: called at the start and after every cell.

    Returns:
        The table, `table.SCHEMA`. A cell that failed is a row with its `error`.

    Raises:
        KesitError: too many cells, data that do not fit, another sweep's folder, a folder on which
            another process is at work, a full disk, or a process that died.
    """
    cells = grid(sweep, many=many)
    data = prepare(sweep) if loaded is None else loaded
    with _claim(folder, _identity(sweep, cells, data)) as journal:
        records = journal.records()
        tally = _count(cells, records)
        on_progress(tally)
        todo = [task for task in _tasks(cells) if task.key not in records]
        with _computed(sweep, data, todo, processes) as computed:
            for task, record in computed:
                journal.add(task.key, record)
                records[task.key] = record
                if isinstance(task, CellRun):
                    failed = tally.failed + (record.get("error") is not None)
                    tally = Tally(tally.done + 1, tally.cells, failed)
                    on_progress(tally)
        found = table.tabulate(sweep, cells, records)
        table.write(folder, found)
    return found


def _tasks(cells: tuple[Cell, ...]) -> Iterator[Task]:
    yield from dict.fromkeys(PooledFit(cell.source, cell.k) for cell in cells)
    yield from map(CellRun, cells)


def _count(cells: tuple[Cell, ...], records: dict[str, Record]) -> Tally:
    done = [records[key] for key in (CellRun(cell).key for cell in cells) if key in records]
    return Tally(len(done), len(cells), sum(record.get("error") is not None for record in done))


@contextmanager
def _computed(
    sweep: Sweep, data: dict[int, Data], tasks: list[Task], processes: int
) -> Iterator[Iterator[tuple[Task, Record]]]:
    if min(processes, len(tasks)) <= 1:
        worker = Worker(sweep, data)
        yield ((task, worker.run(task)) for task in tasks)
    else:
        with pool.results(sweep, tasks, min(processes, len(tasks))) as found:
            yield found


def _identity(sweep: Sweep, cells: tuple[Cell, ...], data: dict[int, Data]) -> dict[str, Any]:
    """What a sweep is: two sweeps with equal identities have the same rows."""
    definition = {
        "format": FORMAT,
        "sweep": asdict(sweep.axes),
        "studies": [
            {"name": s.study.name, "hash": s.study.hash, "simulation": asdict(s.plan)}
            for s in sweep.sources
        ],
    }
    encoded = canonical.encode(definition, floats=True)
    return {
        "hash": canonical.digest(encoded).hex(),
        "cells": len(cells),
        "definition": json.loads(encoded),  # with lists for tuples, as it will be read back
        "data": [data[place].fingerprint for place in range(len(sweep.sources))],
        "versions": {name: version(name) for name in VERSIONS},
    }


@contextmanager
def _claim(folder: Path, identity: dict[str, Any]) -> Iterator[Journal]:
    """The folder's journal, if the folder is this sweep's, or nobody's and empty."""
    path = folder / IDENTITY
    if path.exists():
        _compare(path, identity)  # before anything of ours is put there
    elif not (folder / JOURNAL).exists():
        results.check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(
            f"{folder}: cannot be made ({error.strerror}).", remedy="Give another --out."
        ) from error
    with Journal(folder) as journal:
        if path.exists():
            _compare(path, identity)  # by now another process may have been here, and gone
        elif journal.records():
            raise ResultError(
                f"{folder}: holds a journal, but no {IDENTITY} that says of what.",
                remedy="Give another --out, or put that file back.",
            )
        else:
            results.replace_file(path, results.as_json(identity))
        yield journal


def _compare(path: Path, identity: dict[str, Any]) -> None:
    """Refuse the folder of another sweep, and say in what it differs."""
    try:
        there = json.loads(path.read_bytes())
        differs = [name for name in identity if there.get(name) != identity[name]]
    except (OSError, ValueError, AttributeError) as error:
        raise ResultError(
            f"{path}: cannot be read as a sweep's description.", remedy="Give another --out."
        ) from error
    if not differs:
        return
    if "hash" in differs:
        raise ResultError(
            f"{path.parent}: holds another sweep (its definition differs).",
            remedy="Give another --out; or undo the change in the sweep file or its studies, to go"
            " on with the one that is there.",
        )
    if "data" in differs:
        raise ResultError(
            f"{path.parent}: holds this sweep over other data (the rows differ).",
            remedy="Give another --out, or bring the old data back.",
        )
    raise ResultError(
        f"{path.parent}: holds this sweep by other versions ({_versions(there)} then,"
        f" {_versions(identity)} now).",
        remedy="Give another --out, or go on with those versions.",
    )


def _versions(identity: dict[str, Any]) -> str:
    found = identity.get("versions")
    return ", ".join(f"{k} {v}" for k, v in found.items()) if isinstance(found, dict) else "unknown"
