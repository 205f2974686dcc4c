"""The evaluation of a model that was released before, on everybody: nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kesit_privacy import classifier_recipes
from kesit_privacy.study import Study
from kesit_server.classification.judging.evaluation import assess, evaluation_query
from kesit_server.classification.judging.expected import Expected
from kesit_server.classification.judging.judged import Judged
from kesit_server.classification.judging.released import Released
from kesit_server.classification.judging.uplift import uplift
from kesit_server.results import EVALUATION
from kesit_server.sums import Sums

FORMAT = 1
"""Of evaluation.json; it changes when a program that reads an older one must change."""


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation found of a model, whose file has the SHA-256 `digest`."""

    study: Study
    digest: str
    noisy: bool
    judged: Judged


def evaluate_released(federation: Sums, released: Released) -> Evaluated:
    """Run the study over a federation whose hello is done.

    Raises:
        BudgetError, FederationError: too little, or too few, is left for the sum.
    """
    study, step = federation.study, classifier_recipes.EVALUATION.step
    expected = Expected.of_released(study, released)
    query = evaluation_query(study, released.model, expected, federation.noise_ahead(step, 1.0))
    opened = federation.sum(step, query)
    evaluation = assess(query, opened, expected, noisy=federation.noisy)
    arms = (
        ()
        if query.arms is None
        else uplift(query, opened, expected.threshold, noisy=federation.noisy)
    )
    return Evaluated(study, released.digest, federation.noisy, Judged(evaluation, arms))


@dataclass(frozen=True)
class EvaluationCard:
    """An evaluation as people and programs read it."""

    found: Evaluated

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        return EVALUATION

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `evaluation_telling` reads them back."""
        study, judged = self.found.study, self.found.judged
        return {
            "kesit_evaluation": FORMAT,
            "purpose": study.purpose,
            "legal_basis": study.legal_basis,
            "target": study.target,
            "model": self.found.digest,
            "evaluation": judged.evaluation.as_dict(),
            "uplift": [found.told() for found in judged.uplift],
        }
