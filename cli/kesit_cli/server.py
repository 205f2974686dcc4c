"""`kesit server`: a coordinator's folder, and its members."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from kesit_cli import keys, server_runs, show
from kesit_cli.keys import Home, NoPassphrase, Yes

if TYPE_CHECKING:
    from kesit_privacy.enrolment import EnrolmentRequest
    from kesit_privacy.membership import MemberList

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Expected = Annotated[
    str | None,
    typer.Option(
        "--fingerprint", metavar="FINGERPRINT", help="What the member told you; needed by --yes."
    ),
]


@app.callback()
def server() -> None:
    """Coordinate a federation: make a coordinator, admit its members, run studies."""


@app.command()
def init(
    home: Home,
    host: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="DNS name or IP address for members; may be repeated."),
    ],
    port: Annotated[int, typer.Option(metavar="PORT", help="Where nodes connect.")] = 9092,
    no_passphrase: NoPassphrase = False,
) -> None:
    """Make a coordinator's folder: its keys, its certificates, an empty member list.

    The folder must not exist yet. Private keys stay in it.

    \b
    Example:
      kesit server init --home coordinator --host kesit.example.org
    """
    from kesit_privacy.identity import fingerprint
    from kesit_server.deployment import home as homes

    passphrase = keys.new_passphrase("the coordinator's keys", none=no_passphrase)
    made = homes.create(home, host, port=port, passphrase=passphrase)
    show.print_facts(
        show.console(),
        [
            ("Folder", str(home)),
            ("Fingerprint", fingerprint(made.members.coordinator)),
            ("Address", f"{made.members.host}:{made.members.port}"),
            (
                "Members get",
                f"this fingerprint by telephone or in person, and {home / homes.MEMBERS} by any"
                " way, again after every change.",
            ),
            ("Next", f"kesit server admit REQUEST.json --home {home}"),
        ],
    )


@app.command()
def admit(
    request_file: Annotated[Path, typer.Argument(metavar="REQUEST.json", hidden=True)],
    home: Home,
    fingerprint: Expected = None,
    yes: Yes = False,
) -> None:
    """Admit the member that wrote REQUEST.json, once you compared its fingerprint.

    Compare it by telephone or in person: a file that came by mail says nothing about its sender.

    \b
    Examples:
      kesit server admit request.json --home coordinator
      kesit server admit request.json --home coordinator --yes --fingerprint "3f2a 91c0 ..."
    """
    from kesit_privacy.enrolment import read_request
    from kesit_server.deployment import members

    request = read_request(request_file)
    expected = _compared(request, fingerprint, yes)
    _tell(members.admit(home, request, expected, unlock=keys.unlock), home)
    server_runs.reconcile_if_running(home)


@app.command(name="members")
def list_members(home: Home) -> None:
    """List the members, with their fingerprints.

    \b
    Example:
      kesit server members --home coordinator
    """
    from kesit_privacy.identity import fingerprint
    from kesit_server.deployment import authority
    from kesit_server.deployment.home import open_coordinator

    coordinator = open_coordinator(home)
    members = coordinator.members
    leaf = authority.load_certificate(coordinator.tls[1])
    screen = show.console()
    until = f"until {leaf.not_valid_after_utc:%Y-%m-%d}"
    if authority.due(leaf):
        until += f"; renew it: kesit server renew-certificate --home {home}"
    show.print_facts(
        screen,
        [
            ("Fingerprint", fingerprint(members.coordinator)),
            ("Address", f"{members.host}:{members.port}"),
            ("List", f"serial {members.serial} of {_day(members.created)}"),
            ("Certificate", until),
        ],
    )
    screen.print()
    table = show.new_table("member", "status", "since", "fingerprint")
    for member in members.members:
        since = _day(member.changed)
        table.add_row(member.name, member.status, since, fingerprint(member.identity))
    show.put(screen, table)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    home: Home,
    yes: Yes = False,
) -> None:
    """End the membership of NAME: it left, or its keys are in wrong hands.

    Its keys can never be admitted again.

    \b
    Example:
      kesit server revoke Ankara --home coordinator
    """
    from kesit_server.deployment import members

    keys.confirmed(f"Revoke {name}?", yes=yes)
    _tell(members.revoke(home, name, unlock=keys.unlock), home)
    server_runs.reconcile_if_running(home)


@app.command()
def rotate(
    name: Annotated[str, typer.Argument(metavar="NAME", hidden=True)],
    request_file: Annotated[Path, typer.Argument(metavar="REQUEST.json", hidden=True)],
    home: Home,
    fingerprint: Expected = None,
    lost_key: Annotated[
        bool, typer.Option("--lost-key", help="The old key is lost and could not sign.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Give NAME the new keys of REQUEST.json; the old ones are retired for ever.

    The request must be signed by the old key too. Without it, only the fingerprint tells whose
    request it is: compare it, and say --lost-key.

    \b
    Examples:
      kesit server rotate Ankara request.json --home coordinator
      kesit server rotate Ankara request.json --home coordinator --lost-key
    """
    from kesit_privacy.enrolment import read_request
    from kesit_server.deployment import members

    request = read_request(request_file)
    expected = _compared(request, fingerprint, yes)
    changed = members.rotate(home, name, request, expected, lost_key=lost_key, unlock=keys.unlock)
    _tell(changed, home)
    server_runs.reconcile_if_running(home)


