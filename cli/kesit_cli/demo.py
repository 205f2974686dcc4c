"""`kesit demo`: a federation that explains itself, for whoever sees Kesit for the first time."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.console import Console

from kesit_cli import runs, show
from kesit_cli.progress import Progress
from kesit_cli.study import count_noise

if TYPE_CHECKING:
    import polars as pl

    from kesit_cli.runs import Finished
    from kesit_privacy.study import Study
    from kesit_simulations.plan import SimulationPlan

RESULTS = "kesit-demo"
CUSTOMERS = 60_000
FEWEST = 5_000

WHAT = {
    "grid": "customers in each cell of a grid over all features",
    "marginals": "customers in each of a few bands of every feature",
    "cluster-sums": "customers near each of {centres} points, and their average",
    "evaluation": "customers of each segment, and how far they are from its centre",
}


def demo(
    out: Annotated[
        Path | None, typer.Option(help=f"Folder of the result; by default a new one in {RESULTS}/.")
    ] = None,
    customers: Annotated[
        int,
        typer.Option(
            show_default=False, help="Number of customers: 60000 if not given, 5000 at least."
        ),
    ] = CUSTOMERS,
    deployment: Annotated[
        bool,
        typer.Option("--deployment", help="Over real processes, TLS and keys, on this machine."),
    ] = False,
) -> None:
    """Find the customer segments of a made-up Turkish bank without pooling its customers.

    Five branches and two partners hold 60,000 customers. Each keeps its rows; what it sends are
    masked sums with the noise of production. Needs no data and no network, and takes seconds.

    \b
    Examples:
      kesit demo
      kesit demo --customers 200000 --out demo-result
      kesit demo --deployment

    With --deployment five branches run as processes of their own, with keys, certificates, policies
    and books in folders that stay for you to look at; the server is a process, too.
    """
    if customers < FEWEST:
        raise click.UsageError(f"The demo needs --customers of {FEWEST} or more.")
    if deployment:
        _deployed(customers, out or Path(RESULTS))
        return
    runs.check_place(out or Path(RESULTS) / "run")
    screen = show.console()
    with Progress("making the bank's customers") as progress:
        from kesit_simulations.runner import code_customers

        study, plan = _agreed(customers)
        bank = _bank(customers)
        coded = code_customers(study, plan, bank, "customer_id", "segment")
    _print_members(screen, study, bank)
    with Progress("hello: the members make keys for this run") as progress:
        finished = runs.execute(study, plan, coded, out, RESULTS, progress)
    _print_sums(screen, finished)
    screen.print("\n3. What came out: segments of all customers together\n", style="bold")
    show.print_segments(screen, finished.result.portrait)
    screen.print("\n4. What it cost, and how good it is\n", style="bold")
    show.print_facts(screen, runs.closing_facts(finished))
    screen.print(
        "\nNext: read privacy.md in that folder; or begin a study of your own with\n"
        "  kesit study new my-study.toml"
    )


def _deployed(customers: int, base: Path) -> None:
    from kesit_cli import demo_deployment

    with Progress("making the bank's customers"):
        bank = _bank(customers)
        held = sum(len(table) for table in demo_deployment.branches(bank).values())
    demo_deployment.run(bank, _study_text(held), base)


def _agreed(customers: int) -> tuple[Study, SimulationPlan]:
    """The packaged study, for this number of customers."""
    from kesit_privacy.study_file import study_from_tables
    from kesit_simulations.plan import read_plan

    tables: dict[str, Any] = tomllib.loads(_study_text(customers))
    return study_from_tables(tables), read_plan(tables)


def _study_text(customers: int) -> str:
    """The packaged study's TOML, for this number of customers."""
    from kesit_simulations import studies

    text = studies.text(studies.DEMO)
    if customers == CUSTOMERS:
        return text
    delta = f"{1 / (customers * math.log(customers)):.1e}"
    text = re.sub(r"(?m)^declared_customers = \S+", f"declared_customers = {customers}", text)
    return re.sub(r"(?m)^delta = \S+", f"delta = {delta}", text)


def _bank(customers: int) -> pl.DataFrame:
    from kesit_simulations import retail_bank

    return retail_bank.generate(customers)


def _print_members(screen: Console, study: Study, bank: pl.DataFrame) -> None:
    screen.print("\n1. Who takes part: each keeps its own customers' rows\n", style="bold")
    table = show.new_table("client", "customers", right=(1,))
    for unit, rows in bank.group_by("unit").len().sort("unit").rows():
        table.add_row(str(unit), f"{rows:,}")
    show.put(screen, table)
    screen.print(
        f"\nThey agreed on the study {study.name!r}: {study.segmenting.k} segments, and a"
        f" privacy budget of ε = {study.epsilon:g} at δ = {study.delta:g} for each customer. Its"
        f" hash, which every client compares with its own copy, is {study.hash}."
    )


def _print_sums(screen: Console, finished: Finished) -> None:
    study = finished.study
    screen.print(
        "\n2. What left a client: these sums over its customers, and no row\n", style="bold"
    )
    table = show.new_table(
        "sum", "what it counts", "numbers", "noise (95 %)", "budget", right=(2, 3, 4)
    )
    for opened in finished.result.federation.sums:
        step = study.step(opened.step)
        if step is None:
            continue
        noise = 1.96 * count_noise(study, step, opened.roster)
        centres = len(opened.values) // (1 + finished.result.segments.space.dimensions)
        table.add_row(
            opened.step,
            WHAT.get(step.query, step.query).format(centres=centres),
            f"{len(opened.values):,}",
            f"± {show.number(noise)}",
            f"{step.share:.0%}",
        )
    show.put(screen, table)
    screen.print(
        "\nEach client added its share of the noise, and masks that cancel only in the sum of all"
        " clients: what the server got from any one of them looks like random numbers."
    )
