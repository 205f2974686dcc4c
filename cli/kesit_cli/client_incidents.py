"""`kesit client rights incidents`, `affected`, `told`: a breach, whom it concerns, who was told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import show
from kesit_cli.files import write_private
from kesit_cli.keys import Home
from kesit_cli.stores import opened
from kesit_cli.times import moment

if TYPE_CHECKING:
    from kesit_client.rights.affected import Affected
    from kesit_client.rights.incidents import Breach

At = Annotated[
    str | None, typer.Option(metavar="TIME", help="When, with a UTC offset; by default now.")
]
Number = Annotated[int, typer.Argument(metavar="NUMBER", hidden=True)]


def list_incidents(home: Home) -> None:
    """List breaches: until when the Board must be told, whom they concern, and who was told.

    \b
    Example:
      kesit client rights incidents --home ankara
    """
    from kesit_client.rights.incidents import incidents

    with opened(home) as store:
        _tell(incidents(store))


def affected(
    home: Home,
    export: Annotated[
        list[int] | None, typer.Option(metavar="NUMBER", help="Who was in this export.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Who was counted in this run (attested here)."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="All exports and runs from this time on.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="And until this time.")] = None,
    kept: Annotated[
        bool, typer.Option("--kept", help="Everybody of whom there were records (until --until).")
    ] = False,
    incident: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="Note them as this incident's persons.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write their ids here (CSV).")
    ] = None,
) -> None:
    """Find out whose data were in an export, in a run, or in all of a time.

    The screen shows numbers. The ids go only into the file.

    \b
    Examples:
      kesit client rights affected --export 3 --incident 7 --out persons.csv --home ankara
      kesit client rights affected --run 3f2a91c0 --home ankara
      kesit client rights affected --since 2026-03-01T00:00:00+03:00 --home ankara
      kesit client rights affected --kept --incident 7 --home ankara
    """
    from kesit_client.consent.cells import guarded
    from kesit_client.rights import incidents
    from kesit_client.rights.affected import Where
    from kesit_client.rights.affected import affected as find

    where = Where(
        tuple(export or ()),
        tuple(run or ()),
        moment(since, "--since"),
        moment(until, "--until", past=False),
        kept,
    )
    with opened(home) as store:
        if incident is not None:
            incidents.incident(store, incident)  # says so if there is none, before a file is made
        found = find(store, where)
        if out is not None:
            write_private(out, guarded(found.named(), signed=False).write_csv(None).encode())
        if incident is not None:
            incidents.concern(store, incident, found.people)
    _count(found)


def told(
    number: Number,
    home: Home,
    whom: Annotated[str, typer.Option(metavar="WHOM", help="board or persons.")],
    at: At = None,
) -> None:
    """Note that the Board, or the persons, were told of the breach NUMBER.

    \b
    Examples:
      kesit client rights told 7 --whom board --home ankara
      kesit client rights told 7 --whom persons --at 2026-03-04T09:00:00+03:00 --home ankara
    """
    from kesit_client.rights import incidents

    when = moment(at, "--at")
    with opened(home) as store:
        _tell([incidents.told(store, number, whom, when)])


def _tell(found: list[Breach]) -> None:
    from kesit_client.consent.events import show_time

    def said(when: int | None) -> str:
        return "no" if when is None else show_time(when)

    headers = ("no", "known", "Board until", "Board told", "persons", "persons told", "state")
    table = show.new_table(*headers, "note", right=(0, 4))
    for item in found:
        table.add_row(
            str(item.id),
            show_time(item.known_at),
            show_time(item.due_at),
            said(item.board_at),
            "?" if item.persons is None else f"{item.persons:,}",
            said(item.persons_at),
            item.outcome or "open",
            item.note,
        )
    show.put(show.console(), table)


def _count(found: Affected) -> None:
    screen = show.console()
    facts = [("Persons", f"{len(found.people):,}")]
    if found.erased:
        facts.append(("Erased", f"{found.erased:,} of them; nobody can name them any more"))
    show.print_facts(screen, facts)
    screen.print()
    table = show.new_table("where", "persons", right=(1,))
    for place, count in found.places():
        table.add_row(place, f"{count:,}")
    show.put(screen, table)
