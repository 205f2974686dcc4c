"""Intervals of a classifier's metrics hold the truth as often as they say, over many releases.

Customers and noise are seeded, so a run does not fail by chance. Of 1,000 releases a sound 95 %
interval would leave 92-98 % (4.3 standard deviations) with probability 2e-5 a metric: no seed had
to be sought.
"""

from __future__ import annotations

import numpy as np
import pytest

from evaluationkit import ARMS, Classes, Population, opened
from kesit_privacy.features import IntArray
from kesit_server.classification.judging.calibration import _groups
from kesit_server.classification.judging.evaluation import assess
from kesit_server.classification.judging.uplift import uplift

RELEASES = 1000

ONE_IN_13 = 14.75
"""σ of an evaluation with 8 % of μ² at ε = 1, δ = 1e-5, five members of whom one may collude."""

ALL = 4.17
"""The same with all of μ²."""


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, ALL, ONE_IN_13], ids=["none", "all", "0.08"])
@pytest.mark.parametrize(
    "population",
    [
        Population(6500, 0.24, 3.75),
        Population(9000, 0.12, 3.3, confidence=1.2),
        Population(1400, 0.265, 2.4),
        Population(20_000, 0.03, 2.0),
    ],
    ids=["adult", "bank", "telco", "rare"],
)
def test_intervals_cover(population: Population, sigma: float) -> None:
    query = population.query(sigma)
    truths = population.truths(query)
    rng = np.random.default_rng(1)
    held: dict[str, list[bool]] = {}
    for _ in range(RELEASES):
        found = assess(query, population.released(query, sigma, rng), population.expected)
        [agreement] = found.calibration
        told = found.metrics | {
            "base_rate": found.base_rates[1],
            "slope": agreement.slope,
            "intercept": agreement.intercept,
        }
        for name, metric in told.items():
            if metric.interval_95 is not None:
                low, high = metric.interval_95
                held.setdefault(name, []).append(low <= truths[name] <= high)
    assert set(held) == set(truths)
    assert all(len(hits) > 0.8 * RELEASES for hits in held.values())
    rates = {name: float(np.mean(hits)) for name, hits in held.items()}
    assert all(0.92 <= rate <= 0.98 for rate in rates.values()), rates


@pytest.mark.slow
@pytest.mark.parametrize("confidence", [1.0, 1.3, 2.0])
@pytest.mark.parametrize("sigma", [0.0, ALL, ONE_IN_13], ids=["none", "all", "0.08"])
def test_the_interval_of_the_calibration_error_covers(confidence: float, sigma: float) -> None:
    """The true error is that of the bars; nothing is promised on the other side of 98 %: it is at
    the edge of what can be, 0, that an interval that cannot reach below covers more."""
    population = Population(6500, 0.2, 3.0, confidence)
    query = population.query(sigma)
    points, truth = population.draw(np.random.default_rng(3), 2_000_000)
    cells = np.searchsorted(np.array(query.edges[0]), points, side="right")
    size = np.bincount(cells) / len(points)
    off = np.bincount(cells, truth - 1 / (1 + np.exp(-points / 1024))) / len(points)
    inside = population.expected.inside(0, query.edges[0])
    bars = _groups(inside.sizes.sum(axis=1), sigma)
    true = np.sqrt(sum(off[list(bar)].sum() ** 2 / size[list(bar)].sum() for bar in bars))
    rng = np.random.default_rng(4)
    held = []
    for _ in range(RELEASES):
        found = assess(query, population.released(query, sigma, rng), population.expected)
        interval = found.calibration[0].error.interval_95
        assert interval is not None
        held.append(interval[0] <= true <= interval[1])
    assert np.mean(held) >= 0.92


FEWER = 300
"""4.3 standard deviations of a rate of 95 % over as many releases are 5.4 %."""

TRIANGLE = ((1.6, 0.0), (-0.8, 1.4), (-0.8, -1.4))


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [0.0, ALL, ONE_IN_13], ids=["none", "all", "0.08"])
@pytest.mark.parametrize(
    "population",
    [
        Classes(6000, (0.5, 0.3, 0.2), TRIANGLE),
        Classes(15_000, (0.9, 0.06, 0.04), TRIANGLE, confidence=1.3),
    ],
    ids=["three", "rare"],
)
def test_intervals_of_more_classes_cover(population: Classes, sigma: float) -> None:
    """A mean over classes takes their errors for as alike as can be, so it may hold more; so does
    average precision of a common class, whose cells are taken for independent."""
    query, truths = population.query(sigma), population.truths()
    rng = np.random.default_rng(5)
    held: dict[str, list[bool]] = {}
    for _ in range(FEWER):
        found = assess(query, population.released(query, sigma, rng), population.expected)
        told = dict(found.metrics)
        for kind, metrics in enumerate(found.by_class):
            told |= {f"{kind} {name}": metric for name, metric in metrics.items()}
            told[f"{kind} base_rate"] = found.base_rates[kind]
        for name, metric in told.items():
            if metric.interval_95 is not None:
                low, high = metric.interval_95
                held.setdefault(name, []).append(low <= truths[name] <= high)
    assert set(held) == set(truths)
    rates = {name: float(np.mean(hits)) for name, hits in held.items()}
    assert all(len(hits) > 0.8 * FEWER for hits in held.values())
    assert all(rate >= 0.896 for rate in rates.values()), rates


@pytest.mark.slow
@pytest.mark.parametrize("effect", [0.0, 0.05])
@pytest.mark.parametrize("sigma", [0.0, ALL, ONE_IN_13], ids=["none", "all", "0.08"])
def test_the_interval_of_an_uplift_covers(effect: float, sigma: float) -> None:
    """Half of the customers are treated, and as many more of them have the outcome."""
    population = Population(12_000, 0.2, 3.0)
    query = population.query(sigma, ARMS)
    threshold = population.expected.threshold
    edge = query.edges[0][int(np.argmin(np.abs(np.array(query.edges[0]) - threshold)))]

    def draw(rng: np.random.Generator, size: int) -> tuple[IntArray, IntArray, IntArray]:
        points, truth = population.draw(rng, size)
        arms = rng.integers(0, 2, size)
        moved = (arms == 1) & ~truth & (rng.random(size) < effect)
        return points, (truth | moved).astype(np.int64), arms

    points, truth, arms = draw(np.random.default_rng(6), 4_000_000)
    groups = {"chosen": points >= edge, "others": points < edge, "everybody": points == points}
    true = {
        name: float(truth[group & (arms == 1)].mean() - truth[group & (arms == 0)].mean())
        for name, group in groups.items()
    }
    rng = np.random.default_rng(7)
    held: dict[str, list[bool]] = {name: [] for name in groups}
    for _ in range(FEWER):
        points, truth, arms = draw(rng, population.size)
        cells = np.searchsorted(np.array(query.edges[0]), points, side="right")
        places = (arms * (len(query.edges[0]) + 1) + cells) * 2 + truth
        values = np.bincount(places, minlength=query.length).astype(float)
        (found,) = uplift(query, opened(values, sigma, rng), threshold)
        for name, hits in held.items():
            interval = getattr(found, name).difference.interval_95
            if interval is not None:
                hits.append(interval[0] <= true[name] <= interval[1])
    assert all(len(hits) > 0.8 * FEWER for hits in held.values())
    rates = {name: float(np.mean(hits)) for name, hits in held.items()}
    assert all(rate >= 0.896 for rate in rates.values()), rates
