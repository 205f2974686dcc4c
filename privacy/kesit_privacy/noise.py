"""Noise: discrete Gaussians on the lattice, and what stands in for them in simulations.

Releases use OpenDP's sampler of the discrete Gaussian (Canonne, Kamath and Steinke 2020), exact in
rational arithmetic and fed by the operating system's generator. Simulations may use a seeded,
vectorised source; every hello then says so under the client's signature, every honest node outside
simulations refuses it, and every result that it touched carries `SIMULATED`.
"""

from __future__ import annotations

import math
import secrets
from fractions import Fraction
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from kesit_privacy.features import IntArray

WordArray = NDArray[np.uint32]

NoiseMode = Literal["secure", "seeded", "off"]

SECURE = "secure"
"""The mode of a real client: OpenDP's noise, masked sums. Any other mode is a simulation's."""

SIMULATED = "simulated noise, not releasable"

SMALLEST_SHARE_VARIANCE = 16
"""Four lattice units of standard deviation: below it a sum of shares loses noise (rule 8)."""

LARGEST_SHARE_VARIANCE = 1 << 108
"""Noise beyond 2^54 units would wrap around in a 64-bit sum."""


def mode_label(noise: NoiseMode, *, masked: bool, simulated: bool) -> str:
    """What a client's hello says of how it answers; `SECURE` only for the real thing."""
    if noise == "secure" and masked and not simulated:
        return SECURE
    return f"simulated-{noise}" + ("" if masked else "-unmasked")


class NoiseSource(Protocol):
    """Draws one client's share of noise."""

    @property
    def mode(self) -> NoiseMode:
        """What the client's hello says of this source."""

    def sample(self, variance: Fraction, size: int) -> IntArray:
        """`size` independent draws of at least `variance`, in lattice units; one call a vector."""

    def words(self, size: int) -> WordArray:
        """`size` independent uniform 32-bit words: whom a step of DP-SGD counts."""


class SecureNoise:
    """OpenDP's discrete Gaussian. The only source whose results may be released."""

    mode: NoiseMode = "secure"

    def sample(self, variance: Fraction, size: int) -> IntArray:
        import opendp.prelude as dp  # imported on first use: it takes seconds

        dp.enable_features("contrib")
        space = dp.vector_domain(dp.atom_domain(T="i64"), size=size), dp.l2_distance(T="f64")
        measurement = dp.m.make_gaussian(*space, scale=standard_deviation(variance))
        return np.array(measurement([0] * size), dtype=np.int64)

    def words(self, size: int) -> WordArray:
        return np.frombuffer(secrets.token_bytes(4 * size), dtype=np.uint32)


class SeededNoise:
    """Rounded Gaussians from a seeded generator, for simulations only.

    Args:
        seed: any integers; the same seed draws the same noise in the same order.
    """

    mode: NoiseMode = "seeded"

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed)))

    def sample(self, variance: Fraction, size: int) -> IntArray:
        draws = self._generator.normal(0.0, math.sqrt(variance), size)
        return np.rint(draws).astype(np.int64)

    def words(self, size: int) -> WordArray:
        return self._generator.integers(1 << 32, size=size, dtype=np.uint32)


class NoNoise:
    """Zeros, to compare a federation with the pooled computation. Simulations only."""

    mode: NoiseMode = "off"

    def sample(self, variance: Fraction, size: int) -> IntArray:
        return np.zeros(size, dtype=np.int64)

    def words(self, size: int) -> WordArray:
        # Every step counts the same customers where there is no noise to average out.
        return np.random.default_rng(0).integers(1 << 32, size=size, dtype=np.uint32)


def standard_deviation(variance: Fraction) -> float:
    """The smallest double whose square is at least `variance`."""
    scale = math.sqrt(variance)
    while Fraction(scale) ** 2 < variance:
        scale = math.nextafter(scale, math.inf)
    return scale
