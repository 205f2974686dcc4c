"""The first sum of a classifier: how many customers there are, of which class, in which cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kesit_privacy.cells import cells_of
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import FloatArray, Numeric
from kesit_privacy.queries import LabelHistograms
from kesit_privacy.queries.labels import WEIGHT, WEIGHT_BITS
from kesit_privacy.study import Study
from kesit_privacy.target import Target
from kesit_server.classification.training.shapes import Posterior, shape
from kesit_server.sums import NoisySum

SMALLEST_SHARE = 0.005
"""No class is taken to be rarer than this, whatever the noise says."""


@dataclass(frozen=True)
class Labels:
    """Noisy label histograms, and what follows from them for nothing.

    Attributes:
        counts: for each feature (cells, classes) customers; may be negative.
        noise: (features,) standard deviation of each count.
        drawn: places of the features whose cells no sum counted: they are drawn from a mean and a
            variance, without noise of their own.
    """

    space: Embedding
    target: Target
    bins: int
    counts: list[FloatArray]
    noise: FloatArray
    drawn: frozenset[int] = frozenset()

    @classmethod
    def of(cls, query: LabelHistograms, opened: NoisySum) -> Labels:
        """The histograms of an opened sum."""
        counts = query.split(opened.values)
        return cls(query.space, query.target, query.bins, counts, opened.sigma / query.amplitudes)

    @cached_property
    def by_class(self) -> FloatArray:
        """Customers of each class, (classes,): every feature's own total, by its precision."""
        totals = np.array([count.sum(axis=0) for count in self.counts])
        precision = 1 / (self.noise**2 * [len(count) for count in self.counts])
        found: FloatArray = np.average(totals, axis=0, weights=precision)
        return found

    @cached_property
    def customers(self) -> float:
        """Training customers, at least 1."""
        return max(float(self.by_class.sum()), 1.0)

    @cached_property
    def shares(self) -> FloatArray:
        """Share of each class, (classes,): positive, and together 1."""
        found = np.maximum(self.by_class / self.customers, SMALLEST_SHARE)
        shares: FloatArray = found / found.sum()
        return shares

    @cached_property
    def sizes(self) -> list[FloatArray]:
        """Customers in each cell of each feature, (cells,), at least 0."""
        return [np.maximum(count.sum(axis=1), 0) for count in self.counts]

    def variance(self, feature: int, values: FloatArray) -> float:
        """Of one feature's values (cells,) over the customers."""
        weights = self.sizes[feature]
        total = max(float(weights.sum()), 1.0)
        mean = float(weights @ values) / total
        return float(weights @ (values - mean) ** 2) / total

    def centred(self, feature: int, values: FloatArray) -> FloatArray:
        """Values (cells,) of mean 0 over the customers."""
        weights = self.sizes[feature]
        return values - float(weights @ values) / max(float(weights.sum()), 1.0)

    def information(self, odds: list[FloatArray]) -> FloatArray:
        """How much each feature tells of the target by itself, (features,), in bits.

        Mutual information to second order, half of χ² over the customers: with the logits s_kc of
        `odds` it is Σ_c share_c·Var(s_kc) / 2 nats. Smoothed odds leave out what noise adds.

        Args:
            odds: for each feature (cells, classes), as `odds` gives them.
        """
        shares = self.shares
        found = [
            sum(
                share * self.variance(k, column * (1 - share))
                for share, column in zip(shares, values.T, strict=True)
            )
            for k, values in enumerate(odds)
        ]
        bits: FloatArray = np.array(found) / (2 * np.log(2))
        return bits

    def odds(self, feature: int, kind: int) -> Posterior:
        """Log odds of a class in each cell of a feature alone, over those of everybody."""
        share = float(self.shares[kind])
        counts, classes = self.counts[feature], len(self.shares)
        own = counts[:, kind]
        residual = (1 - share) * own - share * (counts.sum(axis=1) - own)
        noise = self.noise[feature] ** 2 * ((1 - share) ** 2 + (classes - 1) * share**2)
        curvature = self.sizes[feature] * share * (1 - share)
        ordered = isinstance(self.space.features[feature], Numeric)
        return shape(residual, curvature, float(noise), ordered=ordered)


def labels_query(study: Study, held: list[int]) -> LabelHistograms:
    """The query, with more weight for features of more cells: each cell holds fewer customers.

    Args:
        held: parts of customers who are not counted.
    """
    space = Embedding.of(study)
    bins = study.classifying.bins
    cells = np.array([cells_of(feature, bins) for feature in space.features], dtype=float)
    params = {
        "held": held,
        "bins": bins,
        "weights": whole_weights(cells**0.25),
    }
    return LabelHistograms.bind(study, params, scale_bits=SCALE)


SCALE = 2 * WEIGHT_BITS
"""Lattice of the classifier's queries: weights and chances are exact on it."""


def whole_weights(weights: FloatArray) -> list[int]:
    """Weights as a query's parameters: whole, at least 1, and together no longer than 1.

    Where no feature tells anything, all weigh alike.
    """
    weights = weights if weights.any() else np.ones(len(weights))
    room = np.sqrt(WEIGHT**2 - len(weights))
    return [max(1, int(weight)) for weight in room * weights / np.linalg.norm(weights)]
