"""How good a simulated classifier is, for the researcher only.

Computed from the pooled rows of the customers whom training held out, and from their true labels.
They stand together in a simulation and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kesit_privacy.features import GRID, CodeArray, FloatArray, IntArray
from kesit_privacy.scorecard import CHANCE
from kesit_privacy.target import Side, Target
from kesit_server.classification.classifier import Classifier, Trained
from kesit_simulations.evaluation import NOTE


@dataclass(frozen=True)
class ModelEvaluation:
    """A federated classifier beside scikit-learn's logistic regression on the same rows.

    Attributes:
        rows: customers held out, of all clients together.
        auc, auc_pooled: area under the ROC curve on them (of more classes: mean of one against the
            rest), of the federated model and of LogisticRegression without privacy. With folds the
            mean over them, each model on the customers whom its own training left out.
        average_precision, average_precision_pooled: likewise.
    """

    rows: int
    auc: float
    auc_pooled: float
    average_precision: float
    average_precision_pooled: float
    note: str = NOTE

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)

    def text(self) -> str:
        """For a person, in a few sentences."""
        return "\n".join(
            [
                self.note,
                f"AUC {self.auc:.4f} on the {self.rows:,} customers held out; scikit-learn's"
                f" LogisticRegression without privacy {self.auc_pooled:.4f}.",
                f"Average precision {self.average_precision:.4f};"
                f" {self.average_precision_pooled:.4f}.",
            ]
        )


def evaluate_model(classifier: Classifier, codes: CodeArray) -> ModelEvaluation | None:
    """Compare a classifier with scikit-learn's on the pooled rows.

    Args:
        codes: (customers, `target.columns`), the rows of all clients.

    Returns:
        None if the rows held out, or those of training, are not of two classes at least.
    """
    target = Target.of(classifier.study)
    found = [_evaluate(fold, codes, target) for fold in classifier.folds]
    folds = [one for one in found if one is not None]
    if len(folds) < len(found) or not folds:
        return None

    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in folds]))

    return ModelEvaluation(
        sum(one.rows for one in folds),
        mean("auc"),
        mean("auc_pooled"),
        mean("average_precision"),
        mean("average_precision_pooled"),
    )


def _evaluate(fold: Trained, codes: CodeArray, target: Target) -> ModelEvaluation | None:
    """One model on the customers whom its training left out."""
    train, known = Side(*fold.held, inside=False).counted(codes, target)
    held, truth = Side(*fold.held, inside=True).counted(codes, target)
    classes = len(target.classes)
    if len(np.unique(truth)) < classes or len(np.unique(known)) < classes:
        return None
    own = fold.fitted.model.chances(held) / CHANCE
    space = fold.fitted.labels.space
    fill = tuple(GRID // 2 for _ in space.features)
    pooled = _logistic(space.expand(train, fill), known, space.expand(held, fill))
    (area, area_pooled), (precision, precision_pooled) = (
        _scores(measure, truth, own, pooled) for measure in _measures()
    )
    return ModelEvaluation(len(held), area, area_pooled, precision, precision_pooled)


def _logistic(rows: FloatArray, labels: IntArray, held: FloatArray) -> FloatArray:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a comparison
        model = LogisticRegression(max_iter=1000).fit(rows / GRID, labels)
    found: FloatArray = model.predict_proba(held / GRID)
    return found


def _measures() -> tuple[Callable[[Any, FloatArray], float], ...]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    return roc_auc_score, average_precision_score


def _scores(
    measure: Callable[[Any, FloatArray], float], truth: IntArray, *found: FloatArray
) -> list[float]:
    """The measure of each model's chances: of two classes the second's, else the mean of all."""
    two = found[0].shape[1] == 2
    kinds = [1] if two else range(found[0].shape[1])
    return [
        float(np.mean([measure(truth == kind, chances[:, kind]) for kind in kinds]))
        for chances in found
    ]
