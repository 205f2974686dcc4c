"""`kesit study`: write study files, and check them before anything is spent."""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer
from rich.console import Console

from kesit_cli import rules, show
from kesit_cli.files import STDOUT, write_new
from kesit_cli.progress import Progress

if TYPE_CHECKING:
    from kesit_client.owner.policy import Policy
    from kesit_client.rows.coding import Coverage
    from kesit_client.rows.sources import Source
    from kesit_privacy.study import PlanStep, Study

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def study() -> None:
    """Write study files, and check them before anything is spent."""


@app.command()
def new(
    file: Annotated[str, typer.Argument(metavar="FILE", hidden=True)] = STDOUT,
    example: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the example studies instead.")
    ] = None,
) -> None:
    """Write a study file in which every field is explained.

    FILE must not exist; "-" (the default) prints the text instead.

    \b
    Examples:
      kesit study new my-study.toml
      kesit study new s1.toml --example s1
      kesit study new churn.toml --example telco-churn
      kesit study new --example retail-bank | less

    \b
    Examples that come with Kesit:
      adult, bank, digits, house, online-retail, retail-bank, s1, telco, yeast (segments)
      adult-income, bank-subscription, retail-bank-segment, telco-churn (classifiers)
    """
    if example is None:
        text = resources.files("kesit_cli").joinpath("template.toml").read_text(encoding="utf-8")
    else:
        from kesit_simulations import studies

        text = studies.text(example)
    if file == STDOUT:
        typer.echo(text, nl=False)
        return
    write_new(Path(file), text)
    typer.echo(f"{file} is written. Next: kesit study check {file}")


@app.command()
def check(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", hidden=True)],
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check this CSV or Parquet file, too.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="The file's column of ids.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(metavar="source.toml", help="Check the data of this node's source, too."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="policy.toml", help="Check against what this policy allows, too."),
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="books.sqlite",
            help="Check against what is left in these books (needs --policy).",
        ),
    ] = None,
    expected: Annotated[
        str | None, typer.Option("--hash", metavar="HASH", help="Refuse if the hash is another.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help='Check the model that estimator = "released" evaluates: that it is the one agreed'
            " on, for this purpose, and fits.",
        ),
    ] = None,
) -> None:
    """Check STUDY.toml, and show what it would do and what it would cost.

    With a member's data, policy and books it also tells whether that member can take part. Nothing
    is sent, nothing is spent, and no data are shown but what is wrong with them.

    \b
    Examples:
      kesit study check my-study.toml
      kesit study check my-study.toml --data customers.csv --id customer_no
      kesit study check my-study.toml --source source.toml --policy policy.toml
      kesit study check my-study.toml --policy policy.toml --store books.sqlite
      kesit study check my-study.toml --hash HASH
      kesit study check again.toml --model kesit-results/FOLDER
    """
    _check_options(data, id_column, source, policy, store)
    with Progress(f"reading {study_file}"):
        study = _load(study_file, expected)
        _check_simulation(study_file)
        released = _released(study, model)
        from kesit_privacy import recipes

    screen = show.console()
    _print_study(screen, study)
    show.print_facts(screen, released)
    recipes.check_budget(study)
    allowed = None if policy is None else _policy(policy)
    if data is not None or source is not None:
        with Progress(f"reading and checking {data or source}"):
            customers, found = _check_data(study, _source(data, id_column, source), allowed)
        _print_coverage(screen, customers, found)
    if allowed is not None:
        _check_policy(screen, study, allowed, store)
    show.print_facts(screen, [("Next", _next_step(study_file, data or source, policy))])


def _check_options(
    data: Path | None,
    id_column: str | None,
    source: Path | None,
    policy: Path | None,
    store: Path | None,
) -> None:
    if (data is None) != (id_column is None):
        raise click.UsageError("Give --data FILE and --id COLUMN together.")
    if data is not None and source is not None:
        raise click.UsageError("Give --data or --source, not both.")
    if store is not None and policy is None:
        raise click.UsageError("--store needs --policy: the caps on the books stand in the policy.")


def _load(path: Path, expected: str | None) -> Study:
    from kesit_privacy.errors import StudyError
    from kesit_privacy.study_file import load_study

    study = load_study(path)
    if expected is not None and expected.strip().lower() != study.hash:
        raise StudyError(
            str(path),
            f"its hash is {study.hash}, not {expected.strip().lower()}: this is another study than"
            " the one that was agreed on.",
            remedy="Compare the file with the other members' copies, field by field; take no part"
            " before the hashes agree.",
        )
    return study


