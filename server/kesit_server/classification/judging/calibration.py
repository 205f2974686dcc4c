"""Calibration: whether customers to whom a model gives a chance of p have the outcome at rate p."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from kesit_privacy.features import FloatArray, IntArray
from kesit_server.classification.judging.curves import near
from kesit_server.classification.judging.expected import Inside
from kesit_server.classification.judging.metrics import UNTOLD, Metric, Z, count, share, untold
from kesit_server.classification.judging.ranking import nonnegative
from kesit_server.wording import Wording

CLEAR = 8.0
"""A bar of the reliability table has expected customers of so many standard deviations of noise."""

MOST_BARS = 10
STEPS = 100

NEARLY_GAUSSIAN = 1e4
"""A noncentral χ² as large as this is taken for a Gaussian of variance 4λ."""

WIDEST_ERROR = 0.25
WIDEST_SLOPE = 2.0
WIDEST_INTERCEPT = 2.0
"""With a wider interval an error, a slope or an intercept (log odds) says nothing."""


@dataclass(frozen=True)
class Bar:
    """Neighbouring cells of the score: chances given, and the rate seen.

    Attributes:
        predicted: mean chance that the model gives customers there.
    """

    predicted: float
    customers: Metric
    observed: Metric

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "predicted": float(f"{self.predicted:.4g}"),
            "customers": self.customers.as_dict(),
            "observed": self.observed.as_dict(),
        }


@dataclass(frozen=True)
class Calibration:
    """How chances and rates agree.

    Attributes:
        bars: the reliability table, lowest chances first.
        error: expected calibration error in the squared norm, √(Σ share·(rate - chance)²) over the
            bars.
        slope, intercept: of the true log odds as a line in the model's (Cox 1958): 1 and 0 are
            perfect; a slope below 1 is an overconfident model.
    """

    bars: tuple[Bar, ...]
    error: Metric
    slope: Metric
    intercept: Metric

    def without(self, reason: Wording) -> Calibration:
        """No numbers, for that reason."""
        return Calibration(
            (), *(untold(m, reason) for m in (self.error, self.slope, self.intercept))
        )

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Calibration:
        """Read `as_dict` back.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        bars = tuple(
            Bar(
                float(bar["predicted"]),
                *(Metric.from_dict(bar[n]) for n in ("customers", "observed")),
            )
            for bar in plain["reliability"]
        )
        return cls(bars, *(Metric.from_dict(plain[n]) for n in ("error", "slope", "intercept")))

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "error": self.error.as_dict(),
            "slope": self.slope.as_dict(),
            "intercept": self.intercept.as_dict(),
            "reliability": [bar.as_dict() for bar in self.bars],
        }


def calibration(counts: FloatArray, noise: float, inside: Inside) -> Calibration:
    """Of noisy customers (cells, 2), others and of the class, with noise σ each.

    What the model gives on average in a cell is taken from the expected scores (`Inside.chances`):
    the sum counts scores, it does not add them up.
    """
    groups = _groups(inside.sizes.sum(axis=1), noise)
    starts = np.array([group[0] for group in groups])
    cells = near(counts, noise, inside).sum(axis=1)
    sizes = np.add.reduceat(cells, starts)
    predicted = np.add.reduceat(inside.chances * cells, starts) / sizes
    blurs = noise * np.sqrt([len(group) for group in groups])
    bars = [
        Bar(
            float(chance),
            count(float(others + own), float(blur) * math.sqrt(2)),
            share(float(own), float(others), float(blur), float(blur)),
        )
        for (others, own), chance, blur in zip(
            np.add.reduceat(counts, starts), predicted, blurs, strict=True
        )
    ]
    slope, intercept = _line(counts, noise, inside)
    return Calibration(
        tuple(bars), _error(counts, noise, inside.chances, starts, sizes), slope, intercept
    )


def _groups(sizes: FloatArray, noise: float) -> list[range]:
    """Neighbouring cells, joined until each group stands clear of its noise."""
    least = max(float(sizes.sum()) / MOST_BARS, 1.0)
    found, start = [], 0
    for end in range(1, len(sizes) + 1):
        clear = CLEAR * noise * math.sqrt(2 * (end - start))
        if sizes[start:end].sum() >= max(least, clear):
            found.append(range(start, end))
            start = end
    if start < len(sizes):  # the rest joins the last
        found = [*found[:-1], range(found[-1].start if found else 0, len(sizes))]
    return found


