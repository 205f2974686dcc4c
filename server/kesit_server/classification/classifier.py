"""The classifier: trained, then evaluated on customers whom training did not count."""

from __future__ import annotations

from dataclasses import dataclass

from kesit_privacy.study import Study
from kesit_server.classification import additive, neural
from kesit_server.sums import Sums

Fitted = additive.Fitted | neural.Fitted


@dataclass(frozen=True)
class Classifier:
    """A trained model of the study's target."""

    study: Study
    fitted: Fitted
    noisy: bool


def classify(federation: Sums) -> Classifier:
    """Run a classifier's study over a federation whose hello is done.

    Raises:
        BudgetError: too little is left for a training sum.
        FederationError: too few members are left for one.
    """
    fit = neural.fit if federation.study.training is not None else additive.fit
    return Classifier(federation.study, fit(federation), federation.noisy)
