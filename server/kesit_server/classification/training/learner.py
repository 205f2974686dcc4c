"""One logit's coefficients: what each sum says of them, put together after every sum.

A sum of residuals at coefficients b says H·(β - b), H the curvature. The first sum is one at 0, so
all sums are rows of one linear system, each with its own noise; `coefficients.posterior` solves it.
H is the spread times the mean of p(1-p), which a Gaussian picture of the log odds gives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_server.classification.training import picture
from kesit_server.classification.training.coefficients import Coefficients, posterior
from kesit_server.classification.training.gram import Gram
from kesit_server.classification.training.within import Within

LARGEST_STEP = 1.5
"""Most that one sum may move the log odds, as a standard deviation over the customers."""

LARGEST_SHIFT = 1.0
"""Most that one sum may move the intercept."""

WIDEST = 5.0
"""Most that log odds are taken to spread over the customers (standard deviation)."""

FLATTEST = 0.3
"""Least mean curvature, in that of the class as a whole."""

MISFIT = 0.3
"""Relative error of the picture's curvature on the way from where a sum was asked for: rows are not
Gaussian. The farther the way, the less a sum is trusted; the first looks from afar."""

INTERCEPT_ERROR = 0.3
"""Standard deviation of the picture's intercept, in log odds."""

FINEST = 1e-3
"""Noise is taken for at least this part of the curvature (that of sampling is all of it)."""

TURNS_FIRST, TURNS = 6, 4
"""How often the curvature is taken anew after the first sum, and after each other."""


@dataclass(frozen=True)
class Residuals:
    """A sum of residuals along whitened directions.

    Attributes:
        values: (r,); variance: of the noise on each.
        at: (1 + d,) coefficients at which it was asked for.
        directions: (r, 1 + d) what each sums, of the constant and the centred coordinates.
    """

    values: FloatArray
    variance: float
    at: FloatArray
    directions: FloatArray


@dataclass(frozen=True)
class Curvature:
    """H (1 + d, 1 + d), its mean p(1-p), and the intercept that the picture gives."""

    matrix: FloatArray
    mean: float
    intercept: float


Odds = tuple[FloatArray, FloatArray]
"""Mean and variance of the log odds in each of a feature's cells."""


