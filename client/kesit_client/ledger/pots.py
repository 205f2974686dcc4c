"""The pots for trainings: what DP-SGD has cost, in tables of its own beside the charges.

A training is charged twice in one transaction: as a charge of 0 units, which keeps its place among
the answers, and as an event here. Two filters hold: the study's own pot, and one over the owner's
lifetime (`neural_epsilon` of the policy). Their ε and δ add to those of the noisy sums. Periods and
caps on purposes are in units of μ² and do not count trainings.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache

from kesit_client.ledger.books import Books, Charge
from kesit_client.owner.policy import Policy
from kesit_privacy import canonical
from kesit_privacy.accounting import RdpPot
from kesit_privacy.errors import BudgetError
from kesit_privacy.instruction import Instruction
from kesit_privacy.queries import Query, TrainedWeights
from kesit_privacy.study import Study
from kesit_privacy.training import Event
from kesit_privacy.wire import Refusal, RefusalCode


def add(books: Books, charge: Charge, event: Event) -> None:
    """Append the event of a charge that was just made, in its transaction.

    A merged log may have named this very instruction, at a price of its own. What is asked here
    counts all the same, beside it: an owner's books never take a server's word for less.
    """
    digest = charge.instruction
    if not books.add_training(digest, charge.study, charge.purpose, event):
        books.add_training(digest + canonical.digest(digest), charge.study, charge.purpose, event)


def events(books: Books, study: str | None = None) -> Counter[Event]:
    """How often each event was charged: to one study, or to all."""
    rows = books.rows(
        "SELECT rate, noise, steps FROM training WHERE ?1 IS NULL OR study = ?1", (study,)
    )
    return Counter(Event(*row) for row in rows)


def pots(study: Study, policy: Policy, books: Books) -> dict[str, RdpPot]:
    """The pots that a training of this study must fit, with all that was charged to them."""
    assert study.pot is not None
    return {
        "study's pot": _filled(study.pot, events(books, study.hash)),
        "lifetime pot": _filled(_lifetime(policy), events(books)),
    }


def check(study: Study, policy: Policy, books: Books, trainings: int = 1) -> None:
    """Refuse what would overdraw a pot.

    Raises:
        Refusal: with code BUDGET; the cause names the pot.
    """
    assert study.training is not None
    item = study.training.event.times(trainings)
    for name, pot in pots(study, policy, books).items():
        try:
            pot.charge(item)
        except BudgetError as error:
            raise Refusal(
                RefusalCode.BUDGET, f"The {name}: {error.cause}", remedy=error.remedy
            ) from error


def check_policy(study: Study, policy: Policy) -> None:
    """Refuse a study that trains where the owner allows no trainings, or none so dear.

    Raises:
        Refusal: with code POLICY.
    """
    if study.pot is None:
        return
    cap = policy.lifetime.neural_epsilon or 0.0
    if cap < study.pot.epsilon:
        raise Refusal(
            RefusalCode.POLICY,
            f"The study's trainings cost ε = {study.pot.epsilon:g}; the policy allows {cap:g} for"
            " trainings over its lifetime.",
            remedy="Raise neural_epsilon in the policy's [lifetime] (it adds to epsilon), or do"
            " not take part.",
        )


def check_instruction(instruction: Instruction, query: Query) -> None:
    """Refuse noise, or canaries, in an instruction to train: they would be told in the clear.

    Raises:
        Refusal: with code NOT_IN_PLAN.
    """
    assert isinstance(query, TrainedWeights)
    if instruction.share_variance != 0 or instruction.canaries.count:
        raise Refusal(
            RefusalCode.NOT_IN_PLAN,
            "The instruction adds noise or canaries to trained weights.",
            remedy="The server must run a compatible version of Kesit.",
        )


def standing(policy: Policy, books: Books) -> tuple[float, float]:
    """ε of the owner's lifetime pot for trainings, and what is spent of it, at the lifetime's δ."""
    pot, charged = _lifetime(policy), events(books)
    return pot.epsilon, _filled(pot, charged).spent() if charged else 0.0


@lru_cache(maxsize=8)
def _open(epsilon: float, delta: float) -> RdpPot:
    pot = RdpPot.open(epsilon, delta)
    return replace(pot, order=float(max(2, round(pot.order))))


def _lifetime(policy: Policy) -> RdpPot:
    """The owner's pot, at an order that depends on the policy alone."""
    cap = policy.lifetime.neural_epsilon or 0.0
    if cap == 0:
        return RdpPot(0.0, policy.lifetime.delta, 2.0)
    return _open(cap, policy.lifetime.delta)


def _filled(pot: RdpPot, charged: Counter[Event]) -> RdpPot:
    return replace(pot, events=tuple(event.times(count) for event, count in charged.items()))
