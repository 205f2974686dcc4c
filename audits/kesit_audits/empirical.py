"""What an attack proves: lower confidence limits on ε from its scores.

An attack looks at what a mechanism released and gives a score, higher when it believes that the
canary (one chosen customer) was in the data. Scores of runs without and with the canary give a
false positive and a false negative rate at each threshold, and a mechanism that keeps its promise
cannot have both small:

* `clopper-pearson`, (ε, δ)-DP and nothing else: TPR <= e^ε·FPR + δ and TNR <= e^ε·FNR + δ
  (Kairouz, Oh and Viswanath 2015), so ε >= ln((TPR - δ)/FPR) and ε >= ln((TNR - δ)/FNR).
* `gaussian`, for mechanisms whose accounting is Gaussian DP, as Kesit's is: at every threshold a
  μ-GDP mechanism has Φ⁻¹(1-FPR) - Φ⁻¹(FNR) <= μ (Dong, Roth and Su 2022; Nasr et al. 2023),
  converted to ε(δ) by Kesit's own accountant.

Rates enter by their upper Clopper-Pearson limits. The threshold is chosen on one half of the
scores and the limits are computed on the other, so that the choice costs no confidence. Limits are
one-sided: an attack that is wrong more often than right proves nothing, and its limit is 0 (with
|μ| in its place, a mechanism at ε = 0 would be found guilty by chance).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy import stats

from kesit_audits.errors import AuditError
from kesit_privacy import accounting
from kesit_privacy.features import FloatArray

Method = Literal["gaussian", "clopper-pearson"]

LEAST_POWER = 0.5
"""Share of the claim that an audit must be able to see, and see, before it may say PASS."""

CANDIDATES = 1000
"""Thresholds tried on the first half of the scores, about."""

CHOICE_CONFIDENCE = 1 - 2e-5
"""Confidence at which thresholds are compared on the first half."""


class Verdict(StrEnum):
    """What an audit says of a claim."""

    PASS = "PASS"  # noqa: S105 (no password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class EmpiricalEpsilon:
    """An attack's evidence about a claimed ε.

    Attributes:
        method: see the module.
        estimate: ε at the observed error rates, without confidence; what the attack saw.
        lower: lower limit of the true ε, at `confidence` (one-sided).
        claimed: ε that the accountant promises, at `delta`.
        expected: the lower limit that the best attack on this canary would reach on average with as
            many runs, were the noise exactly as claimed.
        runs: scores of each kind, both halves together: the smaller of without and with.
        least_power: share of the claim that `expected` and `estimate` must exceed for a PASS.
    """

    method: Method
    estimate: float
    lower: float
    claimed: float
    expected: float
    delta: float
    confidence: float
    runs: int
    least_power: float = LEAST_POWER

    @property
    def power(self) -> float:
        """`expected` as a share of the claim; 0 for a claim of 0."""
        return self.expected / self.claimed if self.claimed else 0.0

    @property
    def verdict(self) -> Verdict:
        """FAIL: the claim is refuted. INCONCLUSIVE: this attack could not have refuted it.

        An attack has no power if even the ideal one would prove too little with so many runs
        (`expected`), or if this one saw too little (`estimate`): a broken attack must not pass.
        """
        if self.lower > self.claimed:
            return Verdict.FAIL
        needed = self.least_power * self.claimed
        if self.expected <= needed or self.estimate <= needed:
            return Verdict.INCONCLUSIVE
        return Verdict.PASS


@dataclass(frozen=True)
class Bound:
    """How error rates become a lower limit of ε: method, δ, and one-sided confidence."""

    method: Method
    delta: float
    confidence: float = 0.95

    @property
    def tail(self) -> float:
        """Error probability of each of the two rates' limits; together they use what there is."""
        return (1 - self.confidence) / 2

    def strength(self, false_positive: FloatArray, false_negative: FloatArray) -> FloatArray:
        """What these rates prove, at least 0: μ (`gaussian`) or ε (`clopper-pearson`)."""
        if self.method == "gaussian":
            proven = stats.norm.isf(false_positive) - stats.norm.ppf(false_negative)
        else:
            odds = np.maximum(
                (1 - false_negative - self.delta) / false_positive,
                (1 - false_positive - self.delta) / false_negative,
            )
            proven = np.log(np.maximum(odds, 1.0))
        strength: FloatArray = np.maximum(proven, 0.0)
        return strength

    def as_epsilon(self, strength: float) -> float:
        """ε at δ of a strength, rounded down."""
        if self.method == "clopper-pearson":
            return strength
        units = math.floor(strength**2 * accounting.UNITS_PER_MU2)
        return accounting.epsilon(units, self.delta)

    def proven(self, errors: Errors) -> FloatArray:
        """The strength that errors prove at this confidence, one for each pair of counts."""
        return self.strength(
            upper_limit(errors.false_positives, errors.without, self.tail),
            upper_limit(errors.false_negatives, errors.canary, self.tail),
        )

    def expected(self, mu: float, without: int, canary: int) -> float:
        """The lower limit of ε at the ideal attack's expected errors in so many runs.

        Its scores are normal with variance 1 and means 0 and μ; the best threshold is taken.
        """
        thresholds = np.linspace(-6, mu + 6, 1201)
        wrong = stats.norm.sf(thresholds) * without, stats.norm.cdf(thresholds - mu) * canary
        return self.as_epsilon(float(self.proven(Errors(*wrong, without, canary)).max()))


