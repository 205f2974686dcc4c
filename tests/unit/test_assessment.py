"""The evaluation sum, read: figures by hand without noise, and what the intervals hold with it."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, CodeArray, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import Evaluation
from kesit_privacy.queries import evaluation as parts
from kesit_server.segmentation import assessment as module
from kesit_server.segmentation.assessment import Assessment, assess, evaluation_query
from kesit_server.segmentation.synopsis import Synopsis
from kesit_server.sums import NoisySum
from kit import small_study

FIGURES = (
    "customers",
    "mean_squared_distance",
    "silhouette",
    "distance_50",
    "distance_75",
    "distance_90",
)
REACH = 4000
ROWS: list[tuple[int, int]] = [
    (1000, 1000),  # on the first centre
    (1000, 2000),  # 1,000 from it
    (1000, 3000),
    (9000, 1500),  # 500 from the second
    (9000, 7000),  # 6,000 from it: beyond the reach
]
CENTRES = ((1000, 1000), (9000, 1000), (16_000, 16_000))


def query_of(reach: int = REACH, bins: int = 16) -> Evaluation:
    return Evaluation(Embedding.of(small_study()), CENTRES, (0, 0), reach, bins, SCALE_BITS)


def exact(query: Evaluation, codes: CodeArray) -> FloatArray:
    values: FloatArray = query.sum(codes) / 2.0**query.scale_bits
    return values


def read(
    query: Evaluation, values: FloatArray, sigma: float = 1.0, noisy: bool = False
) -> Assessment:
    return assess(query, NoisySum("evaluation", values, sigma, 3, 1), noisy=noisy)


CODES = np.array(ROWS, dtype=np.int16)


# --- by hand, without noise ----------------------------------------------------------------------


def by_hand() -> dict[str, float]:
    """Each figure from the five rows, with nothing but school geometry."""
    near, second = [], []
    for row in ROWS:
        first, other, *_ = sorted(math.dist(row, centre) for centre in CENTRES)
        near.append(first)
        second.append(other)
    assert near == [0, 1000, 2000, 500, 6000]
    squares = [min(a, REACH) ** 2 for a in near]
    silhouettes = [(b - a) / b for a, b in zip(near, second, strict=True)]
    return {
        "customers": 5.0,
        "mean_squared_distance": sum(squares) / 5 / GRID**2,
        "silhouette": sum(silhouettes) / 5,
        # Cells of 250: the middle row, at 1,000, is in the fifth, which ends at 1,250; the fourth
        # of five, at 2,000, in the ninth; the last beyond the reach.
        "distance_50": 1250 / GRID,
        "distance_75": 2250 / GRID,
        "distance_90": REACH / GRID,
    }


def test_figures_by_hand() -> None:
    found = read(query_of(), exact(query_of(), CODES))
    assert tuple(found.figures) == FIGURES
    for name, value in by_hand().items():
        assert found.figures[name].value == pytest.approx(value, rel=1e-6), name
    assert found.sizes == pytest.approx([3, 2, 0], abs=1e-9)
    assert found.size_sigma == 0
    assert found.reach == REACH / GRID


def test_without_noise_an_interval_is_a_point_and_a_quantile_s_is_its_cell() -> None:
    query = query_of()
    found = read(query, exact(query, CODES))
    for name, figure in found.figures.items():
        within = query.reach / GRID / query.bins if name.startswith("distance_") else 0.0
        low, high = figure.value - within, figure.value
        assert figure.interval_95 == pytest.approx((low, high), rel=1e-12)


def test_the_interval_of_a_quantile_holds_the_true_one() -> None:
    """Not only its cell's end: the rows' own quantiles lie in the intervals, without noise."""
    query = query_of()
    found = read(query, exact(query, CODES))
    rows = CODES.astype(np.float64)
    centres = np.array(query.centres, dtype=np.float64)
    distances = np.sqrt(((rows[:, None] - centres[None]) ** 2).sum(axis=2).min(axis=1)) / GRID
    for percent in (50, 75, 90):
        low, high = found.figures[f"distance_{percent}"].interval_95
        true = min(float(np.quantile(distances, percent / 100, method="inverted_cdf")), found.reach)
        assert low - 1e-9 <= true <= high + 1e-9


def test_each_figure_has_the_noise_of_its_own_part() -> None:
    """σ in customers: σ over the square root of the part's share of Δ²."""
    found = read(query_of(), exact(query_of(), CODES), sigma=3.0, noisy=True)
    assert found.size_sigma == pytest.approx(3.0 / math.sqrt(parts.SIZE / 100), rel=1e-6)


def test_customers_beyond_the_reach_count_as_if_they_were_at_it() -> None:
    far = np.array([(1000, 1000 + REACH), (1000, 15_000)], dtype=np.int16)
    for row in far:
        found = read(query_of(), exact(query_of(), row[None]))
        assert found.figures["mean_squared_distance"].value == pytest.approx((REACH / GRID) ** 2)
        assert found.figures["distance_50"].value == REACH / GRID
    inside = read(query_of(), exact(query_of(), np.array([(1000, 999 + REACH)], dtype=np.int16)))
    assert inside.figures["mean_squared_distance"].value < (REACH / GRID) ** 2


