"""How long a sweep of many small studies takes, on as many processes as there are processors."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kesit_simulations.benchmarks.report import Report, Table, Tell, seconds
from kesit_simulations.sweeps import engine
from kesit_simulations.sweeps.spec import sweep_from_tables

STUDY, CLIENTS = "s1", 5


@dataclass(frozen=True)
class Size:
    """Number of studies."""

    studies: int = 1000


def run(quick: bool, tell: Tell) -> Report:
    """1,000 studies, or 50."""
    return measure(Size(50) if quick else Size(), tell)


def measure(size: Size, tell: Tell) -> Report:
    """One sweep over seeds, journal and table of results included.

    Raises:
        KesitError: the data set is not on this machine.
    """
    tables = {"study": STUDY, "sweep": {"clients": CLIENTS, "seeds": size.studies}}
    sweep = sweep_from_tables(tables, Path())
    processes = os.cpu_count() or 1
    tenth = max(1, size.studies // 10)

    def progress(tally: engine.Tally) -> None:
        if tally.done % tenth == 0:
            tell(f"sweep: {tally.done:,} of {tally.cells:,} studies")

    with tempfile.TemporaryDirectory(prefix="kesit-") as folder:
        spent = seconds(
            lambda: engine.run(
                sweep, Path(folder) / "sweep", processes=processes, on_progress=progress
            )
        )
    table = Table(
        f"A sweep over seeds of {STUDY} among {CLIENTS} clients",
        ("studies", "processes", "seconds", "studies a second"),
        ((f"{size.studies:,}", str(processes), f"{spent:.1f}", f"{size.studies / spent:.2f}"),),
        (0, 1, 2, 3),
    )
    values = {"studies": size.studies, "processes": processes, "seconds": spent}
    return Report((table,), values, ("1,000 studies are to take 600 seconds at most.",))
