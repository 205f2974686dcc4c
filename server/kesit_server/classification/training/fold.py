"""One training of a study, as an estimator sees it: its sums, and whom they leave to an evaluation.

A study that holds out once has one of them; with `folds` it has several, whose customers held out
are together everybody, each once.
"""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy import classifier_recipes
from kesit_privacy.queries import Query
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS, Side, held_ranges
from kesit_server.sums import NoisySum, Sums


@dataclass(frozen=True)
class Fold:
    """A training and its evaluation.

    Attributes:
        sums: who answers, for all folds alike.
        held: parts low .. high-1 of customers, who evaluate and are not trained on.
        suffix: what the fold's steps of the plan end with; empty without folds.
    """

    sums: Sums
    held: tuple[int, int]
    suffix: str = ""

    @classmethod
    def all_of(cls, sums: Sums) -> tuple[Fold, ...]:
        """Those of a study, in order; one without folds."""
        ranges = held_ranges(sums.study)
        if sums.study.classifying.folds is None:
            return (cls(sums, ranges[0]),)
        return tuple(
            cls(sums, held, classifier_recipes.suffix(fold)) for fold, held in enumerate(ranges)
        )

    @property
    def study(self) -> Study:
        """The study."""
        return self.sums.study

    @property
    def share(self) -> float:
        """Of the customers, who are held out."""
        return (self.held[1] - self.held[0]) / PARTS

    @property
    def counted(self) -> list[int]:
        """The parameter `held` of training queries, which count everybody else."""
        return Side(*self.held, inside=False).params()

    def rounds(self) -> tuple[str, ...]:
        """Names of the sums of what a model gets wrong, as `sum` takes them."""
        return classifier_recipes.rounds(self.study, self.suffix)

    def noise_ahead(self, step: str, delta: float) -> float:
        """σ of the next sum at that sensitivity."""
        return self.sums.noise_ahead(step + self.suffix, delta)

    def sum(self, step: str, query: Query) -> NoisySum:
        """The noisy sum of this fold's step.

        Raises:
            BudgetError, FederationError: too little, or too few, is left for it.
        """
        return self.sums.sum(step + self.suffix, query)
