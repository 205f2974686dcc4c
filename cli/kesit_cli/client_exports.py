"""`kesit client exports`: who may be in one, who received whose data, who must be told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kesit_cli import exits, show
from kesit_cli.files import write_private
from kesit_cli.keys import Home
from kesit_cli.stores import opened

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="NUMBER", hidden=True)]
Ids = Annotated[Path, typer.Option("--ids", metavar="FILE", help="The persons' ids, one a line.")]
Channel = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="It is a list for messages on this channel of IYS."),
]
BASIS = "explicit-consent"


@app.callback()
def exports() -> None:
    """Who received whose data, and who must still be told of a change."""


@app.command(name="filter")
def filter_(
    ids: Ids,
    home: Home,
    purpose: Annotated[str, typer.Option(metavar="NAME", help="What the data are given out for.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Who may be in it, one id a line.")],
    basis: Annotated[str, typer.Option(metavar="GROUND", help="The ground it rests on.")] = BASIS,
    channel: Channel = None,
) -> None:
    """Leave out who may not be in an export now: no ground, an open objection, no IYS approval.

    The exit code is 4 if anybody was left out.

    \b
    Example:
      kesit client exports filter --ids all.txt --purpose marketing --channel sms --out ids.txt
        --home ankara
    """
    from kesit_client.errors import ConsentError
    from kesit_client.rights.exports import read_ids
    from kesit_client.rights.permitted import permitted
    from kesit_client.rights.requests import require_purposes

    require_basis(basis)
    people = read_ids(ids)
    if out.exists() and out.samefile(ids):
        raise ConsentError(
            f"{out}: is the list that is read, which would be lost.",
            remedy="Give --out the name of another file.",
        )
    with opened(home) as store:
        require_purposes(store, home, [purpose])
        found = permitted(store, people, purpose, basis=basis, channel=channel)
    write_private(out, "".join(f"{person}\n" for person in found.ids).encode())
    screen = show.console()
    show.print_facts(screen, [("Left in", f"{len(found.ids):,}"), ("File", str(out))])
    if found.refused:
        print_refused(screen, found.refused, "left out because")


def require_basis(basis: str) -> None:
    """Refuse what is no ground.

    Raises:
        ConsentError: it is none.
    """
    from kesit_client.consent.terms import BASES
    from kesit_client.errors import ConsentError

    if basis not in BASES:
        raise ConsentError(f"There is no ground {basis!r}.", remedy=f"One of: {', '.join(BASES)}.")


def print_refused(screen: Console, refused: Mapping[str, int], heading: str) -> NoReturn:
    """Print how many persons may not be in an export, by reason, and exit with 4."""
    table = show.new_table(heading, "persons", right=(1,))
    for reason, count in refused.items():
        table.add_row(reason, f"{count:,}")
    screen.print()
    show.put(screen, table)
    raise typer.Exit(exits.DATA)


@app.command()
def add(
    recipient: Annotated[str, typer.Argument(metavar="RECIPIENT", hidden=True)],
    home: Home,
    ids: Ids,
    what: Annotated[str, typer.Option(metavar="TEXT", help="What the recipient got.")] = "data",
    purpose: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What for; only withdrawals for it mark the export."),
    ] = None,
    basis: Annotated[str, typer.Option(metavar="GROUND", help="The ground it rests on.")] = BASIS,
    channel: Channel = None,
) -> None:
    """Note that RECIPIENT got data of the persons whose ids stand in a file.

    Who withdraws later marks the export: `list` shows it until the recipient acknowledged it. With
    a purpose the persons are looked at once more: whoever has no ground by now is told (exit code
    4), and who has withdrawn is marked, as a list may be older than a withdrawal.

    \b
    Examples:
      kesit client exports add "Call centre" --ids ids.txt --what "segment codes" --home ankara
      kesit client exports add "SMS" --ids ids.txt --purpose marketing --channel sms --home ankara
    """
    from kesit_client.rights.exports import read_ids, record_export
    from kesit_client.rights.permitted import permitted
    from kesit_client.rights.requests import require_purposes

    require_basis(basis)
    people, refused = read_ids(ids), dict[str, int]()
    with opened(home, create=True) as store:
        if purpose is not None:
            require_purposes(store, home, [purpose])
            refused = permitted(store, people, purpose, basis=basis, channel=channel).refused
        made = record_export(store, recipient, what, people, purpose=purpose, channel=channel)
    facts = [("Export", str(made.id)), ("Persons", f"{made.persons:,}")]
    if made.unknown:
        facts.append(("Unknown", f"{made.unknown:,} of them: nothing was recorded of them before"))
    if refused:
        what_to_do = "Have the recipient delete them; draw the list up anew (`exports filter`)"
        facts.append(("What to do", what_to_do))
    screen = show.console()
    show.print_facts(screen, facts)
    if refused:
        print_refused(screen, refused, "given out although")


@app.command(name="list")
def list_exports(home: Home) -> None:
    """List exports, who withdrew since, and what their recipients must still do.

    \b
    Example:
      kesit client exports list --home ankara
    """
    from kesit_client.consent.events import show_time
    from kesit_client.rights import exports as register

    with opened(home) as store:
        found, waiting = register.list_exports(store), register.notices(store)
    headers = ("export", "time", "recipient", "what", "persons", "withdrew since", "unacknowledged")
    table = show.new_table(*headers, right=(0, 4, 5, 6))
    for item in found:
        row = (str(item.id), show_time(item.exported_at), item.recipient, item.what)
        table.add_row(*row, f"{item.persons:,}", f"{item.withdrew:,}", f"{item.untold:,}")
    screen = show.console()
    show.put(screen, table)
    screen.print()
    table = show.new_table("notice", "export", "recipient", "must do", "acknowledged", right=(0, 1))
    for notice in waiting:
        done = "no" if notice.acknowledged_at is None else show_time(notice.acknowledged_at)
        table.add_row(str(notice.id), str(notice.export), notice.recipient, notice.kind, done)
    show.put(screen, table)


@app.command()
def withdrawn(
    number: Number,
    home: Home,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Their ids and when (CSV).")],
) -> None:
    """Write who of the export NUMBER withdrew since: for its recipient.

    \b
    Example:
      kesit client exports withdrawn 3 --out withdrawn.csv --home ankara
    """
    import polars as pl

    from kesit_client.consent.cells import guarded
    from kesit_client.consent.events import show_time
    from kesit_client.rights.marking import marks

    with opened(home) as store:
        found = marks(store, number)
    rows = [
        {
            "pii_principal_id": item.principal,
            "withdrawn_at": show_time(item.withdrawn_at),
            "acknowledged_at": None
            if item.acknowledged_at is None
            else show_time(item.acknowledged_at),
        }
        for item in found
        if item.principal is not None
    ]
    names = ("pii_principal_id", "withdrawn_at", "acknowledged_at")
    table = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String))
    write_private(out, guarded(table, signed=False).write_csv(None).encode())
    untold = sum(item.acknowledged_at is None for item in found)
    facts = [("Withdrew", f"{len(found):,}"), ("Unacknowledged", f"{untold:,}"), ("File", str(out))]
    show.print_facts(show.console(), facts)


@app.command()
def acknowledge(
    number: Number,
    home: Home,
    withdrawals: Annotated[
        bool,
        typer.Option("--withdrawals", help="NUMBER is an export: all its withdrawals are known."),
    ] = False,
) -> None:
    """Note that the recipient did what the notice NUMBER asks for, or knows who withdrew.

    \b
    Examples:
      kesit client exports acknowledge 2 --home ankara
      kesit client exports acknowledge 3 --withdrawals --home ankara
    """
    from kesit_client.rights import exports as register
    from kesit_client.rights import marking

    fact = ("Notice", f"{number} is acknowledged")
    with opened(home) as store:
        if withdrawals:
            count = marking.acknowledge(store, number)
            fact = (f"Export {number}", f"its withdrawals are acknowledged ({count:,} persons)")
        else:
            register.acknowledge(store, number)
    show.print_facts(show.console(), [fact])
