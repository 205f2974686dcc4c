"""`kesit simulate new`, `sweep` and `plot`: many simulated studies, their table, their figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.console import Console

from kesit_cli import show
from kesit_cli.files import STDOUT, write_new
from kesit_cli.progress import CellProgress, Progress

if TYPE_CHECKING:
    import polars as pl


EXAMPLE = "s1"
"""The packaged sweep that explains every field."""

MOST_ROWS = 40
MOST_REASONS = 5
DESIGN = ("study", "k", "partition", "alpha", "clients", "silence", "method", "epsilon")
"""What tells cells apart, apart from the seed."""


def new(
    file: Annotated[str, typer.Argument(metavar="FILE", hidden=True)] = STDOUT,
    example: Annotated[
        str, typer.Option(metavar="NAME", help="Another of the example sweeps.")
    ] = EXAMPLE,
) -> None:
    """Write a sweep file in which every field is explained.

    FILE must not exist; "-" (the default) prints the text instead.

    \b
    Examples:
      kesit simulate new my-sweep.toml
      kesit simulate new skew.toml --example skew

    \b
    Examples that come with Kesit:
      clients, digits, s1, skew
    """
    from kesit_simulations.sweeps import spec

    text = spec.text(example)
    if file == STDOUT:
        typer.echo(text, nl=False)
        return
    write_new(Path(file), text)
    typer.echo(f"{file} is written. Next: kesit simulate sweep {file} --out FOLDER")


def sweep(
    out: Annotated[Path, typer.Option(help="Folder of the result: new, or this sweep's own.")],
    sweep_file: Annotated[Path | None, typer.Argument(metavar="SWEEP.toml", hidden=True)] = None,
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run an example sweep instead of a file.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, show_default=False, help="Processes: as many as cores if not given."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Allow more than 100,000 cells.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary for scripts, and nothing else.")
    ] = False,
) -> None:
    """Run a grid of simulated studies and baselines.

    SWEEP.toml names a study and lists of values; each combination with each seed is a row of the
    result. A sweep that was interrupted, even by a power cut, goes on where it stopped when the
    same command is given again.

    \b
    Examples:
      kesit simulate sweep my-sweep.toml --out my-sweep
      kesit simulate sweep --example s1 --out s1-sweep --processes 2
      kesit simulate sweep my-sweep.toml --out my-sweep --json | jq .failed
    """
    if (sweep_file is None) == (example is None):
        raise click.UsageError("Give SWEEP.toml or --example NAME, one of the two.")
    with Progress(f"reading {sweep_file or example}") as progress:
        from kesit_simulations.sweeps import engine, grid, pool, spec

        agreed = spec.example_sweep(example) if example else spec.read_sweep(sweep_file or Path())
        cells = grid.grid(agreed, many=yes)
        progress.event("reading and checking the data")
        loaded = engine.prepare(agreed)
    bar = CellProgress(len(cells))
    try:
        with bar:
            table = engine.run(
                agreed,
                out,
                processes=processes or pool.cores(),
                many=yes,
                loaded=loaded,
                on_progress=lambda tally: bar.update(tally.done, tally.failed),
            )
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped with {bar.done or 0:,} of {len(cells):,} cells done;"
            " the same command goes on from there.",
            err=True,
        )
        raise
    if as_json:
        typer.echo(json.dumps(_summary(table, out), ensure_ascii=False))
    else:
        _print(show.console(), table, out)
    _refuse_nothing_but_failures(table)


def plot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", hidden=True)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the figures; by default the sweep's own.")
    ] = None,
) -> None:
    """Draw the figures of a finished sweep, each as PNG and SVG.

    FOLDER is that of `kesit simulate sweep`. There is a figure for each thing that the sweep
    varies: the budget (utility), the division of rows (skew), the number of clients (clients); and
    what a study costs in messages and bytes (cost). Existing figures are replaced.

    \b
    Example:
      kesit simulate plot my-sweep
    """
    with Progress(f"reading {folder}") as progress:
        from kesit_server.results import replace_file
        from kesit_simulations.errors import SimulationError
        from kesit_simulations.sweeps import figures, plots, table

        charts = figures.charts(table.read(folder))
        if not charts:
            raise SimulationError(
                f"{folder}: there is nothing to draw: the sweep varies neither epsilon, nor"
                " clients, nor the division, or all of its cells failed.",
                remedy="Give one of these lists two values or more, and run another sweep.",
            )
        files: dict[str, bytes] = {}
        for chart in charts:
            progress.event(f"drawing {chart.name}")
            files |= plots.draw(chart)
        for name, data in files.items():
            replace_file((out or folder) / name, data)
    for chart in charts:
        typer.echo(f"{(out or folder) / chart.name}.png, .svg   {chart.title}")


def _summary(table: pl.DataFrame, folder: Path) -> dict[str, Any]:
    """What scripts read of a sweep."""
    return {
        "folder": str(folder),
        "cells": len(table),
        "failed": table["error"].count(),
        "reasons": _reasons(table),
        "medians": _medians(table).to_dicts(),
    }


def _print(screen: Console, table: pl.DataFrame, folder: Path) -> None:
    medians = _medians(table)
    numbers = [place for place, c in enumerate(medians.columns) if medians.schema[c].is_numeric()]
    shown = show.new_table(*(c.replace("_", " ") for c in medians.columns), right=numbers)
    for row in medians.head(MOST_ROWS).rows():
        shown.add_row(*(_cell(value) for value in row))
    screen.print()
    show.put(screen, shown)
    if len(medians) > MOST_ROWS:
        screen.print(f"not shown: {len(medians) - MOST_ROWS} rows more")
    screen.print("ratio: inertia over that of k-means without privacy; over seeds\n")
    failed = table["error"].count()
    facts = [("Cells", f"{len(table):,}, of which {failed:,} failed.")]
    reasons = _reasons(table)
    facts += [
        ("Failures" if not n else "", f"{number:,} times: {reason}")
        for n, (reason, number) in enumerate(list(reasons.items())[:MOST_REASONS])
    ]
    if len(reasons) > MOST_REASONS:
        facts.append(("", f"and {len(reasons) - MOST_REASONS} reasons more"))
    facts.append(("Result", f"{folder}\nresults.parquet, sweep.json, journal.sqlite"))
    facts.append(("Next", f"kesit simulate plot {folder}"))
    show.print_facts(screen, facts)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _medians(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each combination: the ratio's median and 10-90 % over the seeds, and failures."""
    import polars as pl

    kept = [c for c in DESIGN if c in ("method", "epsilon") or table[c].drop_nulls().n_unique() > 1]
    ratio = pl.col("ratio")
    return table.group_by(kept, maintain_order=True).agg(
        ratio=ratio.median(),
        ratio_10=ratio.quantile(0.1, "linear"),
        ratio_90=ratio.quantile(0.9, "linear"),
        failed=pl.col("error").count(),
    )


def _reasons(table: pl.DataFrame) -> dict[str, int]:
    """How often cells failed for what, the most frequent first."""
    import polars as pl

    counted = table.filter(pl.col("error").is_not_null())["error"].value_counts(sort=True)
    return dict(counted.sort("count", "error", descending=[True, False]).rows())


def _refuse_nothing_but_failures(table: pl.DataFrame) -> None:
    from kesit_simulations.errors import SimulationError

    if table["error"].null_count() == 0:
        raise SimulationError(
            f"All {len(table):,} cells failed.",
            remedy="Read the reasons above, correct the sweep, and give another --out.",
        )
