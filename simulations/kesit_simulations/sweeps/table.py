"""The table of results: one row a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from kesit_privacy.embedding import Embedding
from kesit_privacy.files import replacing
from kesit_server.errors import ResultError
from kesit_simulations.evaluation import ratio_of
from kesit_simulations.sweeps.grid import Cell
from kesit_simulations.sweeps.spec import Sweep
from kesit_simulations.sweeps.work import CellRun, PooledFit, Record

RESULTS: Final = "results.parquet"

SCHEMA: Final[dict[str, Any]] = {
    "study": pl.String,
    "data": pl.String,
    "method": pl.String,
    "epsilon": pl.Float64,
    "delta": pl.Float64,
    "k": pl.Int64,
    "clients": pl.Int64,
    "partition": pl.String,
    "alpha": pl.Float64,
    "silence": pl.Float64,
    "seed": pl.UInt64,
    "rows": pl.Int64,
    "dimensions": pl.Int64,
    "inertia": pl.Float64,
    "inertia_pooled": pl.Float64,
    "ratio": pl.Float64,
    "adjusted_rand": pl.Float64,
    "adjusted_rand_pooled": pl.Float64,
    "messages": pl.Float64,
    "bytes": pl.Float64,
    "seconds": pl.Float64,
    "epsilon_spent": pl.Float64,
    "error": pl.String,
}
"""Columns of the table; docs/reference/cli.md explains them."""


def tabulate(sweep: Sweep, cells: Sequence[Cell], records: Mapping[str, Record]) -> pl.DataFrame:
    """The rows of these cells, in their order.

    Raises:
        KeyError: a cell, or the pooled fit that it is compared with, has no record.
        ResultError: a record holds what no sweep writes.
    """
    try:
        rows = [_row(sweep, cell, records) for cell in cells]
        columns = {name: [row.get(name) for row in rows] for name in SCHEMA}
        return pl.DataFrame(columns, schema=SCHEMA)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise ResultError(
            "The sweep's journal holds records that no sweep writes.",
            remedy="Begin anew with another --out.",
        ) from error


def write(folder: Path, table: pl.DataFrame) -> None:
    """Put the table into the folder: whole, or not at all.

    Raises:
        ResultError: the disk refuses.
    """
    path = folder / RESULTS
    try:
        with replacing(path) as file:
            table.write_parquet(file)
    except OSError as error:
        raise ResultError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Make room on the disk, and run the same command again.",
        ) from error


def read(folder: Path) -> pl.DataFrame:
    """The table of a finished sweep.

    Raises:
        ResultError: there is none, or it is no such table.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise ResultError(
            f"{folder}: holds no finished sweep ({RESULTS} is missing).",
            remedy="Give the folder of a sweep; run `kesit simulate sweep` on it again if it was"
            " interrupted.",
        )
    try:
        table = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _no_table(path, str(error).splitlines()[0]) from error
    if dict(table.schema) != SCHEMA:
        raise _no_table(path, "its columns are not those of a sweep")
    return table


def _no_table(path: Path, why: str) -> ResultError:
    return ResultError(
        f"{path}: is no table of results ({why}).",
        remedy="Delete it and run `kesit simulate sweep` on the folder again, with this version.",
    )


def _row(sweep: Sweep, cell: Cell, records: Mapping[str, Record]) -> dict[str, Any]:
    source = sweep.sources[cell.source]
    pooled = records[PooledFit(cell.source, cell.k).key]
    known: dict[str, Any] = {
        "study": source.study.name,
        "data": source.plan.data,
        "method": cell.method,
        "epsilon": cell.epsilon,
        "delta": None if cell.epsilon is None else source.study.delta,
        "k": cell.k,
        "clients": cell.division.clients,
        "partition": cell.division.partition,
        "alpha": cell.division.alpha,
        "silence": cell.silence,
        "seed": cell.seed,
        "rows": pooled.get("rows"),
        "dimensions": Embedding.of(source.study).dimensions,
        "inertia_pooled": pooled.get("inertia"),
        "adjusted_rand_pooled": pooled.get("adjusted_rand"),
    }
    row = known | records[CellRun(cell).key]
    if row.get("inertia") is not None and row["inertia_pooled"] is not None:
        row["ratio"] = ratio_of(row["inertia"], row["inertia_pooled"], row["rows"])
    return row
