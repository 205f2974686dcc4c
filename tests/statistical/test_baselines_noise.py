"""The baselines' noise as a distribution: scale and shape, at what each of them releases.

Everything is seeded, so runs repeat. A Kolmogorov-Smirnov test rejects sound noise with probability
`FALSE_ALARM` for a fresh seed; each test shows that it would reject a scale that is off by a tenth.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kesit_privacy.features import FloatArray
from kesit_simulations.baselines import dp_lloyd as su
from kesit_simulations.baselines import eug_kmeans as grid
from kesit_simulations.baselines import fast_lloyd as fast

FALSE_ALARM = 1e-6
K, DIMENSIONS, ROWS = 5, 4, 800
DRAWS = 100_000


def looks_like(noise: FloatArray, law: stats.rv_continuous, scale: float) -> bool:
    return bool(stats.kstest(noise.ravel(), law(scale=scale).cdf).pvalue >= FALSE_ALARM)


def uniform_rows() -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(1)
    return rng.uniform(-1, 1, (ROWS, DIMENSIONS)), rng.uniform(-0.5, 0.5, (K, DIMENSIONS))


def test_dplloyd_adds_laplace_noise() -> None:
    rows, centres = uniform_rows()
    split = su.Split.of(ROWS, DIMENSIONS, K, 1.0)
    exact = su.noisy_sums(rows, centres, su.Split(1, 0.0, 0.0), np.random.default_rng(0))
    rng = np.random.default_rng(2)
    drawn = [su.noisy_sums(rows, centres, split, rng) for _ in range(DRAWS // (K * DIMENSIONS))]
    for place, scale in enumerate((split.sum_scale, split.count_scale)):
        noise = np.stack([draw[place] for draw in drawn]) - exact[place]
        assert looks_like(noise, stats.laplace, scale)
        assert not looks_like(noise, stats.laplace, 0.9 * scale)


@pytest.mark.parametrize("factor", [1.0, np.sqrt(5 / 4)])
def test_fastlloyd_adds_gaussian_noise(factor: float) -> None:
    rows, centres = uniform_rows()
    parameters = fast.Parameters.of(ROWS, DIMENSIONS, K, 1.0, 1e-5)
    silent = fast.Parameters(1, (1.0,), 0.0, 0.0)
    radius = parameters.radii[-1]
    exact = fast.noisy_sums(rows, centres, radius, silent, np.random.default_rng(0))
    rng = np.random.default_rng(3)
    drawn = [
        fast.noisy_sums(rows, centres, radius, parameters, rng, factor)
        for _ in range(DRAWS // (K * DIMENSIONS))
    ]
    sigmas = (factor * parameters.sum_factor * radius, factor * parameters.count_sigma)
    for place, sigma in enumerate(sigmas):
        noise = np.stack([draw[place] for draw in drawn]) - exact[place]
        assert looks_like(noise, stats.norm, sigma)
        assert not looks_like(noise, stats.norm, 0.9 * sigma)


def test_the_grid_adds_laplace_noise() -> None:
    rows = (uniform_rows()[0] + 1) / 2
    exact = grid.noisy_grid(rows, 18, np.inf, np.random.default_rng(0))
    noise = grid.noisy_grid(rows, 18, 0.3, np.random.default_rng(4)) - exact
    assert len(noise) == 18**4
    assert looks_like(noise, stats.laplace, 1 / 0.3)
    assert not looks_like(noise, stats.laplace, 0.9 / 0.3)