@dataclass(frozen=True)
class Errors:
    """False positives of `without` runs and false negatives of `canary` runs, a pair a threshold.

    Expected numbers of errors need not be whole.
    """

    false_positives: FloatArray
    false_negatives: FloatArray
    without: int
    canary: int

    @classmethod
    def at(cls, thresholds: FloatArray, without: FloatArray, canary: FloatArray) -> Errors:
        """Errors of saying "with" to every score above a threshold."""
        below_out = np.searchsorted(np.sort(without), thresholds, side="right")
        below_in = np.searchsorted(np.sort(canary), thresholds, side="right")
        positives = (len(without) - below_out).astype(np.float64)
        return cls(positives, below_in.astype(np.float64), len(without), len(canary))

    @property
    def rates(self) -> tuple[FloatArray, FloatArray]:
        """Plain rates, with half an error added so that none is 0 or 1."""
        return (
            (self.false_positives + 0.5) / (self.without + 1),
            (self.false_negatives + 0.5) / (self.canary + 1),
        )


def empirical_epsilon(
    without: FloatArray,
    canary: FloatArray,
    *,
    claimed: float,
    delta: float,
    method: Method = "gaussian",
    attainable_mu: float | None = None,
    confidence: float = 0.95,
    least_power: float = LEAST_POWER,
    seed: int = 0,
) -> EmpiricalEpsilon:
    """Bound ε from below by an attack's scores, and compare it with a claim.

    Args:
        without, canary: (runs,) scores of independent runs without and with the canary; a higher
            score means "with".
        claimed: ε that the accountant promises, at `delta`.
        attainable_mu: μ of the best attack on this canary if the claim holds; that of the claim
            itself if not given. A weak canary has a smaller one.
        confidence: of the lower limit, one-sided.
        seed: of the division into halves.

    Raises:
        AuditError: fewer than four scores of a kind, a score that is not finite, a number out of
            range.
    """
    _check(without, canary, claimed, delta, confidence, least_power)
    bound = Bound(method, delta, confidence)
    rng = np.random.default_rng(seed)
    (choose_out, judge_out), (choose_in, judge_in) = _halves(without, rng), _halves(canary, rng)
    threshold = _best_threshold(bound, choose_out, choose_in)
    errors = Errors.at(np.array([threshold]), judge_out, judge_in)
    if attainable_mu is None:
        attainable_mu = accounting.mu(accounting.budget_units(claimed, delta)) if claimed else 0.0
    return EmpiricalEpsilon(
        method=method,
        estimate=bound.as_epsilon(bound.strength(*errors.rates).item()),
        lower=bound.as_epsilon(bound.proven(errors).item()),
        claimed=claimed,
        expected=bound.expected(attainable_mu, len(judge_out), len(judge_in)),
        delta=delta,
        confidence=confidence,
        runs=min(len(without), len(canary)),
        least_power=least_power,
    )


def upper_limit(errors: FloatArray, trials: int, tail: float) -> FloatArray:
    """Clopper-Pearson: the largest rate at which `errors` or fewer have probability `tail`.

    >>> upper_limit(np.array([0.0, 5.0, 10.0]), 10, 0.025).round(4).tolist()
    [0.3085, 0.8129, 1.0]
    """
    inside = np.minimum(errors, trials - 1)
    limits: FloatArray = stats.beta.ppf(1 - tail, inside + 1, trials - inside)
    return np.where(errors >= trials, 1.0, limits)


def _best_threshold(bound: Bound, without: FloatArray, canary: FloatArray) -> float:
    """The threshold whose lower limit is largest on these scores.

    Limits at a far higher confidence than the bound's own: the largest of many limits is otherwise
    a lucky one, of a few scores in the tail, and falls back on the other half.
    """
    pooled = np.sort(np.concatenate([without, canary]))
    thresholds = pooled[:: max(1, len(pooled) // CANDIDATES)]
    errors = Errors.at(thresholds, without, canary)
    proven = replace(bound, confidence=max(bound.confidence, CHOICE_CONFIDENCE)).proven(errors)
    if not proven.any():  # too few scores for that
        proven = bound.proven(errors)
    return float(thresholds[proven.argmax()])


def _halves(scores: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    shuffled = rng.permutation(scores)
    return shuffled[: len(scores) // 2], shuffled[len(scores) // 2 :]


def _check(
    without: FloatArray,
    canary: FloatArray,
    claimed: float,
    delta: float,
    confidence: float,
    least_power: float,
) -> None:
    for name, scores in (("without", without), ("with", canary)):
        if scores.ndim != 1 or len(scores) < 4 or not np.isfinite(scores).all():
            raise AuditError(
                f"The scores {name} the canary are not four or more finite numbers.",
                remedy="Run the attack more often, and let it give a number each time.",
            )
    ranges = {
        "claimed": 0 <= claimed < math.inf,
        "delta": 0 < delta < 1,
        "confidence": 0 < confidence < 1,
        "least_power": 0 <= least_power < 1,
    }
    for name, fits in ranges.items():
        if not fits:
            raise AuditError(f"{name} is out of range.", remedy=f"Give a {name} that is possible.")
