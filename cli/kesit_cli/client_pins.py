"""`kesit client pin`, `pins`, `unpin`: with whom a member's owner lets it answer."""

from __future__ import annotations

from typing import Annotated

import typer

from kesit_cli import keys, show
from kesit_cli.keys import Home

Name = Annotated[str, typer.Argument(metavar="NAME", hidden=True)]


def pin(
    name: Name,
    fingerprint: Annotated[list[str], typer.Argument(metavar="FINGERPRINT", hidden=True)],
    home: Home,
    replace: Annotated[
        bool, typer.Option("--replace", help="NAME told you that it has new keys.")
    ] = False,
) -> None:
    """Pin the member of this FINGERPRINT under a NAME of your choice.

    Use what the member itself told you, by telephone or in person; never a fingerprint that you
    only read on this machine. The name "coordinator" pins the coordinator.

    \b
    Examples:
      kesit client pin coordinator 3f2a 91c0 ... --home ankara
      kesit client pin Bursa 77d1 08ce ... --home ankara
    """
    from kesit_client.owner import pins as pinned
    from kesit_privacy.identity import fingerprint as shown

    made = pinned.pin(home, name, keys.joined_text(fingerprint), replace=replace)
    show.print_facts(show.console(), [("Pinned", f"{made.name}: {shown(made.identity)}")])


def pins(home: Home) -> None:
    """List the pins, and the members that are not pinned.

    \b
    Example:
      kesit client pins --home ankara
    """
    from kesit_client.home import own_request, read_members
    from kesit_client.owner import pins as pinned
    from kesit_privacy.identity import fingerprint

    found = pinned.pins(home)
    table = show.new_table("pin", "fingerprint", "member list")
    for made in found:
        table.add_row(made.name, fingerprint(made.identity), made.status)
    screen = show.console()
    show.put(screen, table)
    members = read_members(home)
    if members is None:
        return
    known = {made.identity for made in found} | {own_request(home).identity}
    others = [member.name for member in members.active if member.identity not in known]
    if members.coordinator not in known:
        others.insert(0, pinned.COORDINATOR)
    if others:
        # Without their fingerprints, on purpose: what stands here must not be what is pinned.
        screen.print(f"\nnot pinned: {', '.join(others)}; ask each of them for its fingerprint")


def unpin(name: Name, home: Home) -> None:
    """Take a pin back: runs with that member are refused from now on.

    \b
    Example:
      kesit client unpin Bursa --home ankara
    """
    from kesit_client.owner import pins as pinned

    pinned.unpin(home, name)
    show.print_facts(show.console(), [("Unpinned", name)])