class Learner:
    """The log odds of one class against the others (of the second class, if there are two)."""

    def __init__(self, gram: Gram, within: tuple[Within, ...], logit: int, share: float) -> None:
        self.gram = gram
        self._within = within
        self.share = share
        self._told_noise = float(gram.told_noise[logit])
        self._told = np.concatenate([[0.0], gram.told[:, logit]])
        self._spread = np.zeros((len(self._told), len(self._told)))
        self._spread[1:, 1:] = gram.spread
        self._seen: list[tuple[Residuals, list[Odds]]] = []
        self._unknown = 0.0
        self.values = np.zeros(len(self._told))
        self.values[0] = math.log(share / (1 - share))
        self.found = self._posterior()
        self.values = self.found.mean
        for _ in range(TURNS_FIRST - 1):
            self.found = self._posterior()
            self.values = (self.values + self.found.mean) / 2
        self._hold()
        self.values[0] = self.curvature().intercept

    def learn(self, residuals: Residuals) -> None:
        """Take a sum of residuals in, and step."""
        self._seen.append((residuals, self._cells()))
        for _ in range(TURNS):
            self.found = self._posterior()
            step = self.found.mean - self.values
            length = math.sqrt(self._raw_variance(step))
            step *= min(1.0, LARGEST_STEP / max(length, 1e-9))
            step[0] = np.clip(step[0], -LARGEST_SHIFT, LARGEST_SHIFT)
            self.values = self.values + step
            self._hold()

    def _raw_variance(self, values: FloatArray) -> float:
        """Of the log odds with these coefficients, over the customers."""
        return max(float(values @ self._spread @ values) / self.gram.customers, 1e-9)

    def _variance(self) -> float:
        """The same of the coefficients as they are, held in what is believable."""
        return min(self._raw_variance(self.values), WIDEST**2)

    def _hold(self) -> None:
        """Shorten coefficients whose log odds spread farther than `WIDEST`."""
        self.values[1:] *= min(1.0, WIDEST / math.sqrt(self._raw_variance(self.values)))

    def curvature(self) -> Curvature:
        """Of the coefficients as they are, if log odds were Gaussian in every cell of a feature."""
        mean, at = self._mean()
        weights = [picture.mean_curvature(*cells) for cells in self._cells()]
        return Curvature(self._matrix(weights, mean), mean, at)

    def _mean(self) -> tuple[float, float]:
        """Mean p(1-p) over all customers, and the intercept that the picture gives."""
        variance = self._variance()
        at = picture.intercept(variance, self.share)
        mean = float(picture.mean_curvature(np.array([at]), np.array([variance]))[0])
        return max(mean, FLATTEST * self.share * (1 - self.share)), at

    def _cells(self) -> list[Odds]:
        """Log odds in the cells of each feature, by the coefficients as they are."""
        along = self.gram.spread @ self.values[1:]
        total = self._variance() * self.gram.customers
        along *= math.sqrt(min(1.0, total / max(float(along @ self.values[1:]), 1e-9)))
        at = float(self.values[0])
        return [own.log_odds(self.gram.spread, along, at, total) for own in self._within]

    def _matrix(self, weights: list[FloatArray], mean: float) -> FloatArray:
        """Curvature (1 + d, 1 + d) with these p(1-p) in the features' cells, as `mean` on average.

        Within a feature it is that of its cells; between features they are stretched alike.
        """
        matrix = np.zeros(self._spread.shape)
        matrix[0, 0] = self.gram.customers * mean
        stretch = np.zeros(self.gram.spread.shape)
        for own, raw in zip(self._within, weights, strict=True):
            places, held = own.places, np.maximum(raw, FLATTEST * mean)
            if len(places):
                stretch[np.ix_(places, places)] = own.stretch(held, mean, self.gram.noise)
                matrix[0, 1 + places] = matrix[1 + places, 0] = own.tilt(held, mean)
        matrix[1:, 1:] = stretch @ self.gram.spread @ stretch.T
        return matrix

    def _between(self, before: list[Odds], mean: float) -> FloatArray:
        """The curvature on the way from other log odds to those of now: two gradients' difference.

        At either end it may be many times smaller or larger.
        """
        weights = [
            picture.secant(then, now, (spread + rest) / 2)
            for (then, spread), (now, rest) in zip(before, self._cells(), strict=True)
        ]
        return self._matrix(weights, mean)

    def _apart(self, at: FloatArray) -> float:
        """Mean squared distance of the coefficients, as far as they are known, from others."""
        moved = float(((self.values - at)[1:] ** 2).sum())
        return moved + self._unknown

    def _posterior(self) -> Coefficients:
        curvature = self.curvature()
        precision, told = self._first(curvature)
        for residuals, before in self._seen:
            rows = residuals.directions @ self._between(before, curvature.mean)
            own = np.einsum("ij,ij->i", rows, residuals.directions)
            variance = residuals.variance + FINEST * np.abs(own)
            variance = variance + (MISFIT * (rows @ (self.values - residuals.at))) ** 2
            # The spread's own noise matters by how far from there the coefficients may be.
            moved = self._apart(residuals.at)
            lengths = (residuals.directions**2).sum(axis=1)
            variance = variance + (curvature.mean * self.gram.noise) ** 2 * moved * lengths
            precision += rows.T @ (rows / variance[:, None])
            told += rows.T @ ((residuals.values + rows @ residuals.at) / variance)
        size = len(told)
        precision += 1e-9 * np.trace(precision) / size * np.eye(size)
        small = 1e-9 * self.gram.customers
        sampling = np.linalg.inv(curvature.matrix + small * np.eye(size)).astype(np.float64)
        found = posterior(precision, told, sampling, self.gram.groups)
        self._unknown = float(np.trace(found.covariance[1:, 1:]))
        return found

    def _first(self, curvature: Curvature) -> tuple[FloatArray, FloatArray]:
        """What the first sum adds to the normal equations."""
        # From a cell that says nothing, by what all else leaves open in it, to what it says.
        even = [(np.full(len(now), self.values[0]), rest) for now, rest in self._cells()]
        flat = self._between(even, curvature.mean)
        flat[0] = flat[:, 0] = 0.0
        length = self._apart(np.zeros(len(self.values)))
        variance = (
            self._told_noise**2
            + (curvature.mean * self.gram.noise) ** 2 * length
            + (MISFIT * (flat @ self.values)) ** 2
            + FINEST * np.diag(flat)
        )
        variance[0] = 1.0
        precision = flat @ (flat / variance[:, None])
        told = flat @ (self._told / variance)
        precision[0, 0] += INTERCEPT_ERROR**-2
        told[0] += curvature.intercept * INTERCEPT_ERROR**-2
        return precision, told
