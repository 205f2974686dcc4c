"""`kesit client score`, `explain`: a released model on a member's own customers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kesit_cli import show
from kesit_cli.keys import Home
from kesit_cli.progress import Progress
from kesit_cli.segments import Folder


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
    from kesit_client import scoring
    from kesit_client.errors import SourceError
    from kesit_privacy import model_file

    with Progress(f"reading {folder}") as progress:
        scoring.require_format(out)
        model = model_file.read(folder)
        progress.event("scoring")
        scored = scoring.score_home(home, model)
        noted = None
        if recipient is not None:
            noted = scoring.record(home, model, scored, recipient)
        try:
            scoring.write(scored.table, out)
        except SourceError as error:
            if noted is None:
                raise
            raise SourceError(
                f"{error.cause} It is noted as the export {noted.id}.", remedy=error.remedy
            ) from error
    facts = [("Scored", f"{len(scored.table):,} customers, in {out}")]
    if noted is not None:
        facts.append((f"Export {noted.id}", f"{noted.recipient}, {noted.persons:,} persons"))
    elif recipient is not None:
        facts.append(("Export", "none: nobody is in the file"))
    if scored.without_ground is None:
        facts.append(("Consents", "the policy says that none are kept"))
        if scored.suppressed:
            facts.append(("Left out", f"{scored.suppressed:,} with an open objection"))
    else:
        facts.append(
            (
                "Left out",
                f"{scored.without_ground:,} without a ground for {model.purpose!r} now,"
                f" {scored.suppressed:,} with an open objection",
            )
        )
    show.print_facts(show.console(), facts)


def explain(
    folder: Folder,
    customer: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    home: Home,
) -> None:
    """Print why the model in FOLDER says what it says of the customer ID, computed here.

    Where consents are kept, the customer must have a ground for the model's purpose at this moment,
    or an open objection, which nobody could answer without the reasons.

    \b
    Example:
      kesit client explain kesit-results/telecom-who-leaves-0a1b2c3d 4711 --home ankara
    """
    from kesit_client import scoring
    from kesit_privacy import model_file

    found = scoring.explain_home(home, model_file.read(folder), customer)
    screen = show.console()
    told = [f"{show.plain(name)} {chance:.1%}" for name, chance in found.chances.items()]
    facts = [("Chances", ", ".join(told)), ("Reasons for", show.plain(found.kind))]
    if found.objects:
        facts.append(("Objection", "open: a human must answer it, and no score may be used"))
    show.print_facts(screen, facts)
    rows = show.new_table("feature", "value", "logits beyond the usual", right=(2,))
    for name, value, part in found.parts:
        rows.add_row(show.plain(name), show.plain(value), f"{part:+.2f}")
    show.put(screen, rows)
