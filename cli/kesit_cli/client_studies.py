"""`kesit client approve`, `withdraw-approval`, `budget`: which studies a member answers for."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kesit_cli import keys, show
from kesit_cli.keys import Home, Yes

if TYPE_CHECKING:
    pass


def approve(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", hidden=True)],
    home: Home,
    expected: Annotated[
        str | None,
        typer.Option("--hash", metavar="HASH", help="Refuse if the study's hash is another."),
    ] = None,
    yes: Yes = False,
) -> None:
    """Approve STUDY.toml: keep a copy, and answer when its sums are asked for.

    Shows its hash, its price against each budget and what the policy says, then asks.

    \b
    Examples:
      kesit client approve study.toml --home ankara
      kesit client approve study.toml --home ankara --yes --hash HASH
    """
    from kesit_client.owner import approvals, preflight
    from kesit_privacy.errors import StudyError
    from kesit_privacy.study_file import load_study

    study = load_study(study_file)
    wanted = study.hash if expected is None else expected.strip().lower()
    if study.hash != wanted:
        raise StudyError(
            str(study_file),
            f"its hash is {study.hash}, not {wanted}.",
            remedy="Compare the file with the other members' copies; take no part before the"
            " hashes agree.",
        )
    forecasts = approvals.price(home, study)
    screen = show.console()
    show.print_facts(
        screen,
        [
            ("Study", f"{study.name}: {study.purpose}, on the ground {study.legal_basis}"),
            ("Hash", study.hash),
            ("Cost", f"ε = {study.epsilon:g} at δ = {study.delta:g} for each customer, at most"),
            ("Features", ", ".join(feature.name for feature in study.features)),
            ("Policy", "allows the purpose, the features, the queries and the cost"),
        ],
    )
    show.print_forecasts(screen, forecasts)
    preflight.require_room(study, forecasts)
    approvals.require_rules(home, study)
    keys.confirmed("Do all members have this hash, and do you approve?", yes=yes)
    kept = approvals.approve(home, study_file, study.hash)
    show.print_facts(screen, [("Approved", str(kept))])


def withdraw_approval(
    study: Annotated[str, typer.Argument(metavar="STUDY", hidden=True)], home: Home
) -> None:
    """Take the approval of STUDY (its file, or its hash) back: the node refuses it at once.

    What it has cost so far stays spent.

    \b
    Examples:
      kesit client withdraw-approval study.toml --home ankara
      kesit client withdraw-approval 4f0c21aa --home ankara
    """
    from kesit_client.owner import approvals

    show.print_facts(show.console(), [("Withdrawn", approvals.withdraw(home, study))])


def budget(
    home: Home,
    study_file: Annotated[Path | None, typer.Argument(metavar="[STUDY.toml]", hidden=True)] = None,
) -> None:
    """Show what was spent and what remains; with STUDY.toml, what it would cost.

    \b
    Examples:
      kesit client budget --home ankara
      kesit client budget study.toml --home ankara
    """
    from kesit_client.home import BOOKS, POLICY
    from kesit_client.ledger import journal, pots
    from kesit_client.owner import approvals, preflight
    from kesit_client.owner.policy import Policy
    from kesit_privacy.study_file import load_study

    screen, policy = show.console(), Policy.load(home / POLICY)
    if study_file is not None:
        study = load_study(study_file)
        forecasts = approvals.price(home, study)
        show.print_forecasts(screen, forecasts)
        preflight.require_room(study, forecasts)
        show.print_facts(screen, [("Room", "a whole run fits in every budget")])
        return
    with closing(preflight.open_books(home / BOOKS)) as store:
        caps = preflight.standing(policy, store)
        spent = {kind: journal.spent_by(store, kind) for kind in ("study", "purpose")}
        with store.transaction() as books:
            approved = books.approvals()
            training_cap, trained = pots.standing(policy, books)
    table = show.new_table("budget", "cap (ε)", "spent (ε)", "left (ε)", "at δ", right=(1, 2, 3, 4))
    for item in caps:
        cap, used, _ = item.epsilons
        table.add_row(
            item.name, f"{cap:.3g}", f"{used:.3g}", f"{item.epsilon_left:.3g}", f"{item.delta:g}"
        )
    if training_cap or trained:
        left = f"{max(0.0, training_cap - trained):.3g}"
        delta = f"{policy.lifetime.delta:g}"
        table.add_row("trainings", f"{training_cap:.3g}", f"{trained:.3g}", left, delta)
    show.put(screen, table)
    for kind, rows in spent.items():
        if not rows:
            continue
        table = show.new_table(kind, "spent (ε)", right=(1,))
        for row in rows:
            table.add_row(row.name, f"{row.epsilon(policy.lifetime.delta):.3g}")
        screen.print()
        show.put(screen, table)
    if not approved:
        screen.print("\nno study is approved")
        return
    table = show.new_table("approved study", "since")
    for name, at in approved:
        table.add_row(name, f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}")
    screen.print()
    show.put(screen, table)
