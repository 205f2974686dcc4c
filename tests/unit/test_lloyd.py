"""The shrunk Lloyd step, radii and weighted clustering, against hand-computed cases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import GRID, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_privacy.study import Study
from kesit_server.segmentation.lloyd import (
    POOLED_BELOW,
    Step,
    cluster,
    cluster_query,
    radius_within,
    round_centres,
    shrunk_step,
    whole_centres,
)
from kesit_server.segmentation.synopsis import Synopsis
from kesit_server.sums import NoisySum
from kit import small_study
from stand_in import cluster_values

RADIUS = 3000
SHARE = 10
COUNTED = math.sqrt(SHARE / 100)
SUMMED = math.sqrt(1 - SHARE / 100)
"""A row counts √s and its offset √(1-s)/r a grid step, s the share of the counts."""


def numeric_study(dimensions: int, levels: int = 0) -> Study:
    features: list[dict[str, object]] = [
        {"kind": "numeric", "name": f"x{i}", "lower": 0.0, "upper": 1.0} for i in range(dimensions)
    ]
    if levels:
        names = [f"l{i}" for i in range(levels)]
        features.append({"kind": "categorical", "name": "c", "levels": names})
    return small_study(features=features)


@dataclass(frozen=True)
class Case:
    """A cluster sum around centres in the middle of the box that opened as counts and sums."""

    study: Study
    counts: FloatArray
    sums: FloatArray
    sigma: float
    at: int = GRID // 2

    @property
    def query(self) -> ClusterSums:
        space = Embedding.of(self.study)
        k = len(self.counts)
        centres = ((self.at,) * space.dimensions,) * k
        fill = (0,) * len(space.features)
        return ClusterSums(space, centres, (RADIUS,) * k, fill, SHARE, SCALE_BITS)

    def step(self) -> Step:
        values = cluster_values(self.query, self.counts, self.sums)
        return shrunk_step(self.query, NoisySum("lloyd-1", values, self.sigma, 3, 1))

    @property
    def moves(self) -> FloatArray:
        """How far the centres went, shape (k, dimensions)."""
        moved: FloatArray = self.step().centres - self.at
        return moved


def two_offsets(dimensions: int, sizes: tuple[float, float], sigma: float) -> Case:
    """400 and 900 customers whose mean offsets have these lengths, along the first axis."""
    assert dimensions >= 1
    counts = np.array([400.0, 900.0])
    sums = np.zeros((2, dimensions))
    sums[:, 0] = counts * np.array(sizes)
    return Case(numeric_study(dimensions), counts, sums, sigma)


def offset_variance(sigma: float, count: float) -> float:
    """τ²: the noise of a mean offset, in grid steps squared, on each coordinate."""
    return (sigma * RADIUS / SUMMED / count) ** 2


# --- the James-Stein step ------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [1, 2, POOLED_BELOW - 1])
def test_in_few_dimensions_one_factor_shrinks_all_offsets(dimensions: int) -> None:
    """1 - d·(τ1² + τ2²)/(‖y1‖² + ‖y2‖²)."""
    case = two_offsets(dimensions, (100.0, 300.0), sigma=5.0)
    noise = dimensions * (offset_variance(5.0, 400) + offset_variance(5.0, 900))
    factor = 1 - noise / (100.0**2 + 300.0**2)
    assert 0.3 < factor < 0.99
    expected = np.zeros((2, dimensions))
    expected[:, 0] = [100 * factor, 300 * factor]
    np.testing.assert_allclose(case.moves, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("dimensions", [POOLED_BELOW, 12])
def test_in_many_dimensions_each_offset_is_shrunk_by_itself(dimensions: int) -> None:
    """1 - (d-2)·τ²/‖y‖², each with the noise of its own count."""
    case = two_offsets(dimensions, (200.0, 300.0), sigma=5.0)
    factors = [
        1 - (dimensions - 2) * offset_variance(5.0, count) / size**2
        for count, size in ((400, 200.0), (900, 300.0))
    ]
    assert 0.1 < factors[0] < factors[1] < 0.999
    expected = np.zeros((2, dimensions))
    expected[:, 0] = [200 * factors[0], 300 * factors[1]]
    np.testing.assert_allclose(case.moves, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("dimensions", [2, POOLED_BELOW])
def test_offsets_no_longer_than_their_noise_move_nothing(dimensions: int) -> None:
    """The positive part: a factor below 0 is 0, never a step in the wrong direction."""
    case = two_offsets(dimensions, (10.0, -10.0), sigma=5.0)
    assert offset_variance(5.0, 900) > 10.0**2 / 9
    np.testing.assert_array_equal(case.moves, np.zeros((2, dimensions)))
    still = two_offsets(dimensions, (0.0, 0.0), sigma=5.0)
    np.testing.assert_array_equal(still.moves, np.zeros((2, dimensions)))


@pytest.mark.parametrize("dimensions", [2, POOLED_BELOW])
def test_without_noise_a_centre_goes_to_the_mean_of_its_rows(dimensions: int) -> None:
    case = two_offsets(dimensions, (100.0, -300.0), sigma=0.0)
    np.testing.assert_allclose(case.moves[:, 0], [100, -300], rtol=1e-9)


@pytest.mark.parametrize("dimensions", [2, POOLED_BELOW])
def test_a_cluster_under_two_sigma_stays(dimensions: int) -> None:
    """And has no part in the factor of the others; counts and their σ are told all the same."""
    sigma = 2.0
    least = 2 * sigma / COUNTED
    counts = np.array([least * 0.999, least * 1.001, -5.0, 1e6])
    sums = np.zeros((4, dimensions))
    sums[:, 0] = counts * 2000
    case = Case(numeric_study(dimensions), counts, sums, sigma)
    step = case.step()
    assert case.moves[[0, 2]].tolist() == [[0.0] * dimensions] * 2
    assert case.moves[3, 0] > 0
    np.testing.assert_allclose(step.counts, counts, rtol=1e-6)
    assert step.count_sigma == pytest.approx(sigma / COUNTED, rel=1e-6)
    big = replace(case, counts=counts[[1, 3]], sums=sums[[1, 3]])
    np.testing.assert_allclose(case.moves[[1, 3]], big.moves, rtol=1e-9)


def test_a_loud_small_cluster_has_its_part_in_the_common_factor() -> None:
    """Just over 2σ it shrinks the others too: the factor is pooled over what moves, no more."""
    sigma = 2.0
    counts = np.array([2.5 * sigma / COUNTED, 400.0])
    sums = np.zeros((2, 2))
    sums[:, 0] = counts * 600
    case = Case(numeric_study(2), counts, sums, sigma)
    noise = 2 * (offset_variance(sigma, counts[0]) + offset_variance(sigma, counts[1]))
    expected = max(0.0, 1 - noise / (2 * 600.0**2)) * 600
    np.testing.assert_allclose(case.moves[:, 0], [expected, expected], rtol=1e-4, atol=1e-9)


def test_when_nothing_rises_above_the_noise_every_centre_stays() -> None:
    case = Case(numeric_study(2), np.array([-1.0, 3.0]), np.full((2, 2), 1e5), sigma=10.0)
    assert not case.moves.any()


def test_centres_are_clipped_to_the_box() -> None:
    """At 0, at the end of a number's range, and at a level's height."""
    study = numeric_study(1, levels=2)
    dimensions = Embedding.of(study).dimensions
    assert dimensions == 5
    counts = np.array([100.0, 100.0])
    sums = np.stack([np.full(dimensions, 100 * 2500.0), np.full(dimensions, -100 * 2500.0)])
    high = Case(study, counts, sums, 0.0, at=ONE_HOT - 100).step().centres[0]
    assert high[0] == pytest.approx(ONE_HOT + 2400)
    assert high[1:].tolist() == [ONE_HOT] * 4
    top = Case(study, counts, sums, 0.0, at=GRID - 1).step().centres[0]
    assert top.tolist() == [GRID, *[ONE_HOT] * 4]
    low = Case(study, counts, sums, 0.0, at=100).step().centres[1]
    assert low.tolist() == [0] * dimensions


# --- radii, rounding, clustering -----------------------------------------------------------------


def on_a_line(places: list[int], weights: list[float]) -> Synopsis:
    """Synthetic customers of one number."""
    space = Embedding.of(numeric_study(1))
    codes = np.array(places, dtype=np.int16)[:, None]
    return Synopsis(space, codes, np.array(weights, dtype=float), (0,), ())


@pytest.mark.parametrize(
    ("quantile", "radius"),
    [(0.0, 1), (0.1, 1), (0.39, 10), (0.41, 30), (0.79, 30), (0.81, 200), (1.0, 200)],
)
def test_a_radius_is_the_quantile_of_the_synopsis_by_weight(quantile: float, radius: int) -> None:
    """Distances 0, 10, 30, 200 of the weights 1, 3, 4, 2 to the nearer of two centres."""
    synopsis = on_a_line([1000, 1010, 4970, 5200], [1, 3, 4, 2])
    assert radius_within(synopsis, np.array([[1000.0], [5000.0]]), quantile) == radius


def test_a_radius_is_rounded_up_and_never_nothing() -> None:
    assert radius_within(on_a_line([7, 7], [1, 1]), np.array([[7.0]]), 0.9) == 1
    synopsis = on_a_line([10], [1])
    assert radius_within(synopsis, np.array([[7.5]]), 0.5) == 3


def test_a_query_has_whole_centres_and_one_radius() -> None:
    synopsis = on_a_line([1000, 1010, 4970, 5200], [1, 3, 4, 2])
    query = cluster_query(synopsis, np.array([[999.6], [5000.4]]), 0.79, 30)
    assert query.centres == ((1000,), (5000,))
    assert query.radii == (30, 30)
    assert (query.fill, query.count_share, query.scale_bits) == ((0,), 30, SCALE_BITS)


def test_rounded_centres_are_in_the_box() -> None:
    space = Embedding.of(numeric_study(1, levels=2))
    centres = np.array([[-3.0, ONE_HOT + 9.0, 0.4, 0.6, 1.0], [GRID + 2.0, -1.0, 2.0, 2.0, 2.0]])
    assert whole_centres(round_centres(centres, space)) == (
        (0, ONE_HOT, 0, 1, 1),
        (GRID, 0, 2, 2, 2),
    )


def test_clustering_weighs_its_points() -> None:
    """Two heaps; the heavier point of a heap draws its centre."""
    points = np.array([[0.0], [8.0], [100.0], [104.0]])
    found = cluster(points, np.array([3.0, 1.0, 1.0, 1.0]), 2, np.random.default_rng(0), 5)
    assert sorted(found.ravel().tolist()) == pytest.approx([2, 102])


@pytest.mark.parametrize("k", [3, 5, 8])
def test_fewer_distinct_points_than_centres_repeat_centres(k: int) -> None:
    """Customers of three kinds, however many synthetic ones stand for them: no warning."""
    kinds = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = np.repeat(kinds, 4, axis=0)
    found = cluster(points, np.arange(1.0, 13.0), k, np.random.default_rng(1), 2)
    assert found.shape == (k, 2)
    assert {tuple(np.rint(c)) for c in found.tolist()} == {tuple(kind) for kind in kinds.tolist()}


def test_one_kind_of_customer_is_one_centre_again_and_again() -> None:
    found = cluster(np.full((6, 2), 5.0), np.ones(6), 3, np.random.default_rng(1), 2)
    assert found.tolist() == [[5.0, 5.0]] * 3
