"""Many canaries in one run: what guesses about them prove.

m canaries are each in the data or not, by a fair coin of their own. The mechanism runs once, and an
attack guesses the coins of r of them, and says nothing of the others. If v guesses are right:

* `clopper-pearson`, (ε, δ)-DP and nothing else (Steinke, Nasr and Jagielski 2023, theorem 5.2):
  P[right >= v] <= β + 2mδ·max_i (f(v-i) - β)/i, where f(x) = P[Binomial(r, 1/(1+e^-ε)) >= x],
  β = f(v): each canary is one customer more or less, whatever the others are.
* `gaussian`, for mechanisms that are μ-GDP (Mahloujifar, Melis and Chaudhuri 2024): of a random
  canary let a_j be the chance that it is guessed rightly while j guesses in all are right or more;
  b_j the same of a wrong guess. Turning the canary's coin over makes its right guess a wrong one
  and leaves j-1 others, so b_(j-1) >= Φ(Φ⁻¹(a_j) - μ); and of exactly j right guesses the shares
  are j to r-j. From P[right >= v] = p these give the least a_0 + b_0, which is r/m in truth: more
  refutes that μ at confidence 1 - p.

Both hold for any dependence between canaries. They prove less than repeated runs do: with r guesses
the first no more than about ln(r/3), and both little at small ε, where an honest guess is right
about every second time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from kesit_audits.empirical import LEAST_POWER, Method, Verdict
from kesit_audits.errors import AuditError
from kesit_privacy import accounting
from kesit_privacy.features import FloatArray

LARGEST_STRENGTH = 30.0
"""No ε or μ beyond it is looked for: guesses that are all right prove less."""


@dataclass(frozen=True)
class OneRun:
    """What one run proves about a claimed ε.

    Attributes:
        canaries, guesses, right: m, r and v.
        lower: lower limit of the true ε at `confidence` (one-sided).
        attainable: the limit if all guesses had been right.
        claimed: ε that the accountant promises, at `delta`.
    """

    method: Method
    canaries: int
    guesses: int
    right: int
    lower: float
    attainable: float
    claimed: float
    delta: float
    confidence: float

    @property
    def verdict(self) -> Verdict:
        """FAIL: the claim is refuted. INCONCLUSIVE: less than half of the claim was seen."""
        if self.lower > self.claimed:
            return Verdict.FAIL
        return Verdict.PASS if self.lower > LEAST_POWER * self.claimed else Verdict.INCONCLUSIVE


def judge(
    scores: FloatArray,
    inside: FloatArray,
    *,
    guesses: int,
    claimed: float,
    delta: float,
    method: Method = "gaussian",
    confidence: float = 0.95,
) -> OneRun:
    """Guess the coins of the `guesses` canaries whose scores are most extreme.

    Args:
        scores: (m,) higher where the attack believes that the canary was in; computed without
            `inside`.
        inside: (m,) the coins, 1 for in.
        guesses: r, chosen before the run: half of them say in, half out.

    Raises:
        AuditError: scores and coins do not fit, or r is not even and from 2 to m.
    """
    if scores.shape != inside.shape or scores.ndim != 1 or not np.isfinite(scores).all():
        raise AuditError(
            "There is not one finite score a canary.", remedy="Let the attack score each canary."
        )
    if guesses % 2 or not 2 <= guesses <= len(scores):
        raise AuditError(
            f"{guesses} guesses are not even, or more than the {len(scores)} canaries.",
            remedy="Guess an even number of canaries, at most all of them.",
        )
    order = np.argsort(scores, kind="stable")
    low, high = order[: guesses // 2], order[-(guesses // 2) :]
    right = int((inside[low] == 0).sum() + (inside[high] == 1).sum())

    def limit(found: int) -> float:
        return lower_limit(len(scores), guesses, found, delta, method, confidence)

    return OneRun(
        method,
        len(scores),
        guesses,
        right,
        limit(right),
        limit(guesses),
        claimed,
        delta,
        confidence,
    )


def lower_limit(
    canaries: int, guesses: int, right: int, delta: float, method: Method, confidence: float = 0.95
) -> float:
    """The largest ε at `delta` that so many right guesses refute; 0 if they refute none.

    >>> round(lower_limit(1000, 1000, 1000, 0.0, "clopper-pearson"), 3)  # ln(q/(1-q)), q^1000 = .05
    5.809
    """
    chance = 1 - confidence
    if method == "gaussian":
        mu = _largest(lambda mu: gaussian_refuted(canaries, guesses, right, mu, chance))
        return accounting.epsilon(math.floor(mu**2 * accounting.UNITS_PER_MU2), delta)
    return _largest(lambda eps: pure_chance(canaries, guesses, right, eps, delta) < chance)


def pure_chance(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most that P[right guesses >= `right`] can be under (epsilon, delta)-DP."""
    rate = 1 / (1 + math.exp(-epsilon))
    beta = float(stats.binom.sf(right - 1, guesses, rate))
    if right == 0:
        return 1.0
    below = np.cumsum(stats.binom.pmf(np.arange(right - 1, -1, -1), guesses, rate))
    alpha = float((below / np.arange(1, right + 1)).max())
    return min(1.0, beta + 2 * canaries * delta * alpha)


def gaussian_refuted(canaries: int, guesses: int, right: int, mu: float, chance: float) -> bool:
    """Whether so many right guesses, or more, have a probability below `chance` if all is μ-GDP."""
    a = chance * right / canaries
    b = chance * (guesses - right) / canaries
    for count in range(right - 1, -1, -1):
        if a + b > guesses / canaries:  # neither becomes less
            return True
        needed = max(b, float(ndtr(ndtri(a) - mu)))
        a += count / (guesses - count) * (needed - b)
        b = needed
    return a + b > guesses / canaries


def _largest(refuted: Callable[[float], bool]) -> float:
    """The largest strength that is refuted, rounded down; refuted ones are all below others."""
    low, high = 0.0, LARGEST_STRENGTH
    if not refuted(low):
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
