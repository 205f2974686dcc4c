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

LARGEST_STEP = 1.5
"""Most that one sum may move the log odds, as a standard deviation over the customers."""

LARGEST_SHIFT = 1.0
"""Most that one sum may move the intercept."""

WIDEST = 5.0
"""Most that log odds are taken to spread over the customers (standard deviation)."""

FLATTEST = 0.3
"""Least mean curvature, in that of the class as a whole."""

MISFIT = 0.3
"""Relative error of the first sum's picture: rows are not Gaussian, and it looks from afar."""

INTERCEPT_ERROR = 0.3
"""Standard deviation of the picture's intercept, in log odds."""

FINEST = 1e-3
"""Noise is taken for at least this part of the curvature (that of sampling is all of it)."""

TURNS_FIRST, TURNS = 5, 2
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


class Learner:
    """The log odds of one class against the others (of the second class, if there are two)."""

    def __init__(self, gram: Gram, logit: int, share: float) -> None:
        self.gram = gram
        self.share = share
        self._told = np.concatenate([[0.0], gram.told[:, logit]])
        self._spread = np.zeros((len(self._told), len(self._told)))
        self._spread[1:, 1:] = gram.spread
        self._seen: list[Residuals] = []
        self._unknown = 0.0
        self.values = np.zeros(len(self._told))
        self.found = self._posterior(self.curvature())
        self.values = self.found.mean
        for _ in range(TURNS_FIRST - 1):
            self.found = self._posterior(self.curvature(bent=False))
            self.values = (self.values + self.found.mean) / 2
        self._hold()
        self.values[0] = self.curvature().intercept

    def learn(self, residuals: Residuals) -> None:
        """Take a sum of residuals in, and step."""
        self._seen.append(residuals)
        for _ in range(TURNS):
            self.found = self._posterior(self.curvature())
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

    def curvature(self, *, bent: bool = True) -> Curvature:
        """Of the coefficients as they are, if log odds were Gaussian.

        For x ~ N(0, S) and a weight w of x·β, E[w·x·xᵀ] = E[w]·S + E[w'']·Sβ·(Sβ)ᵀ and
        E[w·x] = E[w']·Sβ (Stein's lemma); the derivatives are taken along the standard normal.
        `bent = False` leaves all but the first term out.
        """
        customers, base = self.gram.customers, self.share * (1 - self.share)
        variance = self._variance()
        at = picture.intercept(variance, self.share)
        mean = float(picture.mean_curvature(np.array([at]), np.array([variance]))[0])
        mean = max(mean, FLATTEST * base)
        matrix = mean * self._spread
        matrix[0, 0] = customers * mean
        if bent and self._seen:
            along = self._spread @ self.values / customers / math.sqrt(variance)
            first, second = picture.bends(float(self.values[0]), variance)
            matrix[0] += customers * first * along
            matrix[:, 0] += customers * first * along
            matrix += customers * second * np.outer(along, along)
        return Curvature(matrix, mean, at)

    def _apart(self, at: FloatArray) -> float:
        """Mean squared distance of the coefficients, as far as they are known, from others."""
        moved = float(((self.values - at)[1:] ** 2).sum())
        return moved + self._unknown

    def _posterior(self, curvature: Curvature) -> Coefficients:
        precision, told = self._first(curvature)
        matrix = curvature.matrix
        for residuals in self._seen:
            rows = residuals.directions @ matrix
            own = np.einsum("ij,ij->i", rows, residuals.directions)
            variance = residuals.variance + FINEST * np.abs(own)
            # The spread's own noise matters by how far from there the coefficients may be.
            moved = self._apart(residuals.at)
            lengths = (residuals.directions**2).sum(axis=1)
            variance = variance + (curvature.mean * self.gram.noise) ** 2 * moved * lengths
            precision += rows.T @ (rows / variance[:, None])
            told += rows.T @ ((residuals.values + rows @ residuals.at) / variance)
        size = len(told)
        precision += 1e-9 * np.trace(precision) / size * np.eye(size)
        small = 1e-9 * self.gram.customers
        sampling = np.linalg.inv(matrix + small * np.eye(size)).astype(np.float64)
        found = posterior(precision, told, sampling, self.gram.groups)
        self._unknown = float(np.trace(found.covariance[1:, 1:]))
        return found

    def _first(self, curvature: Curvature) -> tuple[FloatArray, FloatArray]:
        """What the first sum adds to the normal equations."""
        flat = curvature.mean * self._spread
        length = self._apart(np.zeros(len(self.values)))
        variance = (
            self.gram.told_noise**2
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
