"""Privacy accounting: Gaussian differential privacy in shares of μ², and an RDP pot beside it.

A Gaussian sum with sensitivity Δ and noise σ is μ-GDP with μ = Δ/σ; sums compose by adding μ²
(Dong, Roth and Su 2022, corollary 3.3). Σ μ² <= cap is a valid *filter*: it bounds the privacy loss
even when each sum's σ, query and roster are chosen after seeing the earlier answers, because the
privacy-loss supermartingale of a Gaussian depends on μ alone (Koskela, Tobaben and Honkela 2023,
theorem 11; Smith and Thakurta 2022). ε at a given δ comes from the analytic Gaussian
(Balle and Wang 2018), computed by `dp_accounting`.

μ² is kept in whole units of 2^-48, charges rounded up and budgets rounded down, so that books add
up exactly on every machine and rounding never favours spending. Noise is a sum of discrete
Gaussians; at four lattice units or more a share its divergences from the continuous Gaussian are
below 1e-60 (Kairouz, Liu and Steinke 2021), which δ swallows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import dp_accounting
import numpy as np
from dp_accounting import rdp

from kesit_privacy.errors import BudgetError

UNITS_PER_MU2 = 1 << 48
"""Units of the ledger in one μ²."""


@lru_cache(maxsize=1024)
def budget_units(epsilon: float, delta: float) -> int:
    """The largest μ², in units, whose analytic Gaussian is (epsilon, delta)-DP; rounded down.

    >>> round(mu(budget_units(1.0, 1e-6)) ** -1, 3)  # the noise multiplier of one release
    4.225

    Raises:
        BudgetError: epsilon is not positive and finite, or delta not in (0, 1).
    """
    if not (0 < epsilon < math.inf and 0 < delta < 1):
        raise BudgetError(
            f"There is no budget of epsilon = {epsilon:g}, delta = {delta:g}.",
            remedy="Use a positive epsilon, and a delta between 0 and 1.",
        )
    with np.errstate(divide="ignore"):  # log(0) where δ vanishes is meant
        sigma = float(dp_accounting.get_sigma_gaussian(epsilon, delta))
    # The bisection stops within 1e-12 on either side: step to the safe one.
    return math.floor(UNITS_PER_MU2 / (sigma * (1 + 1e-9)) ** 2)


@lru_cache(maxsize=4096)
def epsilon(units: int, delta: float) -> float:
    """ε at `delta` of everything that cost `units` together.

    >>> round(epsilon(budget_units(0.5, 1e-5), 1e-5), 6)
    0.5
    """
    if units <= 0:
        return 0.0
    with np.errstate(divide="ignore"):  # log(0) where δ vanishes is meant
        return float(dp_accounting.get_epsilon_gaussian(1 / mu(units), delta))


def mu(units: int) -> float:
    """μ of Gaussian differential privacy for a cost in units of μ²."""
    return math.sqrt(units / UNITS_PER_MU2)


def event(units: int) -> dp_accounting.DpEvent:
    """The `DpEvent` that a cost stands for: one Gaussian of sensitivity 1 with noise 1/μ."""
    if units <= 0:
        return dp_accounting.NoOpDpEvent()
    return dp_accounting.GaussianDpEvent(1 / mu(units))


def charge_units(
    *, delta_sq: int, multiplicity: int, share_variance: Fraction, roster: int, colluders: int
) -> int:
    """What one attempt at a sum costs: m²Δ² / ((n - c)·v), in units of μ², rounded up.

    Args:
        delta_sq: Δ² of the query, in squared lattice units, for one client's row.
        multiplicity: m, at how many clients one customer may be.
        share_variance: v, the variance of one member's noise, in squared lattice units.
        roster: n, members that must all answer.
        colluders: c, members whose noise shares the adversary may know and subtract.

    The noise that the adversary cannot subtract is the sum of n - c independent shares.
    """
    if roster <= colluders or share_variance <= 0:
        raise BudgetError(
            f"A roster of {roster} with {colluders} colluders leaves no noise to hide in.",
            remedy="Use a larger roster, or a smaller max_colluders.",
        )
    cost = Fraction(multiplicity**2 * delta_sq) / ((roster - colluders) * share_variance)
    return math.ceil(cost * UNITS_PER_MU2)


def share_variance(
    units: int, *, delta_sq: int, multiplicity: int, roster: int, colluders: int
) -> Fraction:
    """The smallest whole variance a share for which one attempt costs at most `units`."""
    if units <= 0 or roster <= colluders:
        raise BudgetError(
            "Nothing is left of the study's budget for this sum.",
            remedy="Plan fewer sums, or agree on a larger epsilon.",
        )
    exact = Fraction(multiplicity**2 * delta_sq * UNITS_PER_MU2, (roster - colluders) * units)
    return Fraction(math.ceil(exact))


@dataclass(frozen=True)
class GaussianFilter:
    """A cap on Σ μ² and what has been spent of it; immutable. Costs are whole units."""

    cap: int
    spent: int = 0

    @property
    def left(self) -> int:
        """Units that may still be spent."""
        return max(0, self.cap - self.spent)

    def allows(self, units: int) -> bool:
        """Whether a further cost fits under the cap."""
        return units >= 0 and self.spent + units <= self.cap

    def charge(self, units: int) -> GaussianFilter:
        """The filter after spending `units`.

        Raises:
            BudgetError: the cost does not fit; nothing is spent.
        """
        if not self.allows(units):
            raise BudgetError(
                f"A cost of μ² = {units / UNITS_PER_MU2:.4g} exceeds what is left"
                f" ({self.left / UNITS_PER_MU2:.4g} of {self.cap / UNITS_PER_MU2:.4g}).",
                remedy="Ask for less, or let the owner of the budget raise its cap.",
            )
        return replace(self, spent=self.spent + units)


_ORDERS = [*range(2, 65), *(72, 80, 96, 112, 128, 160, 192, 256)]
"""Whole orders: the RDP of a sampled Gaussian is a finite sum there (Mironov et al. 2019)."""


@dataclass(frozen=True)
class RdpPot:
    """A budget of its own for mechanisms that are not plain Gaussian sums (DP-SGD).

    A Rényi filter at one order, fixed before anything is spent, is valid under adaptive choices
    (Feldman and Zrnic 2021, theorem 4.3). The pot's (ε, δ) *add* to the Gaussian books'.
    """

    epsilon: float
    delta: float
    order: float
    events: tuple[dp_accounting.DpEvent, ...] = ()

    @classmethod
    def open(cls, epsilon: float, delta: float) -> RdpPot:
        """An empty pot at the order that leaves a Gaussian the largest μ² for (epsilon, delta)."""

        def allowed(order: float) -> float:
            bound = epsilon - math.log1p(-1 / order) + math.log(delta * order) / (order - 1)
            return bound / order

        orders = [1 + step / 10 for step in range(1, 1000)] + list(range(101, 2049))
        return cls(epsilon, delta, max(orders, key=allowed))

    @classmethod
    def open_for(cls, epsilon: float, delta: float, plan: dp_accounting.DpEvent) -> RdpPot:
        """An empty pot at the whole order at which all of `plan` costs least."""
        accountant = rdp.RdpAccountant(_ORDERS)
        accountant.compose(plan)
        _, order = accountant.get_epsilon_and_optimal_order(delta)
        return cls(epsilon, delta, float(order))

    def spent(self, extra: dp_accounting.DpEvent | None = None) -> float:
        """ε at the pot's δ and order of all events so far, and of `extra` if given."""
        accountant = rdp.RdpAccountant([self.order])
        for item in (*self.events, *([extra] if extra is not None else [])):
            accountant.compose(item)
        return float(accountant.get_epsilon(self.delta))

    def charge(self, item: dp_accounting.DpEvent) -> RdpPot:
        """The pot after `item`.

        Raises:
            BudgetError: the pot would be overdrawn; nothing is spent.
        """
        after = self.spent(item)
        if not after <= self.epsilon:
            raise BudgetError(
                f"The event would bring the pot to ε = {after:.4g} of {self.epsilon:.4g}.",
                remedy="Train for fewer steps, or with more noise.",
            )
        return replace(self, events=(*self.events, item))
