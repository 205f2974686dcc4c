"""`kesit segments`: what a result folder tells, as text and as pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from kesit_cli.progress import Progress

if TYPE_CHECKING:
    from kesit_server.wording import Language

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", hidden=True)]
LanguageOption = Annotated[
    str,
    typer.Option(
        "--language",
        click_type=click.Choice(["en", "tr"]),
        show_default=False,
        help="English (the default), or Turkish (Türkçe).",
    ),
]


@app.callback()
def segments() -> None:
    """The segments of a result folder: as text, and as pictures."""


@app.command()
def show(folder: Folder, language: LanguageOption = "en") -> None:
    """Print the segments of a result: cards, choice of k, fit, dendrogram.

    FOLDER is that of a result; its segments.json is all that is read. Nothing is spent.

    \b
    Examples:
      kesit segments show kesit-results/my-study-0a1b2c3d
      kesit segments show kesit-results/my-study-0a1b2c3d --language tr
    """
    from kesit_server.portrait import telling

    typer.echo(telling.read(folder).text(language_of(language)))


@app.command()
def draw(
    folder: Folder,
    language: LanguageOption = "en",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; by default the result's own.")
    ] = None,
) -> None:
    """Draw the segments of a result as PNG: cards, choice of k, dendrogram.

    FOLDER is that of a result; its segments.json is all that is read. Existing pictures in the same
    language are replaced. Needs the extra `report`.

    \b
    Examples:
      kesit segments draw kesit-results/my-study-0a1b2c3d
      kesit segments draw kesit-results/my-study-0a1b2c3d --language tr --out pictures
    """
    with Progress(f"reading {folder}") as progress:
        from kesit_server.portrait import pictures, telling

        told = telling.read(folder)
        progress.event("drawing")
        files = pictures.pictures(told, language_of(language))
    write_pictures(files, out or folder)


def write_pictures(files: Mapping[str, bytes], folder: Path) -> None:
    """Write each picture whole, and print where it is."""
    from kesit_server import results

    for name, data in files.items():
        results.replace_file(folder / name, data)
    for name in files:
        typer.echo(str(folder / name))


def language_of(text: str) -> Language:
    """The option's value as the type that texts want."""
    return "tr" if text == "tr" else "en"