def _check_simulation(path: Path) -> None:
    """The file's [simulation] table, if it has one, is no part of the study, but may be wrong."""
    from kesit_privacy.tables import read_tables
    from kesit_simulations.plan import read_plan

    tables = read_tables(path)
    if "simulation" in tables:
        read_plan(tables)


def _released(study: Study, folder: Path | None) -> list[tuple[str, str]]:
    """What is told of the model that the study evaluates, if it evaluates one.

    Raises:
        KesitError: the model of `folder` is not that one, or of another purpose, or does not fit.
    """
    if folder is None and (study.classification is None or study.classification.trains):
        return []
    if folder is None:
        text = "not checked: give the folder of its result with --model FOLDER."
        return [("Model file", f"{text} It must be of the purpose {study.purpose!r}.")]
    from kesit_server.classification.judging.released import released_model

    found = released_model(study, folder)
    assert found is not None
    text = f"{folder}: the one agreed on, of the study's purpose; it fits the study."
    notes = [("Warning", found.notice)] if found.notice else []
    return [("Model file", text), *notes]


def _print_study(screen: Console, study: Study) -> None:
    from kesit_privacy import accounting, recipes
    from kesit_privacy.embedding import Embedding
    from kesit_privacy.sides import BookSide
    from kesit_privacy.training import TRAINED
    from kesit_server.pots import Pot
    from kesit_server.statement import round_up

    used = len(Embedding.of(study).features)
    keep = study.classification and study.classification.keep
    made = f"{used} of {len(study.features)} features"
    if keep and keep < used:
        made = f"the {keep} most telling of {used} features"
    least, colluders = study.roster.min_size, study.roster.max_colluders
    people = (
        "each of whom is at one member only"
        if study.max_clients_per_customer == 1
        else f"each of whom may be at {study.max_clients_per_customer} members"
    )
    show.print_facts(
        screen,
        [
            ("Study", study.name),
            ("Hash", study.hash),
            ("Purpose", f"{study.purpose}, on the ground {study.legal_basis}"),
            (
                "Segments" if study.classification is None else "Model",
                f"{show.task(study)}, made of {made};"
                f" protected: {', '.join(study.protected) or 'none'}",
            ),
            ("Customers", f"about {study.declared_customers:,}, {people}"),
            (
                "Members",
                f"{least} at least; any {colluders} of them may collude with the server",
            ),
            (
                "Cost",
                f"ε = {study.epsilon:g} at δ = {study.delta:g} for each customer, and never more,"
                " whatever fails",
            ),
            (
                "Signal",
                f"{recipes.signal(study)[0]:.3g} times the noise (refused below"
                f" {recipes.signal(study)[1]:g})",
            ),
            *_needed(study),
        ],
    )
    headers = ("sum", "query", "share of budget", "ε alone", "noise on a count (σ, customers)")
    table = show.new_table(*headers, right=(2, 3, 4))
    for step in study.plan:
        if step.query == TRAINED:
            alone = Pot(study).after(1)
            table.add_row(step.step, step.query, "own pot", f"{alone:.4f}", "in the training")
            continue
        alone = round_up(accounting.epsilon(study.step_units(step), study.sums_delta))
        noise = show.number(count_noise(study, step, least))
        table.add_row(step.step, step.query, f"{step.share:.1%}", f"{alone:.4f}", noise)
    screen.print()
    show.put(screen, table)
    held = [step for step in study.plan if study.side(step) is BookSide.HELD]
    if held and not study.classifying.trains:
        screen.print("evaluation: of all customers; nobody trains a model")
    elif held:
        screen.print(
            f"{' and '.join(step.step for step in held)}: of the {study.classifying.holdout:.0%} of"
            " customers whom the other sums leave out, so shares add up for each group by itself"
        )
    if study.classification is not None and study.classification.folds is not None:
        folds = study.classification.folds
        screen.print(
            f"{folds} folds: each customer is in the trainings of {folds - 1} and evaluates one,"
            f" and every sum is priced for everybody; a client answers {len(study.plan)} of them"
            f" instead of {len(study.plan) // folds}"
        )
    screen.print(f"with {least} members; more members add less\n")


def _needed(study: Study) -> list[tuple[str, str]]:
    """What each member must have installed beside Kesit, and whether this machine has it."""
    if study.training is None:
        return []
    from kesit_client.neural.training import NEEDED, missing

    absent = missing()
    here = f"not installed here: {', '.join(absent)}" if absent else "both are installed here"
    return [
        (
            "Needed",
            f"each member trains a network with {' and '.join(NEEDED)}:"
            f" pip install 'kesit[neural]' ({here}); the coordinator needs neither",
        )
    ]


