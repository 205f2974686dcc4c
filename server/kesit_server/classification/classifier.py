"""The classifier: trained, then evaluated on customers whom training did not count."""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy import classifier_recipes
from kesit_privacy.errors import BudgetError
from kesit_privacy.study import Study
from kesit_server.classification.evaluation import assess, evaluation_query
from kesit_server.classification.expected import Expected
from kesit_server.classification.fitted import Fitted
from kesit_server.classification.judged import ModelEvaluation
from kesit_server.classification.sparsity import sparse
from kesit_server.classification.training import fit
from kesit_server.classification.uplift import Uplift, uplift
from kesit_server.errors import FederationError
from kesit_server.sums import Sums


@dataclass(frozen=True)
class Judged:
    """What the evaluation sum tells: metrics, and for a study with arms what choosing gains."""

    evaluation: ModelEvaluation
    uplift: tuple[Uplift, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A trained model of the study's target.

    Attributes:
        judged: None if failed attempts ate the evaluation's budget, or too few members were left.
    """

    study: Study
    fitted: Fitted
    noisy: bool
    judged: Judged | None = None


def classify(federation: Sums) -> Classifier:
    """Run a classifier's study over a federation whose hello is done.

    Raises:
        BudgetError: too little is left for a training sum.
        FederationError: too few members are left for one.
    """
    fitted = sparse(fit(federation), federation.study.classifying.l1)
    return Classifier(federation.study, fitted, federation.noisy, _judged(federation, fitted))


def _judged(federation: Sums, fitted: Fitted) -> Judged | None:
    """The evaluation; the model stands without it, for it is paid."""
    study, step = federation.study, classifier_recipes.EVALUATION.step
    expected = Expected.of(study, fitted.labels, fitted.model)
    try:
        query = evaluation_query(study, fitted.model, expected, federation.noise_ahead(step, 1.0))
        opened = federation.sum(step, query)
    except (BudgetError, FederationError) as error:
        federation.note(f"{step} is left out. {error.cause}")
        return None
    evaluation = assess(query, opened, expected, noisy=federation.noisy)
    if query.arms is None:
        return Judged(evaluation)
    return Judged(evaluation, uplift(query, opened, expected.threshold, noisy=federation.noisy))
