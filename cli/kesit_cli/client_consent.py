"""`kesit client consent`: import and look after consents; what a person can be shown of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import exits, keys, show
from kesit_cli.keys import Home

if TYPE_CHECKING:
    from rich.table import Table

    from kesit_client.consent.store import ConsentStore
    from kesit_client.rights.traces import Trace

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Person = Annotated[str, typer.Argument(metavar="ID", hidden=True)]
File = Annotated[Path, typer.Argument(metavar="FILE", hidden=True)]


@app.callback()
def consent() -> None:
    """Keep consents and other grounds: only whoever has one is counted in a sum."""


@contextmanager
def opened(home: Path, *, create: bool = False) -> Iterator[ConsentStore]:
    """The consent store of a client's folder."""
    from kesit_client.consent.store import ConsentStore
    from kesit_client.home import own_request

    own_request(home)  # says so if this is no client's folder
    store = ConsentStore.open(home, create=create)
    try:
        yield store
    finally:
        store.close()


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
    from kesit_client.policy import Policy

    policy, settings = Policy.load(home / POLICY), ConsentSettings.load(home)
    with opened(home, create=True) as store:
        done = import_file(store, file, purposes=policy.purposes, settings=settings)
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
    screen = show.console()
    show.print_facts(screen, facts)
    if len(done.refused):
        table = show.new_table("rows", "first line", "refused because", right=(0, 1))
        for reason, rows, line in done.reasons():
            table.add_row(f"{rows:,}", str(line), reason)
        show.put(screen, table)
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
    """Show how many persons stand how towards each purpose of the policy.

    \b
    Example:
      kesit client consent status --home ankara
    """
    from kesit_client.consent import keeping
    from kesit_client.home import POLICY
    from kesit_client.policy import Policy

    with opened(home) as store:
        found = keeping.stand(store, Policy.load(home / POLICY).purposes)
    table = show.new_table("purpose", "persons stand", "number", right=(2,))
    for item in found:
        for reason, count in item.counts.items():
            table.add_row(item.purpose, reason.word, f"{count:,}")
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
    table = show.new_table("time", "purpose", "event", "ground", "until", "record")
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
def check(home: Home) -> None:
    """Look at what an officer would ask about: who counts, what ends soon, what is needless.

    \b
    Example:
      kesit client consent check --home ankara
    """
    from kesit_client.inspection import FAIL, consents

    findings = consents(home)
    table = show.new_table("", "what", "found", "what to do")
    for finding in findings:
        remedy = "" if finding.error is None else finding.error.remedy
        table.add_row(finding.level, finding.subject, finding.detail, remedy)
    show.put(show.console(), table)
    failed = [finding.error for finding in findings if finding.level == FAIL and finding.error]
    if failed:
        raise typer.Exit(exits.code_of(failed[0]))


@app.command()
def prove(
    person: Person,
    home: Home,
    run: Annotated[str, typer.Option(metavar="RUN", help="The run, or the beginning of its id.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it (proof.json).")
    ] = None,
) -> None:
    """Write the proof of what was done with the person ID's data in a run: for that person alone.

    Together with the member's attestation it shows whether the person was counted. Whoever holds
    it can link the person to a leaf of the tree.

    \b
    Example:
      kesit client consent prove 4711 --run 3f2a91c0... --home ankara --out proof.json
    """
    from kesit_client.consent import attesting
    from kesit_client.consent.keeping import person_id

    with opened(home) as store:
        proof = attesting.prove(store, person_id(person), run)
    place = out or Path("proof.json")
    write_private(place, proof.encoded())
    facts = [("Decision", proof.decision), ("Proof", str(place))]
    show.print_facts(show.console(), facts)


@app.command()
def verify(
    proof_file: Annotated[Path, typer.Argument(metavar="PROOF", hidden=True)],
    attestation_file: Annotated[Path, typer.Argument(metavar="ATTESTATION", hidden=True)],
    member: Annotated[
        str, typer.Option(metavar="FINGERPRINT", help="The member that must have signed.")
    ],
) -> None:
    """Say whether an ATTESTATION of a member says of a person what its PROOF says.

    \b
    Example:
      kesit client consent verify proof.json attestation.json --member "3f2a 91c0 ..."
    """
    from kesit_privacy import attestation as attested
    from kesit_privacy.errors import ProtocolError
    from kesit_privacy.identity import fingerprint, read_fingerprint
    from kesit_privacy.signed import read_bytes

    data = read_bytes(attestation_file, "an attestation", attested.REMEDY)
    statement = attested.read_attestation(data)
    proof = attested.read_proof(read_bytes(proof_file, "a proof", attested.REMEDY))
    found = fingerprint(statement.signer)
    if found != read_fingerprint(member):
        raise ProtocolError(f"{found} signed it, not {member}.", remedy=attested.REMEDY)
    if not attested.verify_proof(proof, statement):
        raise ProtocolError(
            "The proof does not lead to the attestation's root.", remedy=attested.REMEDY
        )
    show.print_facts(
        show.console(),
        [("Holds", proof.decision), ("Run", proof.run), ("Member", found)],
    )


def attest(run: Annotated[str, typer.Argument(metavar="RUN", hidden=True)], home: Home) -> None:
    """Sign what this client did in RUN, once more or for the first time.

    \b
    Example:
      kesit client attest 3f2a91c0... --home ankara
    """
    from kesit_client.consent.signing import attest_home

    place = attest_home(home, run, unlock=keys.unlock)
    show.print_facts(show.console(), [("Attestation", str(place))])


def write_private(path: Path, data: bytes) -> None:
    """Write a file that its owner alone may read.

    Raises:
        ClientError: the disk refuses.
    """
    from kesit_client.errors import ClientError
    from kesit_privacy.files import replacing

    try:
        with replacing(path, private=True) as file:
            file.write(data)
    except OSError as error:
        raise ClientError(
            f"{path}: cannot be written ({error.strerror}).", remedy="Give another name."
        ) from error
