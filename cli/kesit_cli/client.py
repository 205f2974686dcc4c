"""`kesit client`: a member's folder, from its first key to its backup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import (
    client_books,
    client_consent,
    client_explain,
    client_exports,
    client_pins,
    client_proofs,
    client_rights,
    client_scores,
    client_studies,
    keys,
    rules,
    show,
)
from kesit_cli.keys import Home, NoPassphrase

if TYPE_CHECKING:
    from kesit_privacy.enrolment import EnrolmentRequest

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def client() -> None:
    """Take part in a federation: keys, pins, approvals, budgets, books, the node."""


@app.command()
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    home: Home,
    no_passphrase: NoPassphrase = False,
) -> None:
    """Make the folder of the member NAME: its keys, its policy and source to fill in, its books.

    The folder must not exist yet. Private keys stay in it; request.json is for the coordinator.

    \b
    Example:
      kesit client init Ankara --home ankara
    """
    from kesit_client import home as homes
    from kesit_client.owner import onboarding

    passphrase = keys.new_passphrase("the identity", none=no_passphrase)
    request = onboarding.create_client(home, name, passphrase=passphrase)
    _tell(request, home / homes.REQUEST)
    fill = f"fill in {home / homes.POLICY} and {home / homes.SOURCE}"
    show.print_facts(show.console(), [("Then", f"{fill}, then kesit client check --home {home}")])


@app.command()
def request(
    home: Home,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another name; the old one was taken.")
    ] = None,
) -> None:
    """Write request.json anew for the same keys: it expired, or the name was taken.

    \b
    Example:
      kesit client request --home ankara
    """
    from kesit_client import home as homes
    from kesit_client.owner import onboarding

    renewed = onboarding.renew_request(home, name=name, unlock=keys.unlock)
    _tell(renewed, home / homes.REQUEST)


@app.command()
def join(
    members_file: Annotated[Path, typer.Argument(metavar="MEMBERS.json", hidden=True)],
    home: Home,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="FINGERPRINT", help="What the coordinator told you; needed the first time."
        ),
    ] = None,
) -> None:
    """Take over the member list that the coordinator signed: the first one, or a newer one.

    It pins nobody: pin each member yourself.

    \b
    Examples:
      kesit client join members.json --home ankara --coordinator "3f2a 91c0 ..."
      kesit client join members.json --home ankara
    """
    from kesit_client.owner import onboarding
    from kesit_privacy.identity import fingerprint

    joined = onboarding.join(home, members_file, coordinator)
    members, me = joined.members, joined.me
    facts = [
        ("List", f"serial {members.serial}, {len(members.active)} active members"),
        ("Coordinator", f"{fingerprint(members.coordinator)} at {members.host}:{members.port}"),
        ("You", "not in the list yet" if me is None else f"{me.name}, {me.status}"),
    ]
    if joined.rotated:
        facts.append(("New keys", "are in use now; tell the others your new fingerprint"))
    facts.append(("Next", f"kesit client pins --home {home}"))
    show.print_facts(show.console(), facts)


@app.command()
def rotate(home: Home, no_passphrase: NoPassphrase = False) -> None:
    """Make new keys, and a request for them that the old identity signs.

    The old keys answer until a list of the coordinator names the new ones.

    \b
    Example:
      kesit client rotate --home ankara
    """
    from kesit_client import home as homes
    from kesit_client.owner import onboarding

    passphrase = keys.new_passphrase("the new identity", none=no_passphrase)
    renewed = onboarding.rotate(home, passphrase=passphrase, unlock=keys.unlock)
    _tell(renewed, home / homes.NEXT / homes.REQUEST)


@app.command()
def start(home: Home) -> None:
    """Run the node until it is stopped: it answers what its policy and its approvals allow.

    It opens no port. It waits for a server that is away, and starts again if it crashes.

    \b
    Example:
      kesit client start --home ankara
    """
    from kesit_client.deployment import start as starting

    starting.start(home, keys.unlock, starting.tell)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", hidden=True)],
    home: Home,
) -> None:
    """Write FILE (tar, gzip): keys, settings, approvals and books, without the cache.

    It holds private keys: keep it as safe as the folder. After restoring it the node answers
    nothing until the coordinator's spending log is merged.

    \b
    Example:
      kesit client backup ankara.tar.gz --home ankara
    """
    from kesit_client.owner import backup as backups

    backups.write_backup(home, file)
    show.print_facts(show.console(), [("Backup", str(file))])


def _tell(made: EnrolmentRequest, place: Path) -> None:
    from kesit_privacy.identity import fingerprint

    show.print_facts(
        show.console(),
        [
            ("Name", made.name),
            ("Fingerprint", fingerprint(made.identity)),
            (
                "Next",
                f"send {place} to the coordinator by any way; tell your fingerprint to the"
                " coordinator and to the other members by telephone or in person.",
            ),
        ],
    )


app.command()(client_pins.pin)
app.command()(client_pins.pins)
app.command()(client_pins.unpin)
app.command()(client_studies.approve)
app.command(name="withdraw-approval")(client_studies.withdraw_approval)
app.command()(client_studies.budget)
app.command()(client_books.log)
app.command()(client_books.merge)
app.command()(client_books.check)
app.command()(client_scores.score)
app.command()(client_scores.segment)
app.command()(client_explain.explain)
app.command(name="rules")(rules.client_rules)
app.command()(rules.inventory)
app.command()(client_proofs.attest)
app.command()(client_rights.dispose)
app.add_typer(client_consent.app, name="consent")
app.add_typer(client_rights.rights, name="rights")
app.add_typer(client_exports.app, name="exports")
