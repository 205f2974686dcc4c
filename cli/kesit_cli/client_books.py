"""`kesit client log`, `merge`, `check`: what a member's node did, and whether it could answer."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import exits, keys, show
from kesit_cli.keys import Home

if TYPE_CHECKING:
    from kesit_client.ledger.journal import Entry


def log(
    home: Home,
    refusals: Annotated[
        bool, typer.Option("--refusals", help="Only what was refused, with the causes.")
    ] = False,
) -> None:
    """Show every message that was answered and what it cost, and every refusal with its cause.

    Times are UTC; ε is that of the one message, at the lifetime's δ.

    \b
    Examples:
      kesit client log --home ankara
      kesit client log --home ankara --refusals
    """
    from kesit_client.home import BOOKS, POLICY
    from kesit_client.ledger import journal
    from kesit_client.owner.policy import Policy
    from kesit_client.owner.preflight import existing_books

    delta = Policy.load(home / POLICY).lifetime.delta
    with closing(existing_books(home / BOOKS)) as store:
        entries = journal.read_log(store)
    screen = show.console()
    if not refusals:
        headers = ("time (UTC)", "run", "what", "query", "members", "noise (σ)", "ε", "bytes out")
        table = show.new_table(*headers, right=(4, 5, 6, 7), whole=(0, 1, 2))
        for entry in entries:
            if entry.kind != journal.REFUSED:
                table.add_row(*_answered(entry, delta))
        show.put(screen, table)
        screen.print()
    table = show.new_table("time (UTC)", "run", "refused with", "cause", whole=(0, 1))
    for entry in entries:
        if entry.kind == journal.REFUSED:
            table.add_row(_time(entry.at), entry.run[:8], entry.code.name, entry.cause)
    show.put(screen, table)


def _answered(entry: Entry, delta: float) -> tuple[str, ...]:
    from kesit_client.ledger import journal
    from kesit_privacy import accounting
    from kesit_privacy.training import TRAINED

    start = (_time(entry.at), entry.run[:8])
    if entry.kind == journal.HELLO:
        return (*start, "hello", "", "", "", "0", f"{entry.bytes_out:,}")
    what = entry.step if entry.attempt == 1 else f"{entry.step}, attempt {entry.attempt}"
    if entry.kind == journal.MERGED:
        what += " (merged)"
    query = members = noise = ""
    if entry.asked is not None:
        query = f"{entry.asked.query} v{entry.asked.query_version}"
        members = str(len(entry.asked.roster))
        noise = show.number(float(entry.asked.share_variance) ** 0.5 / 2**entry.asked.scale_bits)
    epsilon = f"{accounting.epsilon(entry.units, delta):.3g}"
    if entry.asked is not None and entry.asked.query == TRAINED:
        noise, epsilon = "in the training", "own pot"
    return (*start, what, query, members, noise, epsilon, f"{entry.bytes_out:,}")


def merge(
    logs: Annotated[list[Path], typer.Argument(metavar="LOG...", hidden=True)], home: Home
) -> None:
    """Merge the coordinator's signed spending LOGs into books that were restored from a backup.

    A pinned coordinator must have signed them. Give the logs of all runs since the backup, and of
    every coordinator that this node answered, at once: if the books' witness is gone, nothing here
    can tell whether one is missing.

    \b
    Example:
      kesit client merge run-1/spending-log.json run-2/spending-log.json --home ankara
    """
    from kesit_client.ledger.restoring import merge_logs

    merged = merge_logs(home, logs)
    state = "the node answers again" if merged.restored is None else merged.restored
    screen = show.console()
    show.print_facts(
        screen,
        [
            ("Merged", f"{merged.added} of {merged.own} charges of this node were new"),
            ("Books", state),
        ],
    )
    if merged.restored is None:
        return
    if not merged.own:
        screen.print(
            "These logs name no run of this node under the keys that it knows. If its keys were"
            " changed, join the newest member list first (kesit client join)."
        )
    raise typer.Exit(exits.DATA)


def check(
    home: Home,
    study_file: Annotated[Path | None, typer.Argument(metavar="[STUDY.toml]", hidden=True)] = None,
) -> None:
    """Look at everything that could keep this node from answering: in general, or for STUDY.toml.

    Nothing is sent, spent or changed. The exit code is that of the first failure.

    \b
    Examples:
      kesit client check --home ankara
      kesit client check study.toml --home ankara
    """
    from kesit_client.owner.inspection import FAIL, inspect

    findings = inspect(home, study_file, unlock=keys.unlock)
    table = show.new_table("", "what", "found", "what to do")
    for finding in findings:
        remedy = "" if finding.error is None else finding.error.remedy
        table.add_row(finding.level, finding.subject, finding.detail, remedy)
    show.put(show.console(), table)
    failed = [finding.error for finding in findings if finding.level == FAIL and finding.error]
    if failed:
        raise typer.Exit(exits.code_of(failed[0]))


def _time(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
