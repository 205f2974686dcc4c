"""`kesit bench`: what Kesit costs and how good it is, measured on this machine."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.console import Console

from kesit_cli import show
from kesit_cli.progress import Progress

if TYPE_CHECKING:
    from kesit_simulations.benchmarks import Report

NAMES = (
    *("step", "federation", "ray", "quality", "choice", "deployment", "sweep"),
    *("classifiers", "scoring", "consent"),
)
"""As in `kesit_simulations.benchmarks.PARTS`, which takes seconds to import."""


def bench(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="[PART]...", show_default=False, hidden=True)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller sizes and fewer repeats: minutes, not hours.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers here, too.")
    ] = None,
) -> None:
    """Measure Kesit beside something familiar in the same run.

    Without a PART all are run; those that this machine lacks something for are left out, and it is
    said why.

    \b
    Parts:
      step        a client's k-means step, beside scikit-learn's on the same rows
      federation  whole studies in one process, and what the grid adds to a message
      ray         200 clients, in one process and on Flower's own engine
      quality     inertia of Kesit and the baselines on five data sets, and bytes a client
      choice      how often the number of segments is found, beside plain indices
      deployment  a study over real processes and TLS, beside plain Flower and its SecAgg+
      sweep       how long 1,000 small studies take
      classifiers AUC of Kesit and the baselines on three data sets
      scoring     a million customers scored by a released model
      consent     import of a million consents, and the filter before a sum

    \b
    Examples:
      kesit bench --quick
      kesit bench quality --json quality.json
    """
    for name in parts or ():
        if name not in NAMES:
            raise click.UsageError(f"There is no part {name!r}; there are: {', '.join(NAMES)}.")
    if json_file is not None:
        _check_place(json_file)
    from kesit_simulations.benchmarks import PARTS

    screen = show.console()
    values: dict[str, Any] = {}
    for name in parts or NAMES:
        report = _run(name, quick, skip=not parts)
        screen.print(f"\n{name}: {PARTS[name].title}", style="bold")
        _print(screen, report)
        values[name] = report.values
    if json_file is not None:
        _write(json_file, {**_machine(), "quick": quick, "parts": values})


def _run(name: str, quick: bool, *, skip: bool) -> Report:
    from kesit_privacy.errors import KesitError
    from kesit_simulations.benchmarks import PARTS, Report

    try:
        with Progress(f"{name}: {PARTS[name].title}") as progress:
            return PARTS[name].run(quick, progress.event)
    except KesitError as error:
        if not skip:
            raise
        return Report((), {"left_out": str(error)}, (f"Left out. {error}",))


def _print(screen: Console, report: Report) -> None:
    for table in report.tables:
        screen.print(f"\n{table.title}", soft_wrap=True)
        shown = show.new_table(*table.headers, right=table.right)
        for row in table.rows:
            shown.add_row(*row)
        show.put(screen, shown)
    for note in report.notes:
        screen.print(f"\n{note}", soft_wrap=True)


def _machine() -> dict[str, Any]:
    return {
        "kesit": version("kesit"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processors": os.cpu_count(),
    }


def _check_place(path: Path) -> None:
    from kesit_server.errors import ResultError

    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ResultError(
            f"{path}: no file can be written there.", remedy="Give another --json FILE."
        )


def _write(path: Path, value: dict[str, Any]) -> None:
    from kesit_privacy.files import replacing
    from kesit_server.errors import ResultError

    try:
        with replacing(path) as file:
            file.write(json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n")
    except OSError as error:
        raise ResultError(
            f"{path}: the numbers cannot be written ({error.strerror}).",
            remedy="Give another --json FILE.",
        ) from error
