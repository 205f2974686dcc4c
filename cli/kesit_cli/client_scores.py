"""`kesit client score`, `segment`: a released result on a member's own customers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import show
from kesit_cli.keys import Home
from kesit_cli.progress import Progress
from kesit_cli.segments import Folder, LanguageOption, language_of

if TYPE_CHECKING:
    from kesit_client.results.given_out import GivenOut, Released
    from kesit_client.rights.exports import Export


def score(
    folder: Folder,
    home: Home,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .csv or .parquet file, new or not.")],
    recipient: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who gets the file: noted among the exports."),
    ] = None,
) -> None:
    """Write the chance of each customer of this node's source, by the model in FOLDER.

    A chance about a person is personal data. Where consents are kept, only customers who have a
    ground for the model's purpose at this moment are scored, and nobody with an open objection to
    automated decisions; how many were left out is told here alone. A file that somebody else gets
    is an export: with --recipient it is noted who is in it, and a withdrawal marks it.

    \b
    Examples:
      kesit client score kesit-results/telecom-who-leaves-0a1b2c3d --out scores.csv --home ankara
      kesit client score kesit-results/telecom-who-leaves-0a1b2c3d --out scores.csv \\
        --recipient "Call centre" --home ankara
    """
    from kesit_client.results import given_out, scoring
    from kesit_privacy import model_file

    with Progress(f"reading {folder}") as progress:
        given_out.require_place(home, out)
        model = model_file.read(folder)
        progress.event("scoring")
        scored = scoring.score_home(home, model)
        noted = _written(home, scored, model, out, recipient, f"chances of {model.target}")
    _tell("Scored", scored, out, noted, asked=recipient is not None, purpose=model.purpose)


def segment(
    folder: Folder,
    home: Home,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .csv or .parquet file, new or not.")],
    recipient: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who gets the file: noted among the exports."),
    ] = None,
    language: LanguageOption = "en",
) -> None:
    """Write the segment of each customer of this node's source, by the segments in FOLDER.

    The file holds the segment's number and name, and how far the customer is from its centre (1 is
    one feature's whole range). A segment code of a person is personal data: who is left out, and
    what --recipient does, is as for `kesit client score`.

    \b
    Examples:
      kesit client segment kesit-results/my-study-0a1b2c3d --out segments.csv --home ankara
      kesit client segment kesit-results/my-study-0a1b2c3d --out segments.csv \\
        --recipient "Call centre" --language tr --home ankara
    """
    from kesit_client.results import given_out, segmenting
    from kesit_privacy import segment_file

    with Progress(f"reading {folder}") as progress:
        given_out.require_place(home, out)
        segments = segment_file.read(folder)
        progress.event("finding the nearest centres")
        found = segmenting.assign_home(home, segments, language_of(language))
        noted = _written(home, found, segments, out, recipient, "segment codes")
    _tell("Segmented", found, out, noted, asked=recipient is not None, purpose=segments.purpose)


def _written(
    home: Path, found: GivenOut, released: Released, out: Path, recipient: str | None, what: str
) -> Export | None:
    """Write the file; if a recipient gets it, the export is noted before."""
    from kesit_client.errors import SourceError
    from kesit_client.results import given_out

    noted = None
    if recipient is not None:
        noted = given_out.record(home, found, released, recipient, what)
    try:
        given_out.write(found.table, out)
    except SourceError as error:
        if noted is None:
            raise
        raise SourceError(
            f"{error.cause} It is noted as the export {noted.id}.", remedy=error.remedy
        ) from error
    return noted


def _tell(
    done: str, found: GivenOut, out: Path, noted: Export | None, *, asked: bool, purpose: str
) -> None:
    facts = [(done, f"{len(found.table):,} customers, in {out}")]
    if noted is not None:
        facts.append((f"Export {noted.id}", f"{noted.recipient}, {noted.persons:,} persons"))
    elif asked:
        facts.append(("Export", "none: nobody is in the file"))
    if found.without_ground is None:
        facts.append(("Consents", "the policy says that none are kept"))
        if found.suppressed:
            facts.append(("Left out", f"{found.suppressed:,} with an open objection"))
    else:
        left = f"{found.without_ground:,} without a ground for {purpose!r} now"
        facts.append(("Left out", f"{left}, {found.suppressed:,} with an open objection"))
    show.print_facts(show.console(), facts)
