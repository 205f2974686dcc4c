"""`kesit simulate`: whole federations on one machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer
from rich.console import Console

from kesit_cli import runs, show, sweep
from kesit_cli.progress import Progress

if TYPE_CHECKING:
    from kesit_privacy.study import Study
    from kesit_simulations.plan import SimulationPlan
    from kesit_simulations.runner import Customers

RESULTS = "kesit-results"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


app.command("new")(sweep.new)
app.command("sweep")(sweep.sweep)
app.command("plot")(sweep.plot)


@app.callback()
def simulate() -> None:
    """Whole federations on this machine, with the production server and clients."""


@app.command()
def run(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", hidden=True)],
    data: Annotated[
        str | None,
        typer.Option(help="Data set (see `kesit simulate data`), or a CSV or Parquet file."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column of the customers' ids, for a file.")
    ] = None,
    clients: Annotated[int | None, typer.Option(help="Number of clients.")] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            click_type=click.Choice(["iid", "dirichlet", "quantity", "column"]),
            help="How the rows are divided among them.",
        ),
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Skew of dirichlet and quantity: 0.1 strong, 100 none.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="One client a value (column), or skewed by it (dirichlet).")
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            click_type=click.Choice(["seeded", "secure", "off"]),
            help="Fast and repeatable; OpenDP's sampler; or none.",
        ),
    ] = None,
    masks: Annotated[
        bool | None, typer.Option("--masks/--no-masks", help="Whether clients mask their sums.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the division and of seeded noise.")] = None,
    silence: Annotated[
        float | None, typer.Option(help="Chance that a client misses a message.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            click_type=click.Choice(["in-process", "ray"]),
            help="What runs the clients: this process, or Flower's own engine (Ray).",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help='Result of the model that estimator = "released" evaluates.'
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"Folder of the result; by default a new one in {RESULTS}/."),
    ] = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate/--no-evaluate",
            show_default=False,
            help="Compare with k-means without privacy (the default).",
        ),
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary for scripts, and nothing else.")
    ] = False,
) -> None:
    """Run a study over many clients on this machine.

    STUDY.toml names the data in its [simulation] table; options override that table for this run.
    The result is a new folder with the segments, the privacy statement, the signed spending log and
    what the simulation cost.

    \b
    Examples:
      kesit simulate run my-study.toml
      kesit simulate run my-study.toml --partition iid --clients 100 --noise secure
      kesit simulate run my-study.toml --data customers.csv --id customer_no
      kesit simulate run my-study.toml --partition column --column channel
      kesit simulate run my-study.toml --json | jq .evaluation.ratio
    """
    changes = {
        "data": data,
        "id_column": id_column,
        "clients": clients,
        "partition": partition,
        "alpha": alpha,
        "column": column,
        "noise": noise,
        "masks": masks,
        "seed": seed,
        "silence": silence,
        "backend": backend,
    }
    if out is not None:
        runs.check_place(out)
    else:
        runs.check_place(Path(RESULTS) / "run")
    with Progress(f"reading {study_file}") as progress:
        study, plan, base = _read(study_file, changes)
        if plan.backend == "ray":
            _require_ray()
        from kesit_simulations.runner import load_customers, require_training  # imports Flower

        require_training(study)
        from kesit_server.classification.judging.released import released_model

        released = released_model(study, model)
        progress.event(f"reading and checking {plan.data}")
        customers = load_customers(study, plan, base)
    screen = show.console()
    if not as_json:
        _print_start(screen, study, plan, customers)
    with Progress("hello: the members make keys for this run") as progress:
        finished = runs.execute(
            study, plan, customers, out, RESULTS, progress, evaluate=evaluate, released=released
        )
    if as_json:
        typer.echo(json.dumps(runs.summary(finished), ensure_ascii=False))
    else:
        runs.print_result(screen, finished)


@app.command("data")
def data_sets() -> None:
    """List the known data sets, and whether they are on this machine.

    Public data sets are read from the folder that the environment variable KESIT_DATA names, or
    from ../shared/data; digits and retail-bank are always there.

    \b
    Example:
      kesit simulate data
    """
    from kesit_simulations import datasets
    from kesit_simulations.errors import SimulationError

    table = show.new_table("name", "rows", "columns", "what", "terms of use", right=(1, 2))
    absent = None
    with Progress("reading the data sets") as progress:
        for name in datasets.names():
            progress.event(name)
            try:
                found = datasets.load(name)
            except SimulationError as error:
                table.add_row(name, "absent", "", "", "")
                absent = absent or error
            else:
                rows, columns = found.frame.shape
                table.add_row(name, f"{rows:,}", str(columns), found.title, found.licence)
    screen = show.console()
    show.put(screen, table)
    if absent:
        screen.print(f"\n{absent}", soft_wrap=True)


def _require_ray() -> None:
    from kesit_simulations.ray_backend import require_ray

    require_ray()


def _read(path: Path, changes: dict[str, Any]) -> tuple[Study, SimulationPlan, Path]:
    """The study, its plan with `changes`, and the folder to which the plan's files are relative."""
    from kesit_privacy import recipes
    from kesit_privacy.errors import StudyError
    from kesit_privacy.study_file import study_from_tables
    from kesit_privacy.tables import read_tables
    from kesit_simulations.plan import read_plan

    tables = read_tables(path)
    study = study_from_tables(tables)
    recipes.check_budget(study)
    given = {name: value for name, value in changes.items() if value is not None}
    table = tables.get("simulation", {})
    if given and isinstance(table, dict):
        divided = {**table, **given}
        if given.get("partition") in ("iid", "quantity") and "column" not in given:
            divided.pop("column", None)  # of the file's own division, which is not wanted
        tables = {**tables, "simulation": divided}
    # A file that stands in the study is beside the study; one on the command line is not.
    base = Path() if "data" in given else path.parent
    simulation = read_plan(tables)
    if "clients" in given and simulation.partition == "column":
        raise StudyError(
            "simulation.clients",
            "has no meaning with partition = 'column', which makes a client of each value.",
            remedy="Leave --clients out, or add --partition iid.",
        )
    return study, simulation, base


def _print_start(screen: Console, study: Study, plan: SimulationPlan, customers: Customers) -> None:
    sizes = [len(part) for part in customers.parts]
    span = f"{min(sizes):,}" if min(sizes) == max(sizes) else f"{min(sizes):,} to {max(sizes):,}"
    masks = "masked sums" if plan.masks else "NO masks"
    show.print_facts(
        screen,
        [
            ("Study", f"{study.name}: {show.task(study)}, ε = {study.epsilon:g}"),
            ("", f"hash {study.hash}"),
            (
                "Clients",
                f"{len(sizes):,} with {span} of the {sum(sizes):,}"
                f" customers of {plan.data} ({plan.partition}); {plan.noise} noise, {masks}",
            ),
        ],
    )
