"""Which customers a sum can be about, as the books tell them apart, and what sums cost together.

A classifier's study divides customers by a keyed hash of their ids (`target`). Whoever is held out
is in no training sum, and a training customer in no evaluation: of the sums on the other side a
customer's presence changes nothing. So costs add up within a side, and a customer has paid for the
dearer of two sides, not for both: parallel composition (McSherry 2009, theorem 4). Side by side
each total is a filter of its own under adaptive choices (`accounting`; Feldman and Zrnic 2021 keep
one for each individual), since a sum's side is as public as its cost. All of it holds
within one run, which reads ids once: runs add up, for ids may change in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

HELD_OUT_QUERIES = frozenset({"score-evaluation"})
"""Names of the queries that a classifier's study asks of customers whom training left out. Its
other queries are training. A plan is priced by these names alone, before there are parameters."""


class BookSide(StrEnum):
    """The customers that a sum counts: all of them, or those of one side at most."""

    ALL = "all"
    TRAIN = "train"
    HELD = "held"


@dataclass(frozen=True)
class BySide:
    """Units of μ² that customers of each side have paid; a sum over all is paid by both."""

    train: int = 0
    held: int = 0

    @classmethod
    def total(cls, costs: Iterable[tuple[int, BookSide]]) -> Self:
        """Of sums that cost so much on these sides."""
        found = list(costs)
        return cls(
            sum(units for units, side in found if side is not BookSide.HELD),
            sum(units for units, side in found if side is not BookSide.TRAIN),
        )

    @property
    def units(self) -> int:
        """What one customer has paid at most."""
        return max(self.train, self.held)

    def on(self, side: BookSide) -> int:
        """What a customer whom a sum on `side` can be about has paid at most."""
        return {BookSide.TRAIN: self.train, BookSide.HELD: self.held}.get(side, self.units)

    def plus(self, units: int, side: BookSide) -> BySide:
        """After a further sum."""
        more = self.total([(units, side)])
        return BySide(self.train + more.train, self.held + more.held)
