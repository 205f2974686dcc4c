"""What released values say of held-out scores before they are counted: where to cut them.

Synthetic customers are drawn from the label histograms and scored by the released model. Their
scores place the edges of the evaluation's cells and the threshold, and say what a cell looks like
inside; how good the model is, the evaluation alone says. It touches released values only, so it
costs no privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, Categorical, CodeArray, Feature, FloatArray, IntArray
from kesit_privacy.models import Model
from kesit_privacy.scorecard import CHANCE, LOGIT, chances
from kesit_privacy.study import Study
from kesit_privacy.target import columns
from kesit_server.classification.judging.ranking import area, average_precision, nonnegative
from kesit_server.classification.judging.released import Released
from kesit_server.classification.training.labels import Labels
from kesit_server.classification.training.picture import sigmoid

DRAWS = 20_000
"""Synthetic customers of each class."""

CELLS = (6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of cells that a score may be cut into."""

FILLED = 5
"""Customers of the rarer class that a cell should have on average."""

TRIALS = 200

FEARED = 0.5
"""Part of the ties' loss that is feared to remain: the model's word on cells' insides mends it."""


@dataclass(frozen=True)
class Inside:
    """Cells of one score, as they are expected to be.

    Attributes:
        edges: (cells - 1,); chances: (cells,) mean chance that the model gives the class.
        sizes: (cells, 2) customers, others and of the class.
        order: (cells,) chance that of two customers of a cell, one of the class and one other, the
            first has the higher score (half for equal ones).
        variance: of the AUC, for noise of variance 1 on each count.
        lost, precision_lost: AUC and average precision that go if scores of a cell count as equal.
    """

    edges: tuple[int, ...]
    chances: FloatArray
    sizes: FloatArray
    order: FloatArray
    variance: float
    lost: float
    precision_lost: float


@dataclass(frozen=True)
class Score:
    """The expected distribution of one score.

    Attributes:
        values: (n,) increasing scores; chances: (n,) that the model gives with them.
        others, own: (n,) customers with each value, not of the class and of it.
    """

    values: FloatArray
    chances: FloatArray
    others: FloatArray
    own: FloatArray

    @classmethod
    def of(cls, values: FloatArray, weights: FloatArray, own: FloatArray, *, points: bool) -> Score:
        """From (rows,) scores, how many customers each stands for, and whether of the class.

        Half of the classes is taken from the rows and half from the model's chances: features are
        drawn as if independent within a class, which parts the classes too well, and a model may be
        too sure of itself; their mean was near the truth on three sets of data.
        """
        unique, place = np.unique(values, return_inverse=True)
        told = sigmoid(unique / LOGIT) if points else unique / CHANCE
        every = np.bincount(place, weights, len(unique))
        mine = (np.bincount(place, weights * own, len(unique)) + told * every) / 2
        return cls(unique, told, np.maximum(every - mine, 0), mine)

    def even(self, cells: int) -> IntArray:
        """Edges that divide the mean of the two classes' distributions evenly."""
        mass = self.others / self.others.sum() + self.own / self.own.sum()
        places = np.searchsorted(np.cumsum(mass) / mass.sum(), np.arange(1, cells) / cells)
        edges: IntArray = np.rint(self.values[np.minimum(places, len(mass) - 1)]).astype(np.int64)
        return edges

    def inside(self, edges: tuple[int, ...]) -> Inside:
        """What is expected between these edges."""
        where = np.searchsorted(np.array(edges), self.values, side="right")

        def summed(values: FloatArray) -> FloatArray:
            return np.bincount(where, values, len(edges) + 1).astype(np.float64)

        others, own = summed(self.others), summed(self.own)
        sizes, fine = others + own, np.cumsum(self.others) - self.others / 2
        filled = np.maximum(sizes, 1e-9)
        means = summed(self.chances * (self.others + self.own)) / filled
        nearest = np.interp(np.array([edges[0], *edges], dtype=float), self.values, self.chances)
        means = np.where(sizes > 1e-9, means, nearest)
        won = summed(self.own * fine) - own * (np.cumsum(others) - others)
        pairs = own * others
        order = np.where(pairs > 1e-9, won / np.maximum(pairs, 1e-9), 0.5)
        coarse = area(others, own)
        ranks = (
            (np.cumsum(others) - others / 2) / others.sum() - coarse,
            (1 - (np.cumsum(own) - own / 2) / own.sum() - coarse),
        )
        variance = ranks[0] @ ranks[0] / own.sum() ** 2 + ranks[1] @ ranks[1] / others.sum() ** 2
        precise, flat = (
            float(average_precision(np.stack(pair, axis=1)[None])[0])
            for pair in ((self.others, self.own), (others, own))
        )
        return Inside(
            edges,
            means,
            np.stack([others, own], axis=1),
            np.clip(order, 0.5, 1),
            float(variance),
            max(area(self.others, self.own) - coarse, 0.0),
            max(precise - flat, 0.0),
        )


