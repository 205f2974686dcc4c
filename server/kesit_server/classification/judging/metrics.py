"""A metric and the interval that holds the true one with 95 %, over sampling and noise.

Intervals are inverted tests (Fieller 1954): for a ratio θ = a/b of noisy counts, a - θ·b has mean 0
at the true θ, whatever the noise, and a variance that is known at each θ. The interval is every θ
at which |a - θ·b| <= z·sd; so no ratio's bias enters, and where b is not told from 0 there is no
interval, and no metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kesit_server.wording import Language, Wording, fixed
from kesit_server.wording import count as whole_number

Z = 1.959963984540054
"""Of a 95 % interval, two-sided."""

WIDEST = 0.5
"""An interval of more than half of all that could be says nothing: there is no metric then."""

TOO_FEW = Wording(
    "cannot be told: too few held-out customers for this noise",
    "söylenemez: bu gürültü için eğitim dışı tutulan müşteri sayısı çok az",
)
NOBODY = Wording(
    "cannot be told: no held-out customers were counted",
    "söylenemez: eğitim dışı tutulan hiçbir müşteri sayılmadı",
)

ONE_CLASS = Wording(
    "cannot be told: a class is not told from nobody among the held-out customers",
    "söylenemez: eğitim dışı tutulan müşteriler arasında bir sınıf hiç kimseden ayırt edilemiyor",
)


@dataclass(frozen=True)
class Metric:
    """A number with its interval, or the reason why there is none."""

    value: float | None
    interval_95: tuple[float, float] | None
    reason: Wording | None = None

    @property
    def told(self) -> bool:
        """Whether there is a number."""
        return self.value is not None

    def as_dict(self) -> dict[str, object]:
        """Plain values, four digits each."""
        if self.value is None or self.interval_95 is None:
            assert self.reason is not None
            return {"value": None, "interval_95": None, "reason": self.reason.as_dict()}
        low, high = (float(f"{end:.4g}") for end in self.interval_95)
        return {"value": float(f"{self.value:.4g}"), "interval_95": [low, high]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Metric:
        """Read `as_dict` back.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        if plain["value"] is None:
            return cls(None, None, Wording(str(plain["reason"]["en"]), str(plain["reason"]["tr"])))
        low, high = (float(end) for end in plain["interval_95"])
        value = float(plain["value"])
        if not all(map(math.isfinite, (value, low, high))):
            raise ValueError("a metric is not finite")
        return cls(value, (low, high))

    def text(self, language: Language = "en", digits: int | None = 3) -> str:
        """For a person; the reason if there is no number. No digits: a whole number."""
        if self.value is None or self.interval_95 is None:
            assert self.reason is not None
            return self.reason.of(language)
        value, low, high = (_digits(x, language, digits) for x in (self.value, *self.interval_95))
        return f"{value} ({low} - {high})"

    def within(self, low: float, high: float, widest: float = WIDEST) -> Metric:
        """Cut to its range; untold if the interval is wider than this part of the range."""
        if self.value is None or self.interval_95 is None:
            return self
        ends = [min(max(end, low), high) for end in self.interval_95]
        if not ends[1] - ends[0] <= widest * (high - low):
            return UNTOLD
        return replace(self, value=min(max(self.value, low), high), interval_95=(ends[0], ends[1]))


UNTOLD = Metric(None, None, TOO_FEW)


def untold(metric: Metric, reason: Wording) -> Metric:
    """The metric without a number, for that reason."""
    return replace(metric, value=None, interval_95=None, reason=reason)


def count(value: float, noise: float) -> Metric:
    """A number of held-out customers: its true value is a fact, so noise alone is in doubt."""
    return Metric(max(value, 0.0), (max(value - Z * noise, 0.0), max(value + Z * noise, 0.0)))


def ratio(upper: float, lower: float, variance: tuple[float, float, float]) -> Metric:
    """upper/lower, where upper - θ·lower has variance v0 + v1·θ + v2·θ².

    Untold if some θ of any size cannot be excluded.
    """
    constant, linear, square = variance
    leading = lower * lower - Z * Z * square
    middle = upper * lower + Z * Z * linear / 2
    last = upper * upper - Z * Z * constant
    inner = middle * middle - leading * last
    if lower <= 0 or leading <= 0 or inner < 0:
        return UNTOLD
    root = math.sqrt(inner)
    return Metric(upper / lower, ((middle - root) / leading, (middle + root) / leading))


def share(one: float, rest: float, noise_one: float, noise_rest: float) -> Metric:
    """Share of `one` in one + rest, two sums of cells that have none in common.

    (1-θ)·one - θ·rest varies by sampling with θ(1-θ)·n, as Wilson (1927) has it, and by noise with
    (1-θ)²·τ1² + θ²·τ2²; without noise this is Wilson's interval.

    Args:
        noise_one, noise_rest: τ, standard deviations of the noise on the two sums.
    """
    customers = max(one + rest, 0.0)
    first, second = noise_one**2, noise_rest**2
    variance = first, customers - 2 * first, first + second - customers
    return ratio(one, one + rest, variance).within(0, 1)


def harmonic(share_of_hits: Metric) -> Metric:
    """F1 = 2j/(1+j) of Jaccard's index j, the share of hits in hits and errors: it rises with j."""
    if share_of_hits.value is None or share_of_hits.interval_95 is None:
        return share_of_hits
    value, low, high = (2 * j / (1 + j) for j in (share_of_hits.value, *share_of_hits.interval_95))
    return Metric(value, (low, high)).within(0, 1)


def difference(one: Metric, other: Metric) -> Metric:
    """one - other of independent metrics, by MOVER (Zou and Donner 2008).

    With Wilson's intervals that is Newcombe's (1998) tenth method.
    """
    if not (one.told and other.told):
        return UNTOLD
    return _combined((one, other), (1.0, -1.0)).within(-1, 1, WIDEST / 2)


def mean(metrics: Sequence[Metric], *, independent: bool) -> Metric:
    """Their mean. Of dependent ones the interval is wide enough for any dependence: half widths
    add up, where those of independent ones add up in squares (MOVER)."""
    if not metrics or not all(metric.told for metric in metrics):
        return UNTOLD
    weights = (1 / len(metrics),) * len(metrics)
    return _combined(metrics, weights, power=2 if independent else 1).within(0, 1)


def average(metrics: Sequence[Metric]) -> Metric:
    """The mean of one figure over independent evaluations; untold, for its reason, if one is."""
    return _of_all(metrics, 1 / len(metrics))


def total(metrics: Sequence[Metric]) -> Metric:
    """The sum, likewise."""
    return _of_all(metrics, 1.0)


def _of_all(metrics: Sequence[Metric], weight: float) -> Metric:
    lacking = next((metric for metric in metrics if not metric.told), None)
    return lacking or _combined(metrics, (weight,) * len(metrics))


def _combined(metrics: Sequence[Metric], weights: Sequence[float], power: int = 2) -> Metric:
    value, below, above = 0.0, 0.0, 0.0
    for metric, weight in zip(metrics, weights, strict=True):
        assert metric.value is not None
        assert metric.interval_95 is not None
        down, up = (abs(weight * (metric.value - end)) for end in metric.interval_95)
        if weight < 0:
            down, up = up, down
        value, below, above = value + weight * metric.value, below + down**power, above + up**power
    return Metric(value, (value - below ** (1 / power), value + above ** (1 / power)))


def _digits(value: float, language: Language, digits: int | None) -> str:
    if digits is None:
        return whole_number(value, language)
    return fixed(value, digits, language)
