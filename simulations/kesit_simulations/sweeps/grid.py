"""Cells: every combination of a sweep's values, once each and always in the same order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.sweeps.spec import KESIT, SKEWED, Axes, Partition, Source, Sweep, is_private

MANY_CELLS = 100_000
"""More than these are refused unless they are meant."""

MOST_CELLS = 10_000_000


@dataclass(frozen=True)
class Division:
    """How rows are divided; alpha only where it matters, clients unless the data decide."""

    partition: Partition
    alpha: float | None
    clients: int | None


@dataclass(frozen=True)
class Cell:
    """One run of one method.

    Attributes:
        place: its number in the sweep.
        source: which of the sweep's studies.
        epsilon: None for methods without privacy; silence: None for baselines.
    """

    place: int
    source: int
    method: str
    epsilon: float | None
    k: int
    division: Division
    silence: float | None
    seed: int


def grid(sweep: Sweep, *, many: bool = False) -> tuple[Cell, ...]:
    """All cells; one seed after the other, so that the first ones already show the whole picture.

    Args:
        many: allow more than `MANY_CELLS`.

    Raises:
        SimulationError: too many.
    """
    number = count(sweep)
    if number > (MOST_CELLS if many else MANY_CELLS):
        raise SimulationError(
            f"This sweep has {number:,} cells.",
            remedy=f"Shorten its lists to {MOST_CELLS:,} at most."
            if many
            else "Shorten its lists, or confirm with --yes that so many are meant.",
        )
    return tuple(replace(cell, place=place) for place, cell in enumerate(_combinations(sweep)))


def count(sweep: Sweep) -> int:
    """Number of cells, without making them."""
    return sum(
        len(sweep.axes.seeds)
        * len(_ks(sweep.axes, source))
        * len(_divisions(sweep.axes, source))
        * len(_variants(sweep.axes, source))
        for source in sweep.sources
    )


def study_of(source: Source, cell: Cell) -> Study:
    """The cell's study: that of the file, with the cell's ε and k, which is not left to choice.

    Raises:
        StudyError: such a study cannot be.
    """
    tables = source.tables
    kept = {name: x for name, x in tables["segmentation"].items() if name != "smallest_k"}
    return study_from_tables(
        {
            **tables,
            "epsilon": source.study.epsilon if cell.epsilon is None else cell.epsilon,
            "segmentation": {**kept, "k": cell.k},
        }
    )


def plan_of(source: Source, cell: Cell) -> SimulationPlan:
    """The cell's `[simulation]` table: that of the file, with the cell's division and seed."""
    plan, division = source.plan, cell.division
    return replace(
        plan,
        partition=division.partition,
        alpha=plan.alpha if division.alpha is None else division.alpha,
        clients=plan.clients if division.clients is None else division.clients,
        silence=cell.silence or 0.0,
        seed=cell.seed,
    )


def _combinations(sweep: Sweep) -> Iterator[Cell]:
    for seed, (place, source) in itertools.product(sweep.axes.seeds, enumerate(sweep.sources)):
        ks, divisions = _ks(sweep.axes, source), _divisions(sweep.axes, source)
        for k, division in itertools.product(ks, divisions):
            for method, epsilon, silence in _variants(sweep.axes, source):
                yield Cell(0, place, method, epsilon, k, division, silence, seed)


def _ks(axes: Axes, source: Source) -> tuple[int, ...]:
    return axes.k or (source.study.segmenting.k,)


def _divisions(axes: Axes, source: Source) -> list[Division]:
    found = []
    for partition in axes.partition or (source.plan.partition,):
        alphas = axes.alpha or (source.plan.alpha,) if partition in SKEWED else (None,)
        counts = (None,) if partition == "column" else axes.clients or (source.plan.clients,)
        found += [Division(partition, a, c) for a, c in itertools.product(alphas, counts)]
    return found


def _variants(axes: Axes, source: Source) -> list[tuple[str, float | None, float | None]]:
    """Methods with the values of ε and silence on which their results depend."""
    found = []
    for method in axes.methods:
        epsilons = axes.epsilon or (source.study.epsilon,) if is_private(method) else (None,)
        silences = axes.silence or (source.plan.silence,) if method == KESIT else (None,)
        found += [(method, e, s) for e, s in itertools.product(epsilons, silences)]
    return found
