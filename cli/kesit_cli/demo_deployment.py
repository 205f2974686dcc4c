"""`kesit demo --deployment`: the same study over real processes, TLS and keys on this machine."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from kesit_cli import show
from kesit_cli.progress import Progress

if TYPE_CHECKING:
    import polars as pl

    from kesit_server.deployment.studies import Ran
    from kesit_simulations.deployed import Deployed

UNITS = 5
STUDY = "study.toml"


def run(bank: pl.DataFrame, study_text: str, base: Path) -> None:
    """Enrol five branches in a new folder, run the study over them, stop everything.

    Args:
        bank: all customers; the branches keep theirs.
        study_text: the study, as TOML, for as many customers as the branches hold.
        base: the folder is made in it, and stays: it holds keys, books, logs and the result.
    """
    from kesit_simulations.deployed import Deployed

    screen = show.console()
    folder = base / f"deployment-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    (folder / STUDY).write_text(study_text, encoding="utf-8")
    tables = branches(bank)
    with Progress("making keys and certificates, enrolling and pinning five branches") as progress:
        place = Deployed.make(folder, folder / STUDY, tables, "customer_id")
        with place:
            progress.event("starting the server and five nodes")
            place.start()
            _print_members(screen, place, tables)
            ran = _studied(place, progress)
            progress.event("stopping all processes")
    _print_books(screen, place, ran)
    screen.print("\n3. What came out: segments of all customers together\n", style="bold")
    _print_segments(screen, ran)
    show.print_facts(
        screen,
        [
            ("Result", str(ran.folder)),
            ("Keys, books", f"{folder} (made up for this demo; delete it when you like)"),
            ("Next", "docs/how-to/run-a-server.md and run-a-node.md, for machines of your own"),
        ],
    )


def branches(bank: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The customers of the bank's first five units, by unit."""
    names = sorted(bank["unit"].unique().to_list(), reverse=True)[:UNITS]  # branches, not partners
    return {name: bank.filter(bank["unit"] == name) for name in sorted(names)}


def _studied(place: Deployed, progress: Progress) -> Ran:
    from kesit_server.deployment import studies

    watch = studies.Watch(progress.event, progress.reply)
    return studies.start(place.coordinator, place.folder / STUDY, watch=watch)


def _print_members(screen: Console, place: Deployed, tables: dict[str, pl.DataFrame]) -> None:
    from kesit_privacy.identity import fingerprint

    members = place.coordinator.members
    screen.print("\n1. Who takes part: each is a process with keys of its own\n", style="bold")
    table = show.new_table("member", "customers", "fingerprint that the others pinned", right=(1,))
    for member in members.active:
        rows = f"{len(tables[member.name]):,}"
        table.add_row(member.name, rows, fingerprint(member.identity))
    show.put(screen, table)
    screen.print(
        f"\nThey reach the server at {members.host}:{members.port} by TLS, and at no other port."
        " Nodes open no port and run no code but what is installed here."
    )


def _print_books(screen: Console, place: Deployed, ran: Ran) -> None:
    from kesit_client.home import BOOKS
    from kesit_client.ledger import journal
    from kesit_client.owner import preflight

    screen.print("\n2. What left a member, by its own books\n", style="bold")
    name = place.names[0]
    with closing(preflight.open_books(place.home(name) / BOOKS)) as store:
        entries = journal.read_log(store)
    study = ran.federation.study
    table = show.new_table("asked", "query", "bytes out", "share of the budget", right=(2, 3))
    for entry in entries:
        query = "" if entry.asked is None else entry.asked.query
        share = f"{entry.units / study.mu2_units:.0%}" if entry.units else ""
        table.add_row(entry.step or entry.kind, query, f"{entry.bytes_out:,}", share)
    show.put(screen, table)
    screen.print(f"\nThat is {name}'s; see the same with")
    screen.print(f"  kesit client log --home {place.home(name)}", soft_wrap=True)


def _print_segments(screen: Console, ran: Ran) -> None:
    from kesit_server.portrait import telling

    told = telling.read(ran.folder)
    table = show.new_table("segment", "customers", "95 %", "what sets it apart", right=(0, 1))
    for card in told.cards:
        low, high = card.size_95
        sizes = (f"{card.size:,.0f}", f"{low:,.0f} .. {high:,.0f}")
        table.add_row(str(card.segment), *sizes, card.name.en)
    show.put(screen, table)
    screen.print()
