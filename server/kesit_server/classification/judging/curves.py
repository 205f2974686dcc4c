"""AUC and average precision of a noisy score histogram, with their intervals."""

from __future__ import annotations

import numpy as np

from kesit_privacy.features import FloatArray
from kesit_server.classification.judging.expected import Inside
from kesit_server.classification.judging.metrics import UNTOLD, Metric, Z, ratio
from kesit_server.classification.judging.ranking import average_precision, nonnegative

UNSURE = 0.3
"""Standard deviation of a cell's customers, relative to what was expected."""

WIDEST_AREA = 0.3
"""Of 0 .. 1; chance alone is 0.5, so an interval of more than this says nothing."""


def auc(counts: FloatArray, noise: float, inside: Inside) -> Metric:
    """Area under the ROC curve.

    With H_ij the chance that one of the class in cell i scores higher than another in cell j (1, 0,
    or `inside.order` for i = j), A solves Σ_ij (H_ij - A)·n1_i·n0_j = 0, whose left side has mean 0
    at the true A: the noises of n1 and n0 are independent. Its variance at A is

        Σ_i u_i²·(n1_i + σ²) + Σ_j w_j²·(n0_j + σ²) + σ⁴·Σ_ij (H_ij - A)²

    with u = Σ_j (H_ij - A)·n0_j and w likewise: sampling (Poisson cells; DeLong et al. 1988 have
    the same terms), noise, and the product of the two noises. `metrics.ratio` inverts that test.

    Args:
        counts: (cells, 2) noisy customers, others and of the class, lowest scores first.
        noise: σ of each.
    """
    others, own = counts.T
    if min(others.sum(), own.sum()) <= 0:
        return UNTOLD  # two negative totals would have a positive product
    kernel = np.tril(np.ones((len(own), len(own))), -1) + np.diag(inside.order)
    clean = [nonnegative(column[None])[0] for column in (others, own)]
    spread = [column + noise**2 for column in clean]
    higher, lower = kernel @ clean[0], clean[1] @ kernel
    totals = clean[0].sum(), clean[1].sum()
    twice = noise**4
    constant = higher**2 @ spread[1] + lower**2 @ spread[0] + twice * (kernel**2).sum()
    linear = totals[0] * (higher @ spread[1]) + totals[1] * (lower @ spread[0])
    linear += twice * kernel.sum()
    square = totals[0] ** 2 * spread[1].sum() + totals[1] ** 2 * spread[0].sum()
    square += twice * kernel.size
    found = ratio(
        float(own @ kernel @ others),
        float(own.sum() * others.sum()),
        (float(constant), float(-2 * linear), float(square)),
    )
    return found.within(0, 1, WIDEST_AREA)


def precision(counts: FloatArray, noise: float, inside: Inside) -> Metric:
    """Average precision, by the delta method from a point near the truth.

    It has denominators that a noisy top cell can bring to 0, so it is not computed from the counts
    themselves but, with its slopes g, at counts c between what was seen and what was expected:
    value = AP(c) + Σ g·(seen - c), variance Σ g²·(c + σ²), for sampling (Poisson cells) and noise.
    """
    if not all(_told(column, noise) for column in counts.T):
        return UNTOLD
    point = near(counts, noise, inside)
    steps = np.maximum(point.ravel() / 4, 0.25)
    moves = np.diag(steps).reshape(-1, *point.shape)
    ahead, behind = average_precision(point + moves), average_precision(point - moves)
    slopes = ((ahead - behind) / (2 * steps)).reshape(point.shape)
    value = float(average_precision(point[None])[0] + (slopes * (counts - point)).sum())
    spread = Z * float(np.sqrt((slopes**2 * (point + noise**2)).sum()))
    value += inside.precision_lost
    return Metric(value, (value - spread, value + spread)).within(0, 1)


def near(counts: FloatArray, noise: float, inside: Inside) -> FloatArray:
    """Counts (cells, 2) > 0 near the true ones: seen and expected, each by its precision."""
    clean = np.stack([nonnegative(column[None])[0] for column in counts.T], axis=1)
    wanted = inside.sizes / inside.sizes.sum(axis=0) * clean.sum(axis=0)
    doubt = (UNSURE * wanted) ** 2
    seen = noise**2 + wanted + 1.0
    found: FloatArray = np.maximum((wanted * seen + clean * doubt) / (seen + doubt), 1.0)
    return found


def _told(column: FloatArray, noise: float) -> bool:
    """Whether a class's total is told from 0."""
    return bool(column.sum() > 2 * noise * len(column) ** 0.5)
