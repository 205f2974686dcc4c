"""The first sum of logistic regression: how coordinates vary together, and with the classes.

Everything here is post-processing of one noisy sum. The noise on a symmetric matrix with
off-diagonals weighted by √2 looks the same along every axis (a Gaussian orthogonal ensemble), so
directions that can hold no customers are left out afterwards at no loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kesit_privacy.coordinates import ABSENT, BEND, LINE, MISSING, UNIT, Coordinates
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import Categorical, FloatArray, IntArray
from kesit_privacy.queries import SecondMoments
from kesit_privacy.queries.second_moments import CONSTANT
from kesit_privacy.study import Study
from kesit_privacy.target import Target
from kesit_server.classification.training.class_sums import ClassSums
from kesit_server.classification.training.labels import SMALLEST_SHARE
from kesit_server.sums import NoisySum

SCALE = 32
"""Lattice of logistic regression's queries: second moments are small beside their bound."""

SHARE = 50
"""Of Δ², in percent, for the second moments; the rest is for the classes' sums."""

CLEAR = 2.0
"""A level that is unknown, or a missing value, has a coefficient if its customers are this many
standard deviations of their noise, and `COMMON` of all."""

COMMON = 0.002

FEWEST = 20.0
"""No federation is taken for smaller, whatever the noise says."""

DOUBT = 0.5
"""Standard deviation of the declared size, in that size."""

LEAST_KEPT = 0.2
"""However much is damped between features, within them all of the noise is left."""

SMALLEST_ROOT = 1e-5
"""Least eigenvalue of the spread, in the largest."""

_ABSENT = ABSENT / UNIT


@dataclass(frozen=True)
class Gram:
    """What the first sum says, on a basis of the directions in which customers can differ.

    Attributes:
        customers: training customers; shares: (classes,) of them.
        basis: (coordinates, d) orthonormal; groups: for each feature, its places among the d.
        means: (d,) of the coordinates on the basis.
        spread: (d, d) Σ (x - mean)(x - mean)ᵀ, its noise damped; never flatter than its noise.
        told: (d, logits) Σ (y - share)·(x - mean).
        noise: standard deviation of an entry of the spread; told_noise: (logits,) of `told`.
        sums: (coordinates, classes) Σ x of each class, as they came; count_noise: of a count of
            customers whose coordinate is 1.
    """

    coordinates: Coordinates
    target: Target
    customers: float
    shares: FloatArray
    basis: FloatArray
    groups: tuple[IntArray, ...]
    means: FloatArray
    spread: FloatArray
    told: FloatArray
    noise: float
    told_noise: FloatArray
    sums: FloatArray
    count_noise: float

    @classmethod
    def of(cls, query: SecondMoments, opened: NoisySum, declared: float) -> Gram:
        """From an opened sum; `declared` training customers, of which the study speaks."""
        matrix, _ = query.split(opened.values)
        noise, _ = query.noise(opened.sigma)
        sums = ClassSums.of(query, opened)
        customers = _customers(float(sums.everybody[0]), sums.noise, declared)
        everybody = sums.everybody[1:]
        basis, groups = _basis(query.coordinates, everybody, customers, sums.noise)
        means = basis.T @ everybody / customers
        raw = basis.T @ matrix[1:, 1:] @ basis - customers * np.outer(means, means)
        spread, kept = _damped(raw, groups, noise)
        shares = np.maximum(sums.by_class[0] / customers, SMALLEST_SHARE)
        shares = shares / shares.sum()
        places = slice(1, None) if query.target.logits == 1 else slice(None)
        return cls(
            *(query.coordinates, query.target, customers, shares, basis, groups, means, spread),
            (basis.T @ sums.told(customers))[:, places],
            kept * noise / math.sqrt(2),
            sums.told_noise(shares)[places],
            sums.by_class[1:],
            sums.class_noise,
        )


def moments_query(study: Study, held: list[int]) -> SecondMoments:
    """The query, with a radius that few rows exceed.

    Args:
        held: parts of customers who are not counted.
    """
    coordinates = Coordinates(Embedding.of(study))
    params = {
        "held": held,
        "radius": math.isqrt(coordinates.typical_sq + CONSTANT**2) + 1,
        "share": SHARE,
    }
    return SecondMoments.bind(study, params, scale_bits=SCALE)


def _customers(counted: float, noise: float, declared: float) -> float:
    """Training customers: what was counted, and by its noise what was declared."""
    doubt = DOUBT * declared
    known = doubt**2 / (doubt**2 + noise**2)
    return max(known * counted + (1 - known) * declared, FEWEST)


def _basis(
    coordinates: Coordinates, sums: FloatArray, customers: float, noise: float
) -> tuple[FloatArray, tuple[IntArray, ...]]:
    """Directions in which customers can differ: (coordinates, d), and the places of each feature.

    Levels' coordinates add up to 0, so one direction of them is empty; absent values have a
    direction only if there are any.
    """
    columns: list[FloatArray] = []
    groups = []
    fewest = max(CLEAR * noise, COMMON * customers * _ABSENT)
    for feature, start in zip(coordinates.space.features, coordinates.offsets, strict=False):
        if isinstance(feature, Categorical):
            levels = len(feature.levels)
            inside = np.linalg.svd(np.eye(levels) - 1 / levels)[0][:, : levels - 1]
            own = [(start + np.arange(levels), column) for column in inside.T]
            absent = [start + feature.unknown, start + feature.missing]
        else:
            own = [(np.array([start + place]), np.ones(1)) for place in (LINE, BEND)]
            absent = [start + MISSING]
        own += [(np.array([place]), np.ones(1)) for place in absent if sums[place] > fewest]
        groups.append(np.arange(len(columns), len(columns) + len(own)))
        for places, values in own:
            column = np.zeros(coordinates.dimensions)
            column[places] = values
            columns.append(column)
    return np.stack(columns, axis=1), tuple(groups)


def _damped(
    raw: FloatArray, groups: tuple[IntArray, ...], noise: float
) -> tuple[FloatArray, float]:
    """The spread with less noise, and how much of the noise is left in it (0 .. 1).

    First a James-Stein factor on all entries between features (they are many and small; those
    within one are few). Then eigenvalues: one at λ above the noise's edge (Wigner) comes from
    about (λ + √(λ² - edge²))/2; those below are hidden, and are set to where they may be at most,
    so that no step along them is too long.
    """
    size = len(raw)
    between = np.ones((size, size), dtype=bool)
    for places in groups:
        between[np.ix_(places, places)] = False
    seen = float((raw[between] ** 2).sum())
    kept = max(0.0, 1 - noise**2 / 2 * int(between.sum()) / max(seen, 1e-12))
    roots, axes = np.linalg.eigh(np.where(between, kept * raw, raw))
    edge = max(kept, LEAST_KEPT) * noise * math.sqrt(size / 2)
    above = np.sqrt(np.maximum(roots**2 - 4 * edge**2, 0))
    roots = np.where(roots > 2 * edge, (roots + above) / 2, edge)
    roots = np.maximum(roots, SMALLEST_ROOT * float(roots.max()))
    return (axes * roots) @ axes.T, kept
