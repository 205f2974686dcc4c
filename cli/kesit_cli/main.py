"""The `kesit` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
import typer.core

import kesit_privacy.quiet  # noqa: F401  (before anything may import Flower)
from kesit_cli import bench, client, demo, exits, models, officer, segments, server, simulate, study

typer.core.HAS_RICH = False  # Typer would escape the brackets of plain help texts for Rich

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="kesit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # help texts hold TOML, whose brackets are no markup
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)
app.add_typer(simulate.app, name="simulate")
app.add_typer(study.app, name="study")
app.add_typer(segments.app, name="segments")
app.add_typer(models.app, name="model")
app.add_typer(server.app, name="server")
app.add_typer(client.app, name="client")
app.add_typer(officer.app, name="officer")
app.command(name="demo", context_settings=SETTINGS)(demo.demo)
app.command(name="bench", context_settings=SETTINGS)(bench.bench)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kesit {version('kesit')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Privacy-preserving federated customer segments and classifiers.

    Members keep their customers' rows; what leaves them are masked sums with differentially
    private noise.

    \b
    Begin here:
      kesit demo                          a federation of seven bank units, explained
      kesit study new my-study.toml       a study file in which every field is explained
      kesit study check my-study.toml     what it would do, and what it would cost
      kesit study rules my-study.toml     what KVKK and its neighbours ask of it
      kesit simulate run my-study.toml    run it on this machine
      kesit segments show FOLDER          what the result tells of each segment
      kesit model show FOLDER             what a classifier goes by, and its points table

    \b
    Between organisations:
      kesit server init ...               a coordinator's folder, certificates and member list
      kesit client init NAME ...          a member's folder: keys, policy, books
      kesit officer sign FILE             a compliance officer's signature

    Exit codes: 0 fine, 1 bug, 2 usage, 3 study, policy or settings, 4 data, 5 privacy budget,
    6 federation, 7 result not written or not readable, 130 interrupted.
    """


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: run the command, then exit with a code of `kesit_cli.exits`.

    Args:
        arguments: instead of those that the process was started with.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters is no error
    try:
        app(args=None if arguments is None else list(arguments), prog_name="kesit")
    except Exception as error:
        exits.leave(error)
    sys.exit(exits.OK)
