"""The server's copy of a study's pot for trainings, and what a run spent in each pot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kesit_privacy import accounting
from kesit_privacy.errors import BudgetError
from kesit_privacy.instruction import Instruction
from kesit_privacy.sides import BySide
from kesit_privacy.spending import Spending
from kesit_privacy.study import Study
from kesit_privacy.training import Event


class Pot:
    """What a run's trainings have cost its most charged member.

    Args:
        study: the server's copy. A study without trainings has no pot, and none is charged.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self.trainings = 0

    def charge(self, order: Instruction) -> Event:
        """Enter one attempt at a training, and say what it costs.

        Raises:
            BudgetError: the pot is empty; nothing is charged.
        """
        training, pot = self._study.training, self._study.pot
        if training is None or pot is None:
            raise BudgetError(
                f"{order.step}: the study has no budget for trainings.",
                remedy="Agree on a study with a [classification.training] table.",
            )
        pot.charge(training.event.times(self.trainings + 1))
        self.trainings += 1
        return training.event

    def after(self, trainings: int) -> float:
        """ε of so many trainings, at the pot's δ."""
        training, pot = self._study.training, self._study.pot
        if trainings == 0 or training is None or pot is None:
            return 0.0
        return pot.spent(training.event.times(trainings))


@dataclass(frozen=True)
class Spent:
    """What a run cost its most charged member.

    Attributes:
        units: μ² of the noisy sums, of the dearer side. sums, held: ε of the noisy sums at their δ,
            for a training customer and for one who was held out. trainings: ε of trainings, at
            their pot's δ, for a training customer.
    """

    units: int
    sums: float
    held: float
    trainings: float

    @classmethod
    def of(cls, study: Study, entries: Sequence[Spending]) -> Spent:
        """What all entries of a run's log come to."""
        paid = BySide.total((entry.units, entry.side) for entry in entries)
        count = sum(entry.trained is not None for entry in entries)
        pot = Pot(study)
        train, held = (accounting.epsilon(u, study.sums_delta) for u in (paid.train, paid.held))
        return cls(paid.units, train, held, pot.after(count))

    @property
    def epsilon(self) -> float:
        """What one customer paid at most, at the study's δ: the ε of two pots add, as do their δ; a
        customer who was held out is in no training."""
        return max(self.sums + self.trainings, self.held)


def alone(study: Study, entry: Spending) -> float:
    """ε of one entry by itself, at the δ of its pot."""
    return Spent.of(study, [entry]).epsilon


def told(study: Study, spent: Spent) -> list[dict[str, Any]]:
    """The pots, for a privacy statement; none where there is only one."""
    if study.pot is None:
        return []
    return [
        {
            "pot": "noisy sums",
            "epsilon_agreed": study.sums_epsilon,
            "delta": study.sums_delta,
            "epsilon_spent": max(spent.sums, spent.held),
        },
        {
            "pot": "trainings (DP-SGD)",
            "epsilon_agreed": study.pot.epsilon,
            "delta": study.pot.delta,
            "epsilon_spent": spent.trainings,
        },
    ]