def test_every_customer_on_its_centre_is_a_perfect_fit() -> None:
    codes = np.array([CENTRES[0]] * 4 + [CENTRES[1]] * 3, dtype=np.int16)
    figures = read(query_of(), exact(query_of(), codes)).figures
    assert figures["mean_squared_distance"].value == 0
    assert figures["silhouette"].value == pytest.approx(1, rel=1e-6)
    # Less than a cell of distances away, as well as can be told.
    assert figures["distance_90"].value == pytest.approx(REACH / 16 / GRID)


def test_the_query_s_reach_is_a_quantile_of_the_synopsis() -> None:
    """Of 100 synthetic customers at 1 .. 100 steps from the only centre near them."""
    space = Embedding.of(small_study())
    codes = np.stack([np.arange(1, 101), np.zeros(100)], axis=1).astype(np.int16)
    synopsis = Synopsis(space, codes, np.ones(100), (7, 8), ())
    centres = np.array([[0.4, -3.0], [15_000.6, 20_000.0]])
    query = evaluation_query(space, centres, synopsis)
    assert query.centres == ((0, 0), (15_001, GRID))
    assert query.fill == (7, 8)
    assert query.reach == math.ceil(module.REACH_QUANTILE * 100)
    assert (query.bins, query.scale_bits) == (module.BINS, SCALE_BITS)


def test_the_result_is_plain_json() -> None:
    told = read(query_of(), exact(query_of(), CODES)).as_dict()
    assert set(told) == {"reach", *FIGURES}
    assert told["reach"] == pytest.approx(REACH / GRID, rel=1e-3)
    assert told["customers"] == {"value": 5.0, "interval_95": [5.0, 5.0]}


# --- with noise ----------------------------------------------------------------------------------

SEEDS = 400
AT_LEAST = int(stats.binom.ppf(1e-6, SEEDS, 0.94))
"""Hits of an interval that holds the truth with 95 %, its ends 1 % uncertain from 1,000 draws."""
AT_MOST = int(stats.binom.isf(1e-6, SEEDS, 0.96))


@cache
def a_thousand() -> CodeArray:
    """1,000 customers around the three centres."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 1000)
    rows = np.array(CENTRES)[group] + rng.normal(0, 1200, (1000, 2))
    codes: CodeArray = np.clip(rows, 0, GRID).astype(np.int16)
    return codes


@pytest.mark.parametrize("sigma", [3.0, 25.0])
def test_intervals_hold_the_truth_about_95_times_of_100(sigma: float) -> None:
    """Over 400 noises. Fresh seeds: each of nine bounds fails with probability 1e-6.

    Quantiles are the ends of cells, so their intervals hold the truth rather more often.
    """
    query = query_of()
    values = exact(query, a_thousand())
    truth = read(query, values).figures
    hits = dict.fromkeys(FIGURES, 0)
    for seed in range(SEEDS):
        rng = np.random.default_rng([7, seed])
        found = read(query, values + rng.normal(0, sigma, query.length), sigma, noisy=True)
        for name, figure in found.figures.items():
            low, high = figure.interval_95
            hits[name] += low <= truth[name].value <= high
    assert min(hits.values()) >= AT_LEAST, hits
    for name in ("customers", "mean_squared_distance", "silhouette"):
        assert hits[name] <= AT_MOST, hits


def test_sizes_are_the_counts_and_their_sigma_is_true() -> None:
    """Of 3 x 400 noisy sizes the mean is the count and the deviation `size_sigma`.

    Bounds of 4.9 standard errors: a fresh seed fails with probability 4e-6.
    """
    query, sigma = query_of(), 5.0
    values = exact(query, a_thousand())
    counts = read(query, values).sizes
    assert counts.sum() == pytest.approx(1000)
    off = []
    for seed in range(SEEDS):
        rng = np.random.default_rng([8, seed])
        found = read(query, values + rng.normal(0, sigma, query.length), sigma, noisy=True)
        off.append((found.sizes - counts) / found.size_sigma)
    standard = np.concatenate(off)
    assert abs(standard.mean()) < 4.9 / math.sqrt(len(standard))
    assert abs(math.sqrt((standard**2).mean()) - 1) < 4.9 / math.sqrt(2 * len(standard))


def test_the_same_sum_reads_the_same() -> None:
    values = exact(query_of(), a_thousand())
    first = read(query_of(), values, 9.0, noisy=True)
    assert read(query_of(), values, 9.0, noisy=True).as_dict() == first.as_dict()


@pytest.mark.parametrize("seed", range(30))
def test_no_noise_makes_a_figure_impossible(seed: int) -> None:
    """Noise far above five customers: nothing is negative or beyond the reach."""
    query = query_of()
    noise = np.random.default_rng(seed).normal(0, 50, query.length)
    found = read(query, exact(query, CODES) + noise, 50.0, noisy=True)
    reach = REACH / GRID
    most = {"customers": math.inf, "mean_squared_distance": reach**2, "silhouette": 1.0}
    for name, figure in found.figures.items():
        low, high = figure.interval_95
        for value in (figure.value, low, high):
            assert 0 <= value <= most.get(name, reach) * (1 + 1e-12), name
        assert low <= high


def test_nothing_but_negative_noise_is_still_a_figure() -> None:
    query = query_of()
    found = read(query, np.full(query.length, -100.0), 1.0, noisy=True)
    assert found.figures["customers"].value == 1  # no division by nothing
    assert found.figures["mean_squared_distance"].value == 0
    assert all(np.isfinite(figure.interval_95).all() for figure in found.figures.values())
