"""`kesit client consent`: import and look after consents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import client_proofs, exits, keys, show
from kesit_cli.keys import Home, Yes
from kesit_cli.stores import opened, warn_of_restored
from kesit_cli.times import moment

if TYPE_CHECKING:
    from rich.table import Table

    from kesit_client.rights.traces import Trace

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Person = Annotated[str, typer.Argument(metavar="ID", hidden=True)]
File = Annotated[Path, typer.Argument(metavar="FILE", hidden=True)]


@app.callback()
def consent() -> None:
    """Keep consents and other grounds: only whoever has one is counted in a sum."""


@app.command(name="import")
def import_(
    file: File,
    home: Home,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every refused row here (CSV).")
    ] = None,
) -> None:
    """Import the consent records of FILE (.csv, .tsv, .parquet, .jsonld).

    A bad row is refused with its line and its reason, and stops no other; the exit code is then 4.
    Importing a file again adds nothing. If the store refuses, nothing is imported.

    \b
    Example:
      kesit client consent import consents.csv --home ankara --report refused.csv
    """
    from kesit_client.consent.importing import import_file
    from kesit_client.consent.settings import ConsentSettings
    from kesit_client.home import POLICY
    from kesit_client.owner.policy import Policy

    policy, settings = Policy.load(home / POLICY), ConsentSettings.load(home)
    with opened(home, create=True) as store:
        done = import_file(store, file, purposes=policy.purposes, settings=settings)
        restored = store.restored
    if report is not None:
        done.write_report(report)
    facts = [
        ("Rows", f"{done.rows:,}"),
        ("New", f"{done.new:,} events"),
        ("Known", f"{done.known:,} were there already"),
        ("Refused", f"{len(done.refused):,}"),
    ]
    if done.ignored:
        facts.append(("Not read", f"columns {', '.join(done.ignored)}"))
    if done.unmatched:
        facts.append(
            ("Unmatched", f"{done.unmatched:,} withdrawals of what nobody gave here: check the ids")
        )
    if restored is not None:
        command = "`kesit client consent accept-restored`"
        facts.append(("Store", f"looks restored: {restored}. After the last file: {command}"))
    screen = show.console()
    show.print_facts(screen, facts)
    if len(done.refused):
        table = show.new_table("rows", "first line", "refused because", right=(0, 1))
        for reason, rows, line in done.reasons():
            table.add_row(f"{rows:,}", str(line), reason)
        show.put(screen, table)
        screen.print()
        named = "--report FILE names each of them." if report is None else f"Each: {report}"
        facts = [("What to do", f"Correct these rows and import the file again. {named}")]
        show.print_facts(screen, facts)
        raise typer.Exit(exits.DATA)


@app.command()
def export(
    file: File,
    home: Home,
    person: Annotated[str | None, typer.Option(metavar="ID", help="Only this person's.")] = None,
) -> None:
    """Write all events to FILE (.csv, .parquet, .jsonld), as an import reads them.

    \b
    Examples:
      kesit client consent export consents.parquet --home ankara
      kesit client consent export ayse.jsonld --person 4711 --home ankara
    """
    from kesit_client.consent.exporting import export_file
    from kesit_client.consent.keeping import person_id

    with opened(home) as store:
        count = export_file(store, file, None if person is None else person_id(person))
    show.print_facts(show.console(), [("Events", f"{count:,}"), ("File", str(file))])


@app.command()
def status(home: Home) -> None:
    """Show how many persons stand how towards each purpose of the policy, on each ground.

    \b
    Example:
      kesit client consent status --home ankara
    """
    from kesit_client.consent import keeping
    from kesit_client.home import POLICY
    from kesit_client.owner.policy import Policy

    with opened(home) as store:
        found = keeping.stand_on_each(store, Policy.load(home / POLICY).purposes)
        warn_of_restored(store)
    table = show.new_table("purpose", "ground", "persons stand", "number", right=(3,))
    for item in found:
        for reason, count in item.counts.items():
            table.add_row(item.purpose, item.basis, reason.word, f"{count:,}")
    show.put(show.console(), table)


@app.command()
def withdraw(
    person: Person,
    home: Home,
    purpose: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only for this purpose.")
    ] = None,
) -> None:
    """Record that the person ID takes its consents back. It holds from the next sum on.

    \b
    Examples:
      kesit client consent withdraw 4711 --home ankara
      kesit client consent withdraw 4711 --purpose customer-segmentation --home ankara
    """
    from kesit_client.consent import keeping

    with opened(home) as store:
        done = keeping.withdraw(store, keeping.person_id(person), purpose or None)
    show.print_facts(show.console(), [("Withdrawn", ", ".join(done))])


@app.command(name="accept-restored")
def accept_restored(home: Home, yes: Yes = False) -> None:
    """Say that a consent store which looks restored from a backup is up to date again.

    First import every file since the backup once more, and note what persons asked for since: their
    withdrawals, objections and erasures are not in the backup. Until then nobody is counted.

    \b
    Example:
      kesit client consent accept-restored --home ankara
    """
    with opened(home) as store:
        reason, screen = store.restored, show.console()
        if reason is None:
            show.print_facts(screen, [("Store", "is as it was left; there is nothing to accept")])
            return
        show.print_facts(screen, [("Store", f"looks restored: {reason}")])
        asked = "Is all that came after the backup recorded again?"
        keys.confirmed(asked, yes=yes)
        store.accept_restored()
    show.print_facts(screen, [("Accepted", "customers count again")])


@app.command()
def history(person: Person, home: Home) -> None:
    """Show every event of the person ID, and where its data went, in the time of Istanbul.

    Runs and exports before a withdrawal are marked with its time.

    \b
    Example:
      kesit client consent history 4711 --home ankara
    """
    from kesit_client.consent import keeping
    from kesit_client.consent.events import show_time
    from kesit_client.rights.traces import traces

    with opened(home) as store:
        events = keeping.history(store, keeping.person_id(person))
        traced = traces(store, keeping.person_id(person))
        warn_of_restored(store)
    table = show.new_table("time", "purpose", "event", "ground", "until", "record", whole=(1, 2))
    for event in events:
        until = show_time(event.valid_until) if event.grants else ""
        ground = event.basis if event.grants else ""
        row = (show_time(event.time), event.purpose, event.type.word, ground, until)
        table.add_row(*row, event.record_id)
    screen = show.console()
    show.put(screen, table)
    if traced:
        screen.print()
        show.put(screen, _went(traced))


def _went(traced: Sequence[Trace]) -> Table:
    """Where a person's data went, and what came after."""
    from kesit_client.consent.events import show_time

    table = show.new_table("time", "went to", "what", "withdrawn since", "acknowledged")
    for trace in traced:
        name = f"{trace.kind} {trace.name}"
        place = name if trace.recipient is None else f"{name}, {trace.recipient}"
        since = "" if trace.withdrawn_at is None else show_time(trace.withdrawn_at)
        known = "" if trace.acknowledged_at is None else show_time(trace.acknowledged_at)
        if since and not known:
            known = "no" if trace.recipient else "stays as it was"
        table.add_row(show_time(trace.at), place, trace.what, since, known)
    return table