def _error(
    counts: FloatArray, noise: float, chances: FloatArray, starts: IntArray, sizes: FloatArray
) -> Metric:
    """√(Σ d_g²/(n_g·N)) with d_g the bar's Σ (own - chance·n), without what noise and sampling add.

    E d² is the true square plus τ² (Kumar et al. 2019 subtract it, too; absolute values cannot be
    mended so). Σ d²/n, over a scale t, is nearly a noncentral χ² with f degrees of freedom and a
    noncentrality of the true sum over t, where t and f match mean and variance of no miscalibration
    (Satterthwaite 1946): t = Σ v²/Σ v, f = (Σ v)²/Σ v², v = τ²/n. The interval is every
    noncentrality that does not make what was seen too small or too large.

    Args:
        starts: (bars,) first cell of each; sizes: (bars,) n_g, near the true ones: a noisy small n
            would blow up.
    """
    others, own = counts.T
    total = float(counts.sum())
    if total <= 0:
        return UNTOLD
    off = np.add.reduceat((1 - chances) * own - chances * others, starts)
    rate = np.add.reduceat(chances**2 + (1 - chances) ** 2, starts)
    mean = np.add.reduceat(chances * np.maximum(counts.sum(axis=1), 0), starts) / sizes
    mean = np.clip(mean, 0.001, 0.999)
    spread = (sizes * mean * (1 - mean) + noise**2 * rate) / sizes
    scale = float((spread**2).sum() / spread.sum())
    freedom = float(spread.sum()) / scale
    found = float((off**2 / sizes).sum()) / scale
    ends = (_noncentrality(found, freedom, level) for level in (0.975, 0.025))
    low, value, high = (
        math.sqrt(s * scale / total) for s in sorted((max(found - freedom, 0.0), *ends))
    )
    return Metric(value, (low, high)).within(0, 1, WIDEST_ERROR)


def _noncentrality(seen: float, freedom: float, level: float) -> float:
    """The λ >= 0 at which a noncentral χ² is below `seen` with chance `level`; 0 if none is."""

    def below(noncentrality: float) -> float:
        return float(special.chndtr(seen, freedom, noncentrality))

    if seen > NEARLY_GAUSSIAN:
        return max(seen - freedom - 2 * float(special.ndtri(level)) * math.sqrt(seen), 0.0)
    if below(0.0) <= level:
        return 0.0
    most = seen + 10 * math.sqrt(seen) + 20
    return float(optimize.brentq(lambda x: below(x) - level, 0.0, most))


def _line(counts: FloatArray, noise: float, inside: Inside) -> tuple[Metric, Metric]:
    """Slope and intercept by the likelihood's equations, which are linear in the counts.

    So noise leaves their mean as it is. Their variance is the sandwich of sampling and noise
    (Huber 1967): J⁻¹·V·J⁻¹ with V = Σ ((1-p)²(n1 + σ²) + p²(n0 + σ²))·x·xᵀ.
    """
    chance = np.clip(inside.chances, 1e-6, 1 - 1e-6)
    x = np.stack([np.ones(len(chance)), np.log(chance / (1 - chance))], axis=1)
    others, own = counts.T
    clean = np.stack([nonnegative(column[None])[0] for column in counts.T], axis=1)
    if min(clean.sum(axis=0)) <= 0:
        return UNTOLD, UNTOLD
    found, step = np.array([0.0, 1.0]), np.zeros(2)
    for _ in range(STEPS):
        told = 1 / (1 + np.exp(-np.clip(x @ found, -30, 30)))
        slopes = (x * (clean.sum(axis=1) * told * (1 - told))[:, None]).T @ x
        if not np.linalg.cond(slopes) < 1e8:
            return UNTOLD, UNTOLD
        step = np.linalg.solve(slopes, x.T @ (own - told * (others + own)))
        found = found + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    if np.abs(step).max() > 1e-3 or np.abs(found).max() > 30:
        return UNTOLD, UNTOLD
    seen = (1 - told) ** 2 * (clean[:, 1] + noise**2) + told**2 * (clean[:, 0] + noise**2)
    inverse = np.linalg.inv(slopes)
    spread = Z * np.sqrt(np.diag(inverse @ ((x * seen[:, None]).T @ x) @ inverse))
    intercept, slope = (
        Metric(float(value), (float(value - s), float(value + s))) if s <= widest / 2 else UNTOLD
        for value, s, widest in zip(found, spread, (WIDEST_INTERCEPT, WIDEST_SLOPE), strict=True)
    )
    return slope, intercept
