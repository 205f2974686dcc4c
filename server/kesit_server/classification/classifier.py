"""The classifier: trained, then evaluated on customers whom training did not count."""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy import classifier_recipes
from kesit_privacy.errors import BudgetError
from kesit_privacy.study import Study
from kesit_server.classification.folds import mean_judged, mean_model
from kesit_server.classification.judging.evaluation import assess, evaluation_query
from kesit_server.classification.judging.expected import Expected
from kesit_server.classification.judging.judged import Judged
from kesit_server.classification.judging.uplift import uplift
from kesit_server.classification.training.fit import fit
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold
from kesit_server.classification.training.sparsity import sparse
from kesit_server.errors import FederationError
from kesit_server.sums import Sums


@dataclass(frozen=True)
class Trained:
    """A model, and the parts low .. high-1 of customers whom its training left out."""

    held: tuple[int, int]
    fitted: Fitted


@dataclass(frozen=True)
class Classifier:
    """A trained model of the study's target.

    Attributes:
        fitted: the result; with folds the mean of theirs.
        judged: None if failed attempts ate the evaluation's budget, or too few members were left.
            With folds the mean of what those found that had an evaluation.
        folds: what was trained, and on whom; one without folds.
    """

    study: Study
    fitted: Fitted
    noisy: bool
    judged: Judged | None = None
    folds: tuple[Trained, ...] = ()


def classify(federation: Sums) -> Classifier:
    """Run a classifier's study over a federation whose hello is done.

    Raises:
        BudgetError: too little is left for a training sum.
        FederationError: too few members are left for one.
    """
    study, folds = federation.study, Fold.all_of(federation)
    penalty = study.classifying.l1
    whole = [fit(fold) for fold in folds]
    fitted = [sparse(own, penalty) for own in whole]
    found = [_judged(fold, own) for fold, own in zip(folds, fitted, strict=True)]
    told = [judged for judged in found if judged is not None]
    return Classifier(
        study,
        sparse(mean_model(whole), penalty),  # not the mean of sparse ones, where few features leave
        federation.noisy,
        _together(study, told),
        tuple(Trained(fold.held, own) for fold, own in zip(folds, fitted, strict=True)),
    )


def _together(study: Study, told: list[Judged]) -> Judged | None:
    """What the evaluations that there were say of the study's one training, or of its folds."""
    if not told or study.classifying.folds is None:
        return told[0] if told else None
    return mean_judged(told)


def _judged(fold: Fold, fitted: Fitted) -> Judged | None:
    """A fold's evaluation; the model stands without it, for it is paid."""
    study, step, sums = fold.study, classifier_recipes.EVALUATION.step, fold.sums
    expected = Expected.of(study, fitted.labels, fitted.model, fold.share)
    try:
        noise = fold.noise_ahead(step, 1.0)
        query = evaluation_query(study, fitted.model, expected, noise, fold.held)
        opened = fold.sum(step, query)
    except (BudgetError, FederationError) as error:
        sums.note(f"{step}{fold.suffix} is left out. {error.cause}")
        return None
    evaluation = assess(query, opened, expected, noisy=sums.noisy)
    if query.arms is None:
        return Judged(evaluation)
    return Judged(evaluation, uplift(query, opened, expected.threshold, noisy=sums.noisy))