def count_noise(study: Study, step: PlanStep, members: int) -> float:
    """Standard deviation of the noise on a number of customers in one sum of the plan.

    A count stands in its sum with weight 1 (histograms; Δ = √d for d marginals) or √s (cluster sums
    and the evaluation, whose counts have the share s of the sensitivity); the opened noise is
    √(n/(n-c)) times the one that is charged. Infinite if the step's share of the budget rounds to
    nothing. In label histograms it is that of the feature with the most weight; other training sums
    of a classifier count no customers, and their noise is on a residual of 1. Its evaluation's
    histogram of two classes has weight 1.
    """
    from kesit_privacy import accounting, recipes
    from kesit_privacy.embedding import Embedding
    from kesit_privacy.queries.evaluation import SIZE
    from kesit_server.segmentation import codebook
    from kesit_server.segmentation import segmenter as segmentation

    mu = accounting.mu(study.step_units(step))
    if mu == 0:
        return math.inf
    federated = math.sqrt(members / (members - study.roster.max_colluders))
    sigma = study.max_clients_per_customer * federated / mu
    if step.query == "label-histograms":
        from kesit_privacy.target import held_out
        from kesit_server.classification.training.labels import labels_query

        # Whoever is held out, the weights are the same.
        return sigma / float(labels_query(study, list(held_out(study))).amplitudes.max())
    if step.query == "marginals":
        return sigma * math.sqrt(len(Embedding.of(study).features))
    whole = {"grid": 100, "score-evaluation": 100, "evaluation": SIZE}
    percent = whole.get(step.query, segmentation.COUNT_SHARE)
    if step.step in recipes.levels(study):
        percent = codebook.COUNT_SHARE
    return sigma / math.sqrt(percent / 100)


def _policy(path: Path) -> Policy:
    from kesit_client.owner.policy import Policy

    return Policy.load(path)


def _source(data: Path | None, id_column: str | None, source: Path | None) -> Source:
    from kesit_client.home import read_source
    from kesit_client.rows.sources import FileSource

    if data is not None and id_column is not None:
        return FileSource(data, id_column)
    assert source is not None
    return read_source(source)


def _check_data(study: Study, source: Source, policy: Policy | None) -> tuple[int, list[Coverage]]:
    """Number of customers, if there is nothing wrong with them, and what coding does to them."""
    from kesit_client.errors import DataError
    from kesit_client.rows.coding import check as problems_of
    from kesit_client.rows.coding import coverage, encode
    from kesit_simulations.runner import check_distinct

    table = source.read([feature.name for feature in study.features])
    fewest = 1 if policy is None else policy.min_customers
    problems = problems_of(table, study, source.id_column, fewest)
    if problems:
        raise DataError(problems)
    codes = encode(table, study, source.id_column)
    check_distinct(study, codes)
    return len(codes), coverage(table, study)


def _print_coverage(screen: Console, customers: int, found: list[Coverage]) -> None:
    show.print_facts(screen, [("Data", f"{customers:,} customers; no problem was found.")])
    touched = [row for row in found if row.missing or row.beyond]
    if not touched:
        return
    table = show.new_table("feature", "missing", "beyond the bounds", right=(1, 2))
    for row in touched:
        table.add_row(
            row.feature, f"{row.missing / customers:.1%}", f"{row.beyond / customers:.1%}"
        )
    show.put(screen, table)
    screen.print("missing values have a cell of their own; others count as the nearest bound\n")


def _check_policy(screen: Console, study: Study, policy: Policy, store: Path | None) -> None:
    from kesit_client.owner import preflight

    books = None if store is None else preflight.open_books(store)
    try:
        forecasts = preflight.forecast(study, policy, books)
    finally:
        if books is not None:
            books.close()
    show.print_facts(screen, [("Policy", _policy_text(study, policy))])
    show.print_forecasts(screen, forecasts)
    preflight.require_room(study, forecasts)


def _policy_text(study: Study, policy: Policy) -> str:
    text = "allows the purpose, the features and the queries."
    needed = max(study.roster.min_size, policy.min_roster)
    if len(policy.pinned) + 1 < needed:
        text += (
            f" But a sum needs {needed} members, and the policy's pinned peers are"
            f" {len(policy.pinned)}: pin the others before the run."
        )
    return text


def _next_step(study_file: Path, data: Path | None, policy: Path | None) -> str:
    if data is None and policy is None:
        return f"kesit simulate run {study_file}"
    return "compare the hash with the other members, then approve this copy."


app.command(name="rules")(rules.study_rules)
