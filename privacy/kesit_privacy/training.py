"""How members train a neural network with differential privacy: agreed numbers, and their price.

All of them are public and stand in the study; none follows from a member's own customers, so that
neither the noise nor the charge tells how many it has. A training is `steps` steps of DP-SGD (Abadi
et al. 2016): each counts every customer with chance `rate` (Poisson), clips its gradient to `clip`
and adds Gaussian noise of `noise_multiplier`·`clip`. Trainings draw from a pot of their own
(`accounting.RdpPot`), whose ε and δ add to those of the noisy sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass as plain_dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Annotated, Any

import dp_accounting
from pydantic import Field
from pydantic.dataclasses import dataclass

from kesit_privacy import accounting
from kesit_privacy.errors import BudgetError
from kesit_privacy.features import STRICT
from kesit_privacy.parameters import take, whole

TRAINED = "trained-weights"
"""Name of the query whose sums are of weights; the only one that costs no μ²."""

RATE_BITS = 32
"""A rate is a whole number of 2^-32: a customer is counted if a random word is below it."""

NOISE_PARTS = 1000
"""A noise multiplier is a whole number of thousandths."""

WANDERING = 0.15
"""Standard deviation of all noise on a weight of the average, of a study that names no step."""

LARGEST_STEP = 1024.0
MAX_STEPS = 10_000
LARGEST_NOISE = 10_000


@dataclass(frozen=True, config=STRICT)
class Training:
    """The table `[classification.training]`.

    Attributes:
        share: of the study's ε and δ, for the pot; the noisy sums (evaluation) have the rest.
        hidden: units of the hidden layer.
        rounds: trainings that the pot pays for, failed attempts included; each is one average.
        steps: of one training.
        rate: chance that a step counts a customer.
        batch: customers that a step is taken to count at a member, which scales its length; None:
            what `rate` gives where the declared customers are divided evenly among the smallest
            roster.
        clip: largest norm of one customer's gradient.
        learning_rate: length of a step, in gradients; None: such that the noise moves a weight by
            `WANDERING` in all (a shorter way learns less than it could, a longer one drowns).
        noise_multiplier: standard deviation of a step's noise over `clip`; None: the least that the
            pot pays for.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    hidden: Annotated[int, Field(ge=1, le=256)] = 8
    rounds: Annotated[int, Field(ge=1, le=20)] = 4
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 10
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    batch: Annotated[int, Field(ge=1, le=10**9)] | None = None
    clip: Annotated[float, Field(ge=2**-10, le=2**10)] = 1.0
    learning_rate: Annotated[float, Field(gt=0, le=LARGEST_STEP)] | None = None
    noise_multiplier: Annotated[float, Field(ge=0.2, le=LARGEST_NOISE)] | None = None

    @cached_property
    def exact_share(self) -> Fraction:
        """The share as the decimal number that stands in the file."""
        return Fraction(repr(self.share))

    @property
    def event(self) -> Event:
        """What one training costs. `settled` has filled in the noise."""
        assert self.noise_multiplier is not None
        rate = max(1, math.floor(self.rate * 2**RATE_BITS))
        return Event(rate, math.floor(self.noise_multiplier * NOISE_PARTS + 1e-6), self.steps)


@plain_dataclass(frozen=True)
class Event:
    """What a training costs, in whole numbers.

    Attributes:
        rate: in units of 2^-32; noise: multiplier in thousandths; steps: of DP-SGD.
    """

    rate: int
    noise: int
    steps: int

    @classmethod
    def read(cls, value: Any) -> Event:
        """From a spending log.

        Raises:
            ProtocolError: no such numbers.
        """
        rate, noise, steps = take(value, "rate", "noise", "steps")
        return cls(
            whole(rate, 1, 1 << RATE_BITS, "rate"),
            whole(noise, 1, LARGEST_NOISE * NOISE_PARTS, "noise"),
            whole(steps, 1, MAX_STEPS, "steps"),
        )

    def times(self, count: int) -> dp_accounting.DpEvent:
        """So many trainings, as the ledger's currency: Poisson-sampled Gaussians."""
        rate, noise = self.rate / 2**RATE_BITS, self.noise / NOISE_PARTS
        step = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        return dp_accounting.SelfComposedDpEvent(step, self.steps * count)


@lru_cache(maxsize=64)
def open_pot(epsilon: float, delta: float, event: Event, rounds: int) -> accounting.RdpPot:
    """An empty pot for a study's trainings, at the order that is best for all of them."""
    return accounting.RdpPot.open_for(epsilon, delta, event.times(rounds))


@lru_cache(maxsize=64)
def least_noise(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The smallest noise multiplier, in thousandths, with which `steps` steps cost epsilon at most.

    >>> least_noise(1.0, 1e-5, 1.0, 1)
    4.008

    Raises:
        BudgetError: none up to `LARGEST_NOISE` would do.
    """
    low, high = 0, LARGEST_NOISE * NOISE_PARTS
    floor = max(1, math.floor(rate * 2**RATE_BITS))

    def fits(noise: int) -> bool:
        item = Event(floor, noise, steps).times(1)
        return accounting.RdpPot.open_for(epsilon, delta, item).spent(item) <= epsilon

    if not fits(high):
        raise BudgetError(
            f"No noise makes {steps} steps cost epsilon = {epsilon:g} at delta = {delta:g}.",
            remedy="Train for fewer steps, or agree on a larger epsilon or training.share.",
        )
    while high - low > 1:
        middle = math.isqrt(max(low, 1) * high) if high > 2 * low + 2 else (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high / NOISE_PARTS
