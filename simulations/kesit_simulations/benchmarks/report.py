"""What a benchmark gives: tables for people and the same numbers for programs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Tell: TypeAlias = Callable[[str], None]
"""Is called with a line of text when something new begins."""

TIMES = ("", "median", "", "smallest .. largest")
"""Headers of a table of `times` rows; their places 1 and 3 are numbers."""


@dataclass(frozen=True)
class Table:
    """A titled table of text; columns of the places `right` are aligned to the right."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """Tables, notes under them, and their numbers as plain values."""

    tables: tuple[Table, ...]
    values: dict[str, Any]
    notes: tuple[str, ...] = ()


def times(name: str, values: Sequence[float], unit: str) -> tuple[str, ...]:
    """A row of a table with the headers `TIMES`."""
    spread = f"{min(values):.3f} .. {max(values):.3f}" if len(values) > 1 else "one run"
    return name, f"{statistics.median(values):.3f}", unit, spread


def time_table(title: str, rows: Sequence[tuple[str, ...]]) -> Table:
    """A table of `times` rows."""
    return Table(title, TIMES, tuple(rows), (1, 3))


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
