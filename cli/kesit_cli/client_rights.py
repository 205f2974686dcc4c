"""`kesit client rights`, `dispose`: what people ask for, and by when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from kesit_cli import client_incidents, show
from kesit_cli.files import write_private
from kesit_cli.keys import Home
from kesit_cli.stores import opened, warn_of_restored
from kesit_cli.times import moment

if TYPE_CHECKING:
    from kesit_client.rights.requests import Request

rights = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Number = Annotated[int, typer.Argument(metavar="NUMBER", hidden=True)]
LANGUAGES = ("tr", "en")


@rights.callback()
def _rights() -> None:
    """Requests of persons and incidents, and their deadlines."""


@rights.command(name="open")
def open_(
    kind: Annotated[str, typer.Argument(metavar="KIND", hidden=True)],
    home: Home,
    person: Annotated[str | None, typer.Option(metavar="ID", help="Who asks.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="What an objection is about.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="A note for yourself.")] = "",
    received: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When it came in or became known: 2026-03-02T10:00+03:00."
        ),
    ] = None,
) -> None:
    """Open a request or an incident of a KIND; its clock runs from now, or from --received.

    \b
    Kinds:
      access, rectification, erasure, objection   of a person; 30 days
      breach                                      72 hours
      transfer-notification                       5 business days
      iys-transfer                                3 business days

    \b
    Examples:
      kesit client rights open objection --person 4711 --purpose customer-segmentation --home ankara
      kesit client rights open breach --received 2026-03-02T08:00+03:00 --home ankara
    """
    from kesit_client.consent.keeping import person_id
    from kesit_client.rights import requests

    who = None if person is None else person_id(person)
    since = moment(received, "--received")
    with opened(home, create=True) as store:
        requests.require_purposes(store, home, purpose or ())
        unknown = who is not None and store.events(who).is_empty()
        made = requests.open_request(
            store, kind, who, note=note, purposes=purpose or (), received=since
        )
    _tell([made])
    if unknown:
        show.console().print("No record speaks of this person: check how the id is written.")


@rights.command(name="list")
def list_(
    home: Home,
    every: Annotated[bool, typer.Option("--all", help="Those that are closed, too.")] = False,
) -> None:
    """List requests and incidents, the one that is due first at the top.

    \b
    Example:
      kesit client rights list --home ankara
    """
    from kesit_client.rights import requests

    with opened(home) as store:
        _tell(requests.requests(store, only_open=not every))


@rights.command()
def close(
    number: Number,
    home: Home,
    outcome: Annotated[str, typer.Option(metavar="WORD", help="done or rejected.")] = "done",
    note: Annotated[str, typer.Option(metavar="TEXT", help="A note for yourself.")] = "",
) -> None:
    """Close the request NUMBER, and do what it asks for.

    An erasure erases; with a rectification it makes a notice to every recipient of the person's
    data. An objection ends, with a note of who looked at it: the person's code may be used again. A
    breach is done with once the Board and the persons were told; `rejected` says that it was none.

    \b
    Examples:
      kesit client rights close 3 --home ankara
      kesit client rights close 4 --outcome rejected --note "not our customer" --home ankara
    """
    from kesit_client.consent.events import show_time
    from kesit_client.rights import requests

    with opened(home) as store:
        done = requests.close_request(store, number, outcome, note=note)
    _tell([done])
    if done.complaint_until is not None:
        until = show_time(done.complaint_until)
        show.console().print(f"\nThe person may complain to the Board until {until}.")


@rights.command()
def due(
    home: Home,
    days: Annotated[int, typer.Option(metavar="N", help="Due within so many days.")] = 7,
) -> None:
    """List what is late or due soon, notices that recipients have not acknowledged included.

    \b
    Example:
      kesit client rights due --days 3 --home ankara
    """
    from kesit_client.consent.events import now_us
    from kesit_client.rights import disposal, incidents, marking, requests
    from kesit_client.rights import exports as register

    now = now_us()
    with opened(home) as store:
        soon = now + days * 86_400_000_000
        found = [item for item in requests.requests(store, only_open=True) if item.due_at <= soon]
        waiting, unaware = register.notices(store, only_open=True), marking.waiting(store)
        overdue = disposal.overdue(store, now)
        breaches = [item for item in incidents.incidents(store) if item.persons_wait]
    screen = show.console()
    if found:
        _tell(found)
    elif not (waiting or unaware or breaches or overdue):
        screen.print(f"nothing is late, or due within {days} days")
    for notice in waiting:
        show.print_facts(
            screen,
            [
                (f"Notice {notice.id}", f"{notice.recipient} has not acknowledged: {notice.kind}"),
                ("", f"tell it, then kesit client exports acknowledge {notice.id} --home {home}"),
            ],
        )
    for number, to, count in unaware:
        told = f"kesit client exports acknowledge {number} --withdrawals --home {home}"
        show.print_facts(
            screen,
            [
                (f"Export {number}", f"{to} has not acknowledged withdrawals ({count:,} persons)"),
                ("", f"tell it, then {told}"),
            ],
        )
    for breach in breaches:
        whom = "nobody knows how many" if breach.persons is None else f"{breach.persons:,}"
        told = f"kesit client rights told {breach.id} --whom persons --home {home}"
        show.print_facts(
            screen,
            [
                (f"Breach {breach.id}", f"the persons must be told ({whom})"),
                ("", f"tell them, then {told}"),
            ],
        )
    if overdue:
        none = "none was noted within six months: kesit client dispose --yes"
        show.print_facts(screen, [("Disposal", f"{none} --home {home}")])


@rights.command()
def report(
    person: Annotated[str, typer.Argument(metavar="ID", hidden=True)],
    home: Home,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it here as JSON (.json) or text.")
    ] = None,
    language: Annotated[str, typer.Option(metavar="CODE", help="Of the text: tr or en.")] = "tr",
) -> None:
    """Tell the person ID what is kept about it, who received it, and where it was counted.

    \b
    Examples:
      kesit client rights report 4711 --home ankara
      kesit client rights report 4711 --out 4711.json --home ankara
    """
    from kesit_client.consent.keeping import person_id
    from kesit_client.rights import access

    if language not in LANGUAGES:
        raise click.UsageError(f"--language is {' or '.join(LANGUAGES)}.")
    with opened(home) as store:
        found = access.access_report(store, person_id(person))
        if out is not None:  # else the report itself says so
            warn_of_restored(store)
    if out is None:
        typer.echo(access.as_text(found, language), nl=False)
        return
    is_json = out.suffix.lower() == ".json"
    text = access.as_json(found) if is_json else access.as_text(found, language).encode()
    write_private(out, text)
    show.print_facts(show.console(), [("Report", str(out))])


rights.command(name="incidents")(client_incidents.list_incidents)
rights.command()(client_incidents.affected)
rights.command()(client_incidents.told)


def dispose(
    home: Home,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it, and note that it was.")] = False,
    delete_note: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="Delete this run's note, after its three years."),
    ] = None,
) -> None:
    """Remove the records of persons for whom the retention period has ended.

    Without --yes it only says how many there are. Each run is noted; the note names nobody.

    \b
    Examples:
      kesit client dispose --home ankara
      kesit client dispose --yes --home ankara
    """
    from kesit_client.consent.events import show_time
    from kesit_client.consent.settings import ConsentSettings
    from kesit_client.rights import disposal

    settings = ConsentSettings.load(home)
    years, proof = settings.retention_years, settings.iys_proof_years
    with opened(home) as store:
        if delete_note is not None:
            disposal.delete_note(store, delete_note)
            show.print_facts(show.console(), [("Deleted", f"the note {delete_note}")])
            return
        if yes:
            done = disposal.dispose(store, years, iys_years=proof)
            until = show_time(done.keep_until)
            facts = [
                ("Disposed", f"{done.persons:,} persons, {done.events:,} events"),
                ("Note", f"{done.id}, kept until {until}"),
            ]
        else:
            count = len(disposal.ended(store, years, iys_years=proof))
            facts = [("To dispose", f"{count:,} persons"), ("Next", "--yes does it, and notes it")]
    show.print_facts(show.console(), facts)


def _tell(found: Sequence[Request]) -> None:
    from kesit_client.consent.events import now_us, show_time

    now = now_us()
    headers = ("no", "kind", "person", "opened", "due", "state", "note")
    table = show.new_table(*headers, right=(0,), whole=range(6))
    for item in found:
        state = item.outcome or "open"
        table.add_row(
            str(item.id),
            item.kind,
            item.principal or "",
            show_time(item.opened_at)[:10],
            show_time(item.due_at)[:16],
            f"{state}, late" if item.late(now) else state,
            item.note,
        )
    show.put(show.console(), table)