@dataclass(frozen=True)
class Expected:
    """Scores that held-out customers are expected to have.

    Attributes:
        points: for each true class (draws, logits) points.
        sizes: (classes,) expected held-out customers.
        given: the study's threshold, a chance, or None.
    """

    points: tuple[IntArray, ...]
    sizes: FloatArray
    given: float | None = None

    @classmethod
    def of(cls, study: Study, labels: Labels, model: Model, held: float) -> Expected:
        """From the first sum and a model, whatever kind it is: synthetic rows are scored.

        Args:
            held: share of the customers that is held out.
        """
        rng = np.random.default_rng(0)  # the same released values cut the same cells
        codes = [_customers(study, labels, kind, rng) for kind in range(len(labels.shares))]
        points = tuple(model.points(rows) for rows in codes)
        sizes = np.maximum(labels.by_class, 1) * held / (1 - held)
        return cls(points, sizes, study.classifying.threshold)

    @classmethod
    def of_released(cls, study: Study, released: Released) -> Expected:
        """From a model file alone: customers like those of its training, told apart by its chances.

        The file has no cells by class. Features are drawn as if independent, and of the rows each
        class has those that the model gives it.
        """
        rng = np.random.default_rng(0)  # the same released values cut the same cells
        codes = np.zeros((DRAWS, columns(study)), dtype=np.int16)
        space = Embedding.of(study)
        for feature, column, sizes in zip(
            space.features, space.columns, released.cells, strict=True
        ):
            shares = (sizes + 1e-9) / (sizes + 1e-9).sum()
            cells = rng.choice(len(shares), DRAWS, p=shares)
            codes[:, column] = _centres(feature, len(shares))[cells]
        every, given = released.model.points(codes), released.model.chances(codes) / CHANCE
        drawn = [
            rng.choice(DRAWS, DRAWS, p=(chance + 1e-9) / (chance + 1e-9).sum())
            for chance in given.T
        ]
        threshold = study.classifying.threshold or released.threshold
        sizes = study.declared_customers * released.shares
        return cls(tuple(every[rows] for rows in drawn), sizes, threshold)

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """Of each score of the query: points of two classes, chances in 2^-14 of more."""
        label = np.repeat(np.arange(len(self.points)), [len(rows) for rows in self.points])
        weights = np.concatenate(
            [np.full(len(p), n / len(p)) for p, n in zip(self.points, self.sizes, strict=True)]
        )
        every = np.concatenate(self.points)
        if len(self.points) == 2:
            return (Score.of(every[:, 0].astype(float), weights, label == 1, points=True),)
        return tuple(
            Score.of(values.astype(float), weights, label == kind, points=False)
            for kind, values in enumerate(chances(every).T)
        )

    @cached_property
    def threshold(self) -> int:
        """Points from which the second of two classes is predicted: where F1 is expected best."""
        if self.given is not None:
            return round(LOGIT * math.log(self.given / (1 - self.given)))
        [score] = self.scores
        hits = np.cumsum(score.own[::-1])[::-1]
        chosen = np.cumsum((score.own + score.others)[::-1])[::-1]
        return int(score.values[np.argmax(2 * hits / (chosen + score.own.sum()))])

    def edges(self, score: int, noise: float) -> list[int]:
        """Edges of one score's cells, and how many: even in the classes' mean distribution.

        Noise σ on K cells gives the AUC a variance of about σ²·K·v: an error in a cell's count
        weighs as much as the cell's rank is from the mean. Ties within cells lose about B/K². The
        sum of variance and squared loss is least at K = (4B²/(v·σ²))^(1/5): few cells where the
        noise is large. Average precision has the same trade-off with other numbers, so B and v are
        not guessed: each K is tried on the expected distribution, and both metrics count.
        """
        least = float(min(self.scores[score].own.sum(), self.scores[score].others.sum()))
        tried = [cells for cells in CELLS if cells <= max(CELLS[0], least / FILLED)]
        found = [self.inside(score, self._even(score, cells)) for cells in tried]
        return list(min(found, key=lambda inside: _loss(inside, noise)).edges)

    def inside(self, score: int, edges: tuple[int, ...]) -> Inside:
        """What the cells between these edges are expected to look like."""
        return self.scores[score].inside(edges)

    def _even(self, score: int, cells: int) -> tuple[int, ...]:
        edges = self.scores[score].even(cells)
        if len(self.points) > 2:
            edges = np.clip(edges, 1, CHANCE)
        else:
            edges[np.argmin(np.abs(edges - self.threshold))] = self.threshold  # an edge, exactly
        return tuple(np.unique(edges).tolist())


def _loss(inside: Inside, noise: float) -> float:
    """Expected squared error of AUC and average precision through noise and ties."""
    rng = np.random.default_rng(0)  # the same noise for each number of cells
    drawn = inside.sizes + rng.normal(0, noise, (TRIALS, *inside.sizes.shape))
    clean = np.stack([nonnegative(drawn[:, :, kind]) for kind in (0, 1)], axis=2)
    spread = float(average_precision(clean).var()) + inside.variance * noise**2
    return spread + FEARED**2 * (inside.lost**2 + inside.precision_lost**2)


def _customers(study: Study, labels: Labels, kind: int, rng: np.random.Generator) -> CodeArray:
    """Synthetic customers of a class, (draws, columns)."""
    codes = np.zeros((DRAWS, columns(study)), dtype=np.int16)
    space = labels.space
    for place, (feature, column) in enumerate(zip(space.features, space.columns, strict=True)):
        shares = nonnegative(labels.counts[place][None, :, kind])[0]
        shares = shares + 1e-9  # nobody of the class told from noise: anywhere
        cells = rng.choice(len(shares), DRAWS, p=shares / shares.sum())
        codes[:, column] = _centres(feature, len(shares))[cells]
    return codes


def _centres(feature: Feature, cells: int) -> IntArray:
    """A code in each cell of a feature."""
    if isinstance(feature, Categorical):
        return np.arange(cells)
    bins = cells - 1
    return np.append((2 * np.arange(bins) + 1) * GRID // (2 * bins), -1)
