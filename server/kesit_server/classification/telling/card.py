"""The model card: what a model says, cell by cell, how sure it is, and what it is not for.

Post-processing of released values; it costs no privacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kesit_privacy.additive_view import view
from kesit_privacy.features import FloatArray, plain
from kesit_privacy.model_file import FORMAT, MODEL
from kesit_privacy.scorecard import LOGIT, Cells
from kesit_server.classification.classifier import Classifier
from kesit_server.classification.telling.doubts import doubts
from kesit_server.wording import Wording, labels

NOTES = (
    "points: 1024 are one logit; a customer's points are the intercept and one cell of each"
    " feature, and the softmax of the logits is the chance of each class",
    "spread: standard deviation of a cell's points, over noise and sampling, under the prior that"
    " smoothed it",
    "importance: standard deviation of the feature's points over the customers whom training"
    " counted, in logits, averaged over the classes",
)

NOT_FOR = (
    Wording(
        "It must not decide alone about a person: whoever is affected may object and have a human"
        " look at the case (Law 6698, article 11(1)(g)).",
        "Bir kişi hakkında tek başına karar veremez: etkilenen kişi itiraz edebilir ve durumunu bir"
        " insanın incelemesini isteyebilir (6698 sayılı Kanun, m. 11/1-g).",
    ),
    Wording(
        "It is for the purpose of the study alone, and for customers who have a ground for it.",
        "Yalnızca çalışmanın amacı için ve bunun için hukuki sebebi olan müşterilerde kullanılır.",
    ),
    Wording(
        "Its shapes are associations in the members' data, not causes: changing a customer's value"
        " need not change the outcome.",
        "Eğrileri üyelerin verisindeki ilişkilerdir, neden değildir: bir müşterinin değerini"
        " değiştirmek sonucu değiştirmeyebilir.",
    ),
    Wording(
        "Customers unlike those whom the members had (other bounds, levels or years) may be scored"
        " badly, and no number here would show it.",
        "Üyelerin müşterilerine benzemeyenler (başka sınırlar, düzeyler, yıllar) yanlış"
        " puanlanabilir; buradaki hiçbir sayı bunu göstermez.",
    ),
)


@dataclass(frozen=True)
class ModelCard:
    """A classifier as people and programs read it."""

    classifier: Classifier

    @property
    def file(self) -> str:
        """Name of its JSON file."""
        return MODEL

    @property
    def doubts(self) -> tuple[Wording, ...]:
        """What the model's owner should doubt."""
        return doubts(self.classifier.fitted.labels)

    @property
    def importances(self) -> dict[str, float]:
        """How much each feature's points differ between customers, in logits; largest first."""
        fitted = self.classifier.fitted
        shapes = view(fitted.model, fitted.labels.sizes)
        found = {}
        for place, feature in enumerate(fitted.labels.space.features):
            part = shapes.parts[place]
            assert isinstance(part, Cells)
            spread = [fitted.labels.variance(place, column) for column in part.array.T / LOGIT]
            found[feature.name] = float(np.sqrt(np.mean(spread)))
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    @property
    def unused(self) -> tuple[str, ...]:
        """Features that have no points at all, unless none has."""
        fitted = self.classifier.fitted
        parts = view(fitted.model, fitted.labels.sizes).parts
        found = [
            feature.name
            for feature, part in zip(fitted.labels.space.features, parts, strict=True)
            if isinstance(part, Cells) and not part.array.any()
        ]
        return () if len(found) == len(parts) else tuple(found)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `kesit_privacy.model_file` reads the model back."""
        fitted, study = self.classifier.fitted, self.classifier.study
        target, judged = fitted.labels.target, self.classifier.judged
        return {
            "kesit_model": FORMAT,
            "notes": list(NOTES),
            "doubts": [words.as_dict() for words in self.doubts],
            "not_for": [words.as_dict() for words in NOT_FOR],
            "purpose": study.purpose,
            "legal_basis": study.legal_basis,
            "estimator": study.classifying.estimator,
            "target": target.feature.name,
            "classes": list(target.classes),
            "features": [plain(feature) for feature in fitted.labels.space.features],
            "labels": {
                name: words.as_dict()
                for name, words in labels(fitted.labels.space.features).items()
            },
            "model": fitted.model.params(),
            "spreads": [_rounded(spread) for spread in fitted.spreads],
            "cell_customers": [_rounded(sizes, 1) for sizes in fitted.labels.sizes],
            "customers": round(fitted.labels.customers, 1),
            "class_shares": _rounded(fitted.labels.shares),
            "evaluation": None if judged is None else judged.evaluation.as_dict(),
            "uplift": [] if judged is None else [found.told() for found in judged.uplift],
            "importances": {name: round(value, 4) for name, value in self.importances.items()},
        }


def model_card(classifier: Classifier) -> ModelCard:
    """The card of a trained classifier."""
    return ModelCard(classifier)


def _rounded(values: FloatArray, digits: int = 4) -> Any:
    return np.round(values, digits).tolist()