@app.command()
def bundles(
    hashes: Annotated[list[str], typer.Argument(metavar="HASH...", hidden=True)],
    home: Home,
) -> None:
    """Name the Flower bundles (SHA-256) of this coordinator's runs in the member list.

    \b
    Example:
      kesit server bundles HASH --home coordinator
    """
    from kesit_server.deployment import members

    _tell(members.set_bundles(home, hashes, unlock=keys.unlock), home)


@app.command(name="renew-certificate")
def renew_certificate(home: Home) -> None:
    """Make a new server certificate for the hosts in coordinator.toml.

    Members notice nothing, unless the public address changed.

    \b
    Example:
      kesit server renew-certificate --home coordinator
    """
    from kesit_server.deployment import authority, members
    from kesit_server.deployment.home import open_coordinator

    changed = members.renew_certificate(home, unlock=keys.unlock)
    leaf = authority.load_certificate(open_coordinator(home).tls[1])
    until, names = f"{leaf.not_valid_after_utc:%Y-%m-%d}", ", ".join(authority.hosts_of(leaf))
    show.print_facts(show.console(), [("Certificate", f"until {until}, for {names}")])
    if changed is not None:
        _tell(changed, home)


def _compared(request: EnrolmentRequest, expected: str | None, yes: bool) -> str:
    """The fingerprint that the owner compared: given, or read from the screen and confirmed."""
    from kesit_privacy.enrolment import MAX_AGE_DAYS
    from kesit_privacy.identity import fingerprint

    if yes and expected is None:
        raise click.UsageError("--yes needs --fingerprint: nobody else compares it.")
    found = fingerprint(request.identity)
    replaces = fingerprint(request.replaces) if request.replaces else "nothing: a new member"
    show.print_facts(
        show.console(),
        [
            ("Name", request.name),
            ("Fingerprint", found),
            ("Replaces", replaces),
            ("Made on", f"{_day(request.created)} (serves for {MAX_AGE_DAYS} days)"),
        ],
    )
    if expected is not None:
        return expected
    keys.confirmed("Did the member itself tell you this fingerprint?", yes=False)
    return found


def _tell(members: MemberList, home: Path) -> None:
    from kesit_server.deployment.home import MEMBERS

    show.print_facts(
        show.console(),
        [
            ("List", f"serial {members.serial}, {len(members.active)} active members"),
            ("Next", f"send {home / MEMBERS} to all members"),
        ],
    )


def _day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"


app.command()(server_runs.start)
app.command()(server_runs.run)
app.command()(server_runs.resume)
app.command()(server_runs.status)