@app.command()
def iys(
    person: Person,
    home: Home,
    channel: Annotated[str, typer.Option(metavar="NAME", help="Of messages: sms, email, call.")],
    status: Annotated[str, typer.Option(metavar="WORD", help="ONAY (approved) or RET (refused).")],
    purpose: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the messages; needed if the policy has several."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it was looked up, with a UTC offset; else now."),
    ] = None,
) -> None:
    """Record what the message registry (IYS) says of the person ID's channel.

    It stands apart from consent: it allows or forbids messages, and makes no row count.

    \b
    Example:
      kesit client consent iys 4711 --channel sms --status ONAY --home ankara
    """
    from kesit_client.consent import keeping
    from kesit_client.consent.settings import ConsentSettings
    from kesit_client.home import POLICY
    from kesit_client.owner.policy import Policy

    known = (*Policy.load(home / POLICY).purposes, *ConsentSettings.load(home).purposes)
    chosen = one_of(purpose, tuple(dict.fromkeys(known)))
    when = moment(at, "--at")
    with opened(home) as store:
        who = keeping.person_id(person)
        made = keeping.record_iys(
            store, who, chosen, channel=channel, status=status, checked_at=when
        )
    show.print_facts(show.console(), [("IYS", f"{made.iys_channel}: {made.iys_status}")])


def one_of(purpose: str | None, known: tuple[str, ...]) -> str:
    """The purpose that was given, or the only one there is.

    Raises:
        ConsentError: none was given and there are several, or it is not known.
    """
    from kesit_client.errors import ConsentError

    if purpose is None and len(known) == 1:
        return known[0]
    if purpose is None or purpose not in known:
        raise ConsentError(
            "No purpose was given." if purpose is None else f"The purpose {purpose!r} is unknown.",
            remedy=f"Give --purpose, one of: {', '.join(known)}.",
        )
    return purpose


@app.command()
def check(home: Home) -> None:
    """Look at what an officer would ask about: who counts, what ends soon, what is needless.

    \b
    Example:
      kesit client consent check --home ankara
    """
    from kesit_client.owner.inspection import FAIL, consents

    findings = consents(home)
    table = show.new_table("", "what", "found", "what to do")
    for finding in findings:
        remedy = "" if finding.error is None else finding.error.remedy
        table.add_row(finding.level, finding.subject, finding.detail, remedy)
    show.put(show.console(), table)
    failed = [finding.error for finding in findings if finding.level == FAIL and finding.error]
    if failed:
        raise typer.Exit(exits.code_of(failed[0]))


app.command()(client_proofs.prove)
app.command()(client_proofs.verify)
