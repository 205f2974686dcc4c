"""What an evaluation found, in the order in which a person should read it, in two languages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kesit_server import wording
from kesit_server.classification.judging.calibration import Calibration
from kesit_server.classification.judging.metrics import NOBODY, ONE_CLASS, Metric, untold
from kesit_server.classification.judging.uplift import Uplift
from kesit_server.wording import Language, Wording

USUAL = ("auc", "average_precision", "f1", "precision", "recall", "balanced_accuracy", "accuracy")
RARE_FIRST = (
    *("recall", "average_precision", "precision", "f1", "auc"),
    *("balanced_accuracy", "accuracy"),
)
"""Where the class is rare, what is found of it comes first, and accuracy, which "nobody" would
have, too, comes last."""


_WORDS = {
    "auc": Wording("AUC", "AUC"),
    "average_precision": Wording("average precision", "ortalama kesinlik"),
    "f1": Wording("F1", "F1"),
    "precision": Wording("precision", "kesinlik"),
    "recall": Wording("recall", "duyarlılık"),
    "balanced_accuracy": Wording("balanced accuracy", "dengeli doğruluk"),
    "accuracy": Wording("accuracy", "doğruluk"),
    "customers": Wording("customers held out", "eğitim dışı tutulan müşteri"),
    "folds": Wording(
        "models of cross-validation, each judged by customers whom its training left out",
        "çapraz doğrulama modeli, her biri kendi eğitiminin saymadığı müşterilerle ölçüldü",
    ),
    "base": Wording("share of {class}", "{class} payı"),
    "threshold": Wording(
        "predicted from a chance of {chance}", "{chance} olasılıktan itibaren öngörülür"
    ),
    "rare": Wording(
        "rare: how many of them are found says more than accuracy, which predicting nobody would"
        " have, too",
        "seyrek: ne kadarının bulunduğu, hiç kimseyi öngörmemenin de sağlayacağı doğruluktan daha"
        " çok şey söyler",
    ),
    "error": Wording("calibration error", "kalibrasyon hatası"),
    "slope": Wording("calibration slope (1 is perfect)", "kalibrasyon eğimi (1 kusursuz)"),
    "intercept": Wording("calibration intercept (0 is perfect)", "kalibrasyon sabiti (0 kusursuz)"),
    "intervals": Wording(
        "Intervals hold the true value with 95 %, over sampling and noise.",
        "Aralıklar, örnekleme ve gürültü dahil, gerçek değeri %95 olasılıkla içerir.",
    ),
}


@dataclass(frozen=True)
class ModelEvaluation:
    """The opened evaluation sum, read.

    Attributes:
        classes: their names; of two the metrics are of the second.
        customers: held out, with a known class; its interval is over the noise alone.
        base_rates: (classes,) share of each class.
        rare: whether the second of two classes is.
        threshold: chance from which the second of two classes is predicted; None for more classes,
            where the likeliest is.
        metrics: by name, the most important first. Of more than two classes `auc` and
            `average_precision` are means over one class against the rest, with intervals for any
            dependence.
        confusion: (true, predicted) held-out customers, over the noise alone.
        calibration: of each class against the rest; of two classes of the second alone.
        by_class: for each of more than two classes its metrics against the rest.
        folds: with cross-validation, of how many models these are the means, each over customers
            whom its own training left out. Of counts it is the sum, and the table of calibration
            has all bars. 0 without folds.
    """

    classes: tuple[str, ...]
    customers: Metric
    base_rates: tuple[Metric, ...]
    rare: bool
    threshold: float | None
    metrics: dict[str, Metric]
    confusion: tuple[tuple[Metric, ...], ...]
    calibration: tuple[Calibration, ...]
    by_class: tuple[dict[str, Metric], ...] = ()
    folds: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        two = len(self.classes) == 2
        found = {
            **({"folds": self.folds} if self.folds else {}),
            "customers": self.customers.as_dict(),
            "base_rates": _named(self.classes, self.base_rates),
            "rare": self.rare,
            "threshold": None if self.threshold is None else float(f"{self.threshold:.4g}"),
            "metrics": _plain(self.metrics),
            "confusion": {
                name: _named(self.classes, line)
                for name, line in zip(self.classes, self.confusion, strict=True)
            },
        }
        if two:
            return found | {"calibration": self.calibration[0].as_dict()}
        kinds = zip(self.classes, self.by_class, self.calibration, strict=True)
        return found | {
            "by_class": {
                name: {**_plain(metrics), "calibration": agreement.as_dict()}
                for name, metrics, agreement in kinds
            }
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ModelEvaluation:
        """Read `as_dict` back.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is none.
        """
        classes = tuple(plain["base_rates"])
        more = plain.get("by_class")
        agreements = (
            [plain["calibration"]]
            if more is None
            else [more[name]["calibration"] for name in classes]
        )
        return cls(
            classes,
            Metric.from_dict(plain["customers"]),
            tuple(Metric.from_dict(plain["base_rates"][name]) for name in classes),
            bool(plain["rare"]),
            None if plain["threshold"] is None else float(plain["threshold"]),
            _read(plain["metrics"]),
            tuple(
                tuple(Metric.from_dict(plain["confusion"][true][told]) for told in classes)
                for true in classes
            ),
            tuple(Calibration.from_dict(found) for found in agreements),
            ()
            if more is None
            else tuple(
                _read({n: m for n, m in more[name].items() if n != "calibration"})
                for name in classes
            ),
            int(plain.get("folds", 0)),
        )

    def where_seen(self, seen: NDArray[np.bool_]) -> ModelEvaluation:
        """The same, saying why nothing can be told where nobody was counted.

        Args:
            seen: (classes,) whether held-out customers of the class are told from none.
        """
        if seen.all():
            return self
        if not seen.any():
            bases = tuple(untold(metric, NOBODY) for metric in self.base_rates)
            return replace(self._without(NOBODY, lambda kind: True), base_rates=bases)
        metrics = {
            n: m if n == "accuracy" else untold(m, ONE_CLASS) for n, m in self.metrics.items()
        }
        two = len(seen) == 2
        found = self._without(ONE_CLASS, lambda kind: two or not seen[kind])
        return replace(found, metrics=metrics)

    def _without(self, reason: Wording, gone: Callable[[int], bool]) -> ModelEvaluation:
        return replace(
            self,
            metrics={name: untold(metric, reason) for name, metric in self.metrics.items()},
            calibration=tuple(
                found.without(reason) if gone(kind) else found
                for kind, found in enumerate(self.calibration)
            ),
            by_class=tuple(
                {n: untold(m, reason) for n, m in found.items()} if gone(kind) else found
                for kind, found in enumerate(self.by_class)
            ),
        )

    def text(self, language: Language = "en") -> str:
        """For a person, a line for each metric, the most important first."""
        lines = [_line("customers", self.customers.text(language, None), language)]
        if self.folds:
            lines.append(_line("folds", str(self.folds), language))
        for name, base in zip(self.classes, self.base_rates, strict=True):
            share = _WORDS["base"].of(language).replace("{class}", name)
            lines.append(f"  {share}: {base.text(language)}")
        if self.rare:
            lines.append(f"  {self.classes[1]}: {_WORDS['rare'].of(language)}")
        if self.threshold is not None:
            chance = wording.percent(self.threshold, language)
            chosen = _WORDS["threshold"].of(language).replace("{chance}", chance)
            lines.append(f"  {self.classes[1]}: {chosen}")
        lines += [_line(name, m.text(language), language) for name, m in self.metrics.items()]
        for name, found in zip(self.classes, self.by_class, strict=False):
            lines.append(f"  {name}")
            lines += [f"  {_line(n, m.text(language), language)}" for n, m in found.items()]
        if not self.by_class:
            [told] = self.calibration
            agreement = {"error": told.error, "slope": told.slope, "intercept": told.intercept}
            lines += [_line(n, m.text(language), language) for n, m in agreement.items()]
        return "\n".join([*lines, f"  {_WORDS['intervals'].of(language)}"])


@dataclass(frozen=True)
class Judged:
    """What evaluation tells: metrics, and for a study with arms what choosing gains."""

    evaluation: ModelEvaluation
    uplift: tuple[Uplift, ...] = ()


def _line(name: str, told: str, language: Language) -> str:
    return f"  {_WORDS[name].of(language)}: {told}"


def _plain(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: metric.as_dict() for name, metric in metrics.items()}


def _named(classes: tuple[str, ...], metrics: tuple[Metric, ...]) -> dict[str, Any]:
    return {name: metric.as_dict() for name, metric in zip(classes, metrics, strict=True)}


def _read(metrics: Mapping[str, Any]) -> dict[str, Metric]:
    return {name: Metric.from_dict(plain) for name, plain in metrics.items() if name in _WORDS}
