"""Held-out customers whose chances are known: scores drawn from a population, and its metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from classifier_cases import classifier_study, levels, numeric
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import FloatArray, IntArray
from kesit_privacy.models import read_model
from kesit_privacy.queries import ScoreEvaluation
from kesit_privacy.scorecard import LOGIT, chances
from kesit_privacy.study import Study
from kesit_server.classification.judging.evaluation import evaluation_query
from kesit_server.classification.judging.expected import Expected
from kesit_server.classification.judging.ranking import area, average_precision
from kesit_server.sums import NoisySum

TWO = classifier_study([numeric("a"), levels("t", 2)], "t")
THREE = classifier_study([numeric("a"), levels("t", 3)], "t")
ARMS = classifier_study([numeric("a"), levels("t", 2), levels("arm", 2)], "t", arms="arm")

Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Population:
    """Customers of whom a share `base` is of the second class.

    Within a class the true log odds are Gaussian with variance `spread`, and so is what Bayes makes
    of them; a model gives them times `confidence` (1 is calibrated).
    """

    size: int
    base: float
    spread: float
    confidence: float = 1.0

    def draw(self, rng: np.random.Generator, size: int | None = None) -> tuple[IntArray, Truths]:
        """Points and truths of customers."""
        size = self.size if size is None else size
        truth = rng.random(size) < self.base
        odds = math.log(self.base / (1 - self.base)) + np.where(truth, 0.5, -0.5) * self.spread
        odds = odds + rng.normal(0, math.sqrt(self.spread), size)
        return np.rint(self.confidence * odds * LOGIT).astype(np.int64), truth

    @cached_property
    def expected(self) -> Expected:
        """What released values would say of it."""
        points, truth = self.draw(np.random.default_rng(1), 200_000)
        sides = tuple(points[side][:20_000, None] for side in (~truth, truth))
        return Expected(sides, self.size * np.array([1 - self.base, self.base]))

    def query(self, sigma: float, study: Study = TWO) -> ScoreEvaluation:
        """Its evaluation at that noise."""
        space = Embedding.of(study)
        model = read_model(space, 1, {"intercept": [0], "parts": [[[0], [0], [0]]]})
        return evaluation_query(study, model, self.expected, sigma)

    def released(self, query: ScoreEvaluation, sigma: float, rng: np.random.Generator) -> NoisySum:
        """The opened sum over customers who are drawn anew."""
        points, truth = self.draw(rng)
        return opened(count(query, points, truth), sigma, rng)

    def truths(self, query: ScoreEvaluation) -> dict[str, float]:
        """The metrics of all such customers, by two million of them."""
        points, truth = self.draw(np.random.default_rng(2), 2_000_000)
        own = truth[np.argsort(points, kind="stable")].astype(float)
        chosen = points >= self.expected.threshold
        hits, alarms = float((chosen & truth).mean()), float((chosen & ~truth).mean())
        misses, base = float((~chosen & truth).mean()), float(truth.mean())
        recall, specificity = hits / base, 1 - alarms / (1 - base)
        return {
            "auc": area(1 - own, own),
            "average_precision": float(average_precision(np.stack([1 - own, own], 1)[None])[0]),
            "f1": 2 * hits / (2 * hits + alarms + misses),
            "precision": hits / (hits + alarms),
            "recall": recall,
            "balanced_accuracy": (recall + specificity) / 2,
            "accuracy": 1 - alarms - misses,
            "base_rate": base,
            "slope": 1 / self.confidence,
            "intercept": 0.0,
        }


def count(query: ScoreEvaluation, points: IntArray, truth: Truths) -> FloatArray:
    """The exact sum of customers with these points, in customers."""
    cells = np.searchsorted(np.array(query.edges[0]), points, side="right")
    return np.bincount(2 * cells + truth, minlength=query.length).astype(float)


def opened(values: FloatArray, sigma: float, rng: np.random.Generator) -> NoisySum:
    """The sum with its noise."""
    return NoisySum("evaluation", values + rng.normal(0, sigma, len(values)), sigma, 5, 1)


@dataclass(frozen=True)
class Classes:
    """Customers of several classes, told apart by two Gaussian scores of unit variance.

    The model gives each class its true chance, times `confidence` in log odds.
    """

    size: int
    shares: tuple[float, ...]
    centres: tuple[tuple[float, float], ...]
    confidence: float = 1.0

    def draw(self, rng: np.random.Generator, size: int | None = None) -> tuple[IntArray, IntArray]:
        """Points (rows, classes) and true classes."""
        kinds = rng.choice(len(self.shares), self.size if size is None else size, p=self.shares)
        centres = np.array(self.centres)
        seen = centres[kinds] + rng.normal(0, 1, (len(kinds), 2))
        logits = np.log(self.shares) + seen @ centres.T - (centres**2).sum(axis=1) / 2
        logits = self.confidence * (logits - logits.mean(axis=1, keepdims=True))
        return np.rint(logits * LOGIT).astype(np.int64), kinds

    @cached_property
    def expected(self) -> Expected:
        """What released values would say of it."""
        points, kinds = self.draw(np.random.default_rng(1), 200_000)
        sides = tuple(points[kinds == kind][:20_000] for kind in range(len(self.shares)))
        return Expected(sides, self.size * np.array(self.shares))

    def query(self, sigma: float) -> ScoreEvaluation:
        """Its evaluation at that noise."""
        classes = len(self.shares)
        study = classifier_study([numeric("a"), levels("t", classes)], "t")
        nothing = {"intercept": [0] * classes, "parts": [[[0] * classes] * 3]}
        model = read_model(Embedding.of(study), classes, nothing)
        return evaluation_query(study, model, self.expected, sigma)

    def released(self, query: ScoreEvaluation, sigma: float, rng: np.random.Generator) -> NoisySum:
        """The opened sum over customers who are drawn anew."""
        points, kinds = self.draw(rng)
        scores, classes = chances(points), len(self.shares)
        each, confused = query.noise(1.0)
        parts = [
            np.bincount(
                2 * np.searchsorted(np.array(edges), scores[:, kind], side="right")
                + (kinds == kind),
                minlength=2 * (len(edges) + 1),
            )
            / each
            for kind, edges in enumerate(query.edges)
        ]
        pairs = np.bincount(kinds * classes + points.argmax(axis=1), minlength=classes**2)
        return opened(np.concatenate([*parts, pairs / confused]), sigma, rng)

    def truths(self) -> dict[str, float]:
        """The metrics of all such customers, by a million of them; "1 auc" is of class 1."""
        points, kinds = self.draw(np.random.default_rng(2), 1_000_000)
        scores, taken = chances(points), points.argmax(axis=1)
        found: dict[str, float] = {"accuracy": float((kinds == taken).mean())}
        names = ("auc", "average_precision", "recall")
        for kind in range(len(self.shares)):
            own = (kinds == kind)[np.argsort(scores[:, kind], kind="stable")].astype(float)
            hits = float(((kinds == kind) & (taken == kind)).sum())
            recall, precision = hits / float(own.sum()), hits / float((taken == kind).sum())
            ranked = average_precision(np.stack([1 - own, own], 1)[None])
            values = (area(1 - own, own), float(ranked[0]), recall, precision)
            found |= {
                f"{kind} {name}": value
                for name, value in zip((*names, "precision"), values, strict=True)
            }
            found[f"{kind} f1"] = 2 * precision * recall / (precision + recall)
            found[f"{kind} base_rate"] = float(own.mean())
        for name in names:
            mean = np.mean([found[f"{kind} {name}"] for kind in range(len(self.shares))])
            found["balanced_accuracy" if name == "recall" else name] = float(mean)
        return found
