"""What sets a segment apart: its centre against all customers, feature by feature, with its noise.

Post-processing of released centres and sizes and of the private synopsis; it costs no privacy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import Categorical, FloatArray
from kesit_server.segmentation.agreement import contingency, jaccard, nearest
from kesit_server.segmentation.points import Weighted, weighted_means

LEAST_EFFECT = 0.5
"""Standard deviations from which a difference is told: Cohen's (1988) medium effect."""

STRONG_EFFECT = 1.5
MOSTLY = 0.5
"""Share of a segment's customers from which a level is "mostly" theirs."""

FLAT = 1e-6
"""Standard deviation, in grid steps, below which a coordinate is the same for all."""

CERTAINTY = 1.96
"""Standard deviations of its own noise that a difference must exceed: 95 %."""

DIGITS = 6
"""Decimals of effects and shares: traits are rounded when they are made, so that a file that holds
them says the same as they do."""


@dataclass(frozen=True)
class Trait:
    """One feature (or one level of a categorical feature) of one segment, beside all customers.

    Attributes:
        level: of a categorical feature; None for a number.
        value, overall: of the segment and of all customers: in the feature's own unit, or the
            share of customers (0 .. 1) who have the level.
        effect: (segment - all) / standard deviation of all customers; the place on the feature's
            scale, or whether a customer has the level, is what is measured.
        noise: standard deviation of `effect` over rehearsals, of the segment that is most like it.
    """

    feature: str
    level: str | None
    value: float
    overall: float
    effect: float
    noise: float

    @property
    def clear(self) -> bool:
        """Whether the difference is of some size, and beyond its noise."""
        return abs(self.effect) >= max(LEAST_EFFECT, CERTAINTY * self.noise)

    @property
    def strong(self) -> bool:
        """Whether the difference is a large one."""
        return self.clear and abs(self.effect) >= STRONG_EFFECT

    @property
    def mostly(self) -> bool:
        """Whether it is a level that is over-represented, and that most customers here have."""
        return self.level is not None and self.effect > 0 and self.value >= MOSTLY

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {
            "feature": self.feature,
            "level": self.level,
            "value": self.value,
            "overall": self.overall,
            "effect": self.effect,
            "noise": self.noise,
            "clear": self.clear,
        }


def segment_traits(
    space: Embedding,
    centres: FloatArray,
    sizes: FloatArray,
    synopsis: Weighted,
    rehearsed: Sequence[FloatArray],
) -> tuple[tuple[Trait, ...], ...]:
    """Traits of each segment, the largest effect first; one for each number and each level.

    All customers' mean is that of the centres, weighted by size, so that segments cannot all be
    above it; the variance is that between the centres plus that within segments, on the synopsis.

    Args:
        centres: (k, dimensions) in grid steps.
        sizes: (k,) noisy; less than 0 counts as 0.
        rehearsed: centres that other noise would have given, each (k, dimensions).
    """
    mean, apart = _apart(centres, np.maximum(sizes, 0))
    between = np.average((centres - mean) ** 2, axis=0, weights=_positive(np.maximum(sizes, 0)))
    spread = np.sqrt(between + _within(synopsis, centres))
    flat = spread < FLAT
    spread[flat] = np.inf  # nobody differs there
    effects = apart / spread
    drawn = [_apart_elsewhere(synopsis, centres, other) / spread for other in rehearsed]
    noise = np.std(drawn, axis=0) if drawn else np.zeros_like(effects)
    return tuple(
        tuple(sorted(_traits(space, *row, mean), key=lambda trait: -abs(trait.effect)))
        for row in zip(centres, effects, noise, strict=True)
    )


def _within(synopsis: Weighted, centres: FloatArray) -> FloatArray:
    """Variance of each coordinate within segments, shape (dimensions,)."""
    labels = nearest(synopsis.points, centres)
    means = weighted_means(synopsis.points, synopsis.weights, labels, centres)
    found: FloatArray = np.average(
        (synopsis.points - means[labels]) ** 2, axis=0, weights=synopsis.weights
    )
    return found


def _apart_elsewhere(synopsis: Weighted, centres: FloatArray, other: FloatArray) -> FloatArray:
    """How far the like of each segment stands from all customers in a rehearsal."""
    ours, theirs = nearest(synopsis.points, centres), nearest(synopsis.points, other)
    table = contingency(ours, theirs, synopsis.weights, (len(centres), len(other)))
    found: FloatArray = _apart(other, table.sum(axis=0))[1][jaccard(table)[1]]
    return found


def _apart(centres: FloatArray, mass: FloatArray) -> tuple[FloatArray, FloatArray]:
    """All customers' mean, shape (dimensions,), and the centres' differences from it."""
    mean = np.average(centres, axis=0, weights=_positive(mass))
    return mean, centres - mean


def _positive(mass: FloatArray) -> FloatArray:
    return mass if mass.any() else np.ones(len(mass))


def _traits(
    space: Embedding, centre: FloatArray, effect: FloatArray, noise: FloatArray, mean: FloatArray
) -> list[Trait]:
    found = []
    for feature, start in zip(space.features, space.offsets, strict=False):
        if isinstance(feature, Categorical):
            for place, level in enumerate([*feature.levels, "(unknown)", "(missing)"], start):
                shares = (np.clip(at[place] / ONE_HOT, 0, 1) for at in (centre, mean))
                told = (*shares, effect[place], noise[place])
                found.append(Trait(feature.name, level, *(round(float(x), DIGITS) for x in told)))
        else:
            value, overall = (float(f"{feature.decode(at[start]):.6g}") for at in (centre, mean))
            beyond, wobble = (round(float(x), DIGITS) for x in (effect[start], noise[start]))
            found.append(Trait(feature.name, None, value, overall, beyond, wobble))
    return found
