"""What a study would cost this client, answered before anything is spent.

The forecast reads the same budgets as the checklist that decides inside a run
(`checklist.budgets`), and assumes a whole run: on neither side do all its attempts together cost
more than the study's μ², so that a customer pays as much at most, whichever side is dearer so far.
"""

from __future__ import annotations

import math
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from kesit_client.checklist import budgets, caps, check_policy
from kesit_client.errors import StoreError
from kesit_client.ledger import pots
from kesit_client.ledger.store import Store
from kesit_client.owner.policy import Policy
from kesit_privacy import accounting
from kesit_privacy.errors import BudgetError
from kesit_privacy.study import Study

STUDY = "study"
TABLES = {"node", "approval", "charge"}


@dataclass(frozen=True)
class Forecast:
    """One budget, and what it would be after the study. `cap`, `spent`, `cost`: units of μ²."""

    name: str
    cap: int
    spent: int
    cost: int
    delta: float

    @property
    def left(self) -> int:
        """Units that may still be spent."""
        return max(0, self.cap - self.spent)

    @property
    def fits(self) -> bool:
        """Whether a whole run fits in what is left."""
        return self.cost <= self.left

    @property
    def epsilon_left(self) -> float:
        """ε of one more study that would use what is left, at `delta`."""
        return accounting.epsilon(self.left, self.delta)

    @property
    def epsilons(self) -> tuple[float, float, float]:
        """ε at `delta` of the cap, of what is spent, and of what would be spent after the study."""
        units = (self.cap, self.spent, self.spent + self.cost)
        cap, spent, after = (accounting.epsilon(u, self.delta) for u in units)
        return cap, spent, after


def forecast(
    study: Study, policy: Policy, store: Store | None = None, now: float | None = None
) -> tuple[Forecast, ...]:
    """What a whole run of the study would do to each of this client's budgets.

    Args:
        store: the client's books; None for books in which nothing is spent yet.
        now: Unix seconds; None for the present.

    Raises:
        Refusal: the policy forbids the study's purpose, a feature or a query; or its trainings do
            not fit in their pots.
    """
    check_policy(study, policy)
    moment = time.time() if now is None else now
    with (store or Store.in_memory()).transaction() as books:
        found = budgets(study, policy, books, moment)
        if study.training is not None:
            pots.check(study, policy, books, study.training.rounds)
    return tuple(
        Forecast(
            budget.name,
            budget.cap,
            budget.spent,
            study.mu2_units,
            study.sums_delta if budget.name == STUDY else policy.lifetime.delta,
        )
        for budget in found
    )


def standing(policy: Policy, store: Store, now: float | None = None) -> tuple[Forecast, ...]:
    """Every cap of the policy as it stands, without a study.

    Args:
        now: Unix seconds; None for the present.
    """
    moment = time.time() if now is None else now
    with store.transaction() as books:
        found = caps(policy, books, moment)
    return tuple(Forecast(b.name, b.cap, b.spent, 0, policy.lifetime.delta) for b in found)


def require_room(study: Study, forecasts: tuple[Forecast, ...]) -> None:
    """Refuse a study that does not fit in one of the budgets; name the tightest.

    Raises:
        BudgetError: with what would help.
    """
    short = [item for item in forecasts if not item.fits]
    if not short:
        return
    tightest = min(short, key=lambda item: item.left)
    cap, spent, after = tightest.epsilons
    if tightest.name == STUDY:
        raise BudgetError(
            f"The study's own budget (ε = {study.epsilon:g}) is used: earlier runs spent"
            f" ε = {spent:.3g} of it, and a whole run needs all of it.",
            remedy="Agree on a new study (another file, another hash); its cost adds to the"
            " lifetime budget.",
        )
    affordable = math.floor(accounting.epsilon(tightest.left, study.sums_delta) * 100) / 100
    advice = f"Agree on epsilon <= {affordable:g}, or let" if affordable > 0 else "Let"
    wait = "; or wait until older spending has left the period" if _forgets(tightest) else ""
    raise BudgetError(
        f"The {tightest.name} budget is exhausted for this study: ε = {cap:.3g} at"
        f" δ = {tightest.delta:g}, of which {spent:.3g} is spent; after this study it would be"
        f" {after:.3g}.",
        remedy=f"{advice} the data's owner raise that cap in the policy{wait}; or take no part.",
    )


def _forgets(item: Forecast) -> bool:
    return item.name.endswith("-day")


def open_books(path: Path) -> Store:
    """A client's existing books. Never begins new ones.

    Raises:
        StoreError: missing, something else, unreadable, or restored from a backup.
    """
    store = existing_books(path)
    restored = store.restored
    if restored is not None:
        store.close()
        raise StoreError(
            f"{path}: the books look restored from a backup ({restored}), so what they say is"
            " spent may be too little.",
            remedy="Get the server's signed spending log and merge it first"
            " (`kesit client merge`).",
        )
    return store


def existing_books(path: Path) -> Store:
    """A client's existing books, also if they look restored: to read them, or to merge.

    Raises:
        StoreError: missing, something else, or unreadable.
    """
    if not path.is_file():
        raise StoreError(
            f"{path}: there are no books here.",
            remedy="Give the path of the node's books.sqlite, or leave it out.",
        )
    if not _tables(path) >= TABLES:
        raise StoreError(
            f"{path}: is not a client's books.", remedy="Give the node's books.sqlite."
        )
    return Store.open(path)


def _tables(path: Path) -> set[str]:
    """Names of the file's tables; empty if it is not SQLite. Opened read-only."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {str(name) for (name,) in found}
        finally:
            connection.close()
    except sqlite3.Error:
        return set()
