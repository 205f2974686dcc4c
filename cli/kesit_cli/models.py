"""`kesit model`: what a classifier's result tells, as text, pictures and ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from kesit_cli import show
from kesit_cli.progress import Progress
from kesit_cli.segments import Folder, LanguageOption, language_of, write_pictures

if TYPE_CHECKING:
    from kesit_server.classification.evaluated import Evaluated
    from kesit_server.classification.judging.judged import Judged
    from kesit_server.classification.telling.card import ModelCard
    from kesit_server.wording import Language

MOST_FEATURES = 12

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def model() -> None:
    """The classifier of a result folder: as text, as pictures, as ONNX."""


@app.command(name="show")
def show_(folder: Folder, language: LanguageOption = "en") -> None:
    """Print a model: what it predicts and goes by, its points table, what it is not for.

    FOLDER is that of a result; its model.json is all that is read. Of a study that only evaluated
    a released model it is evaluation.json, and how good the model is. Nothing is spent.

    \b
    Examples:
      kesit model show kesit-results/telecom-who-leaves-0a1b2c3d
      kesit model show kesit-results/telecom-who-leaves-0a1b2c3d --language tr
    """
    typer.echo(text_of(folder, language_of(language)))


@app.command()
def draw(
    folder: Folder,
    language: LanguageOption = "en",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; by default the result's own.")
    ] = None,
) -> None:
    """Draw a model as PNG: the shape of each feature with its band, and their importances.

    Existing pictures in the same language are replaced. Needs the extra `report`.

    \b
    Example:
      kesit model draw kesit-results/telecom-who-leaves-0a1b2c3d
    """
    with Progress(f"reading {folder}") as progress:
        from kesit_server.classification.telling import model_telling as telling
        from kesit_server.classification.telling import pictures

        told = telling.read(folder)
        progress.event("drawing")
        files = pictures.model_pictures(told, language_of(language))
    write_pictures(files, out or folder)


@app.command()
def export(
    folder: Folder,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="By default model.onnx in the result's folder."),
    ] = None,
) -> None:
    """Write a model as ONNX: raw values in, chances out, for programs without Kesit.

    Inputs are the features by name, each of shape (customers, 1): a double for a number (NaN is
    missing), a string for a list ("" is missing). model.json itself is the plain JSON form. Needs
    the extra `onnx`.

    \b
    Example:
      kesit model export kesit-results/telecom-who-leaves-0a1b2c3d
    """
    from kesit_privacy import model_file
    from kesit_server import reading, results
    from kesit_server.classification.telling.onnx_export import onnx_model

    reading.require(folder / model_file.MODEL)
    place = out or folder / "model.onnx"
    made = onnx_model(model_file.read(folder))
    results.replace_file(place, made.SerializeToString())
    typer.echo(str(place))


def text_of(folder: Path, language: Language = "en") -> str:
    """What a classifier's result folder tells: of a model, or of an evaluation alone."""
    from kesit_server import results
    from kesit_server.classification.telling import evaluation_telling
    from kesit_server.classification.telling import model_telling as telling

    if (folder / results.EVALUATION).exists():
        return evaluation_telling.read(folder).text(language)
    return telling.read(folder).text(language)


def print_evaluation(out: Console, found: Evaluated) -> None:
    """How good a released model is, and what the arms of an A/B test differ by."""
    out.print(f"model.json SHA-256 {found.digest}", soft_wrap=True)
    _print_judged(out, found.judged)


def _print_judged(out: Console, judged: Judged) -> None:
    out.print(judged.evaluation.text(), markup=False, soft_wrap=True)
    for found in judged.uplift:
        out.print(found.text(), markup=False, soft_wrap=True)


def print_model(out: Console, card: ModelCard) -> None:
    """What the model goes by, the most telling features first."""
    from kesit_server.classification.telling.model_telling import PER_LOGIT

    table = show.new_table("feature", "importance (points)", right=(1,))
    used = [name for name in card.importances if name not in card.unused]
    for name in used[:MOST_FEATURES]:
        table.add_row(name, f"{card.importances[name] * PER_LOGIT:.1f}")
    show.put(out, table)
    left = len(used) - MOST_FEATURES
    if left > 0:
        out.print(f"not shown: {left} features that tell less (model.json)")
    if card.unused:
        out.print(f"not in the model: {', '.join(card.unused)}", markup=False, soft_wrap=True)
    out.print("importance: how much its points differ between customers; 20 double the odds\n")
    judged = card.classifier.judged
    if judged is not None:
        _print_judged(out, judged)
    for words in card.doubts:
        out.print(f"Doubt: {words.en}", markup=False, soft_wrap=True)
