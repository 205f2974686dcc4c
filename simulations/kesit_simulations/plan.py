"""The `[simulation]` table of a study file: which data, how divided, with what noise.

It describes a machine and not the agreement, so it is no part of the study's hash.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field
from pydantic.dataclasses import dataclass

from kesit_privacy.errors import StudyError
from kesit_privacy.features import STRICT, IntArray, Name
from kesit_privacy.tables import validated
from kesit_simulations import partitions
from kesit_simulations.errors import SimulationError


@dataclass(frozen=True, config=STRICT)
class SimulationPlan:
    """How to simulate a study.

    Attributes:
        data: a known data set's name (`kesit simulate data` lists them), or a CSV or Parquet file.
        id_column: the customers' id, needed for a file.
        clients, partition, alpha, column: how rows are divided. `iid`; `dirichlet` (skewed shares
            of `column`'s values, or of the data set's label); `quantity` (skewed sizes); `column`
            (one client a value of `column`).
        noise: `seeded` (fast, repeatable), `secure` (OpenDP's sampler) or `off`.
        masks, serialise: mask sums; carry messages through Flower's serialisation.
        silence: chance that a client misses a message.
        min_customers: a client with fewer is an error.
        backend: `in-process`, or `ray`, Flower's own engine (extra `simulation`); the results are
            the same.
    """

    data: Name
    id_column: Name | None = None
    clients: Annotated[int, Field(ge=2, le=100_000)] = 5
    partition: Literal["iid", "dirichlet", "quantity", "column"] = "iid"
    alpha: Annotated[float, Field(gt=0)] = 1.0
    column: Name | None = None
    noise: Literal["seeded", "secure", "off"] = "seeded"
    masks: bool = True
    serialise: bool = False
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    silence: Annotated[float, Field(ge=0, lt=1)] = 0.0
    min_customers: Annotated[int, Field(ge=1)] = 1
    backend: Literal["in-process", "ray"] = "in-process"


def read_plan(tables: dict[str, Any]) -> SimulationPlan:
    """The plan in a study file's parsed tables.

    Raises:
        StudyError: there is none, or a field is wrong.
    """
    table = tables.get("simulation")
    if not isinstance(table, dict):
        raise StudyError(
            "simulation",
            "the file has no [simulation] table.",
            remedy="Add one with `data = ...`; `kesit study new -` shows its fields.",
        )
    try:
        return validated(SimulationPlan, table)
    except StudyError as error:
        raise StudyError(
            f"simulation.{error.field}",
            error.cause.removeprefix(f"{error.field}: "),
            remedy=error.remedy,
        ) from error


def divide(plan: SimulationPlan, frame: pl.DataFrame, label_column: str | None) -> list[IntArray]:
    """Row numbers of each client, one array a client.

    Raises:
        SimulationError: the column is missing, or a client would hold too few customers.
    """
    rng = np.random.default_rng([plan.seed, 1])
    if plan.partition == "iid":
        parts = partitions.iid(len(frame), plan.clients, rng)
    elif plan.partition == "quantity":
        parts = partitions.quantity_skew(len(frame), plan.clients, plan.alpha, rng)
    else:
        column = plan.column or (label_column if plan.partition == "dirichlet" else None)
        if column is None or column not in frame.columns:
            raise SimulationError(
                f"simulation.column: {column!r} is not in the data.",
                remedy=f"Choose one of: {', '.join(frame.columns)}.",
            )
        if plan.partition == "dirichlet":
            parts = partitions.dirichlet_labels(frame[column], plan.clients, plan.alpha, rng)
        else:
            _, parts = partitions.by_column(frame[column])
    small = [index for index, part in enumerate(parts) if len(part) < plan.min_customers]
    if small:
        raise SimulationError(
            f"Client {small[0] + 1} of {len(parts)} would hold {len(parts[small[0]])} customers,"
            f" fewer than {plan.min_customers} ({len(small)} clients in all).",
            remedy="Use fewer clients, a larger alpha, another seed, or a smaller"
            " simulation.min_customers.",
        )
    return parts
