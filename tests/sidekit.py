"""A classifier's study by hand: its queries, and a ledger that looks at each part of customers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from classifier_cases import CLASSIFIER_STUDIES, VALID_CLASSIFIER
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import Query, bind
from kesit_privacy.sides import BookSide
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS, held_out

STUDY = CLASSIFIER_STUDIES["churn"]
TRAINING = [step.step for step in STUDY.plan if STUDY.side(step) is BookSide.TRAIN]
(EVALUATION,) = (step.step for step in STUDY.plan if STUDY.side(step) is BookSide.HELD)


def query(step: str, study: Study = STUDY, **changes: Any) -> Query:
    """The step's query over the customers whom the study's plan means, with other parameters."""
    planned = study.step(step)
    assert planned is not None
    params = VALID_CLASSIFIER[planned.query, 1] | {"held": list(held_out(study))} | changes
    return bind(study, planned.query, 1, params, SCALE_BITS)


class PartLedger:
    """What customers of each of the 1,000 parts have paid: sum by sum, without any sides."""

    def __init__(self) -> None:
        self.paid: list[int] = [0] * PARTS

    def charge(self, units: int, low: int, high: int, *, inside: bool) -> None:
        """A sum over the parts low .. high-1, or over all others."""
        for part in range(PARTS):
            if (low <= part < high) == inside:
                self.paid[part] += units

    @property
    def dearest(self) -> int:
        """The most that any customer has paid."""
        return max(self.paid)


class RunLedgers:
    """A ledger for each run of a study, since a customer may have another id in each."""

    def __init__(self) -> None:
        self.ledgers: defaultdict[str, PartLedger] = defaultdict(PartLedger)

    @property
    def dearest(self) -> int:
        """The most that any customer has paid who is in the dearest part of every run."""
        return sum(ledger.dearest for ledger in self.ledgers.values())
