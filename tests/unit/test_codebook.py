"""The codebook's synopsis, step by step, against hand-computed cases."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kesit_privacy import recipes
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, MISSING_NUMERIC, FloatArray
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums, Marginals, Query
from kesit_privacy.study import PlanStep, Study
from kesit_server.segmentation import codebook
from kesit_server.segmentation.codebook import from_marginals, learn
from kesit_server.segmentation.maxent import Fit
from kesit_server.segmentation.responses import nearest_of, responses
from kesit_server.segmentation.synopsis import Released, Synopsis
from kesit_server.sums import NoisySum
from kit import mixed_study, random_codes, small_study
from stand_in import Pooled, cluster_values

STUDY = mixed_study()
ROWS = 1500
BINS = codebook.MARGINAL_BINS


def sigmas(study: Study, sigma: float) -> dict[str, float]:
    return {step.step: sigma for step in study.plan}


def pooled(study: Study = STUDY, sigma: float = 5.0, **more: Any) -> Pooled:
    return Pooled(study, random_codes(study, ROWS), sigmas(study, sigma), **more)


def synopsis_of(federation: Pooled, seed: int = 0) -> Synopsis:
    space = Embedding.of(federation.study)
    return from_marginals(federation, space, np.random.default_rng(seed))


# --- customers drawn from marginals --------------------------------------------------------------


def number_and_level(values: FloatArray, sigma: float) -> Synopsis:
    """What is drawn when the marginals of a number and of a list of two open as `values`."""
    features = [
        {"kind": "numeric", "name": "x", "lower": 0.0, "upper": 1.0},
        {"kind": "categorical", "name": "c", "levels": ["a", "b"]},
    ]
    study = small_study(features=features)
    study = replace(study, plan=(PlanStep("marginals", "marginals", 1.0),))

    def answer(step: str, query: Query) -> FloatArray:
        assert step == "marginals"
        assert query == Marginals(Embedding.of(study), BINS, SCALE_BITS)
        return values

    return synopsis_of(Pooled(study, random_codes(study, 0), {"marginals": sigma}, answer=answer))


def test_customers_are_drawn_from_the_marginals() -> None:
    """300 in the second part of the range, 100 missing; levels 350 and 50; the rest is noise.

    Bounds of 4.9 standard errors of 4,000 draws: a fresh seed fails with probability 2e-6.
    """
    sigma = 10.0
    number = np.array([19.9, 300.0, *[-15.0] * (BINS - 2), 100.0])
    level = np.array([350.0, 50.0, 19.0, -3.0])
    found = number_and_level(np.concatenate([number, level]), sigma)
    x, c = found.codes.T
    missing = x == MISSING_NUMERIC
    inside = x[~missing]
    assert inside.min() >= GRID // BINS
    assert inside.max() < 2 * GRID // BINS
    assert len(np.unique(inside)) > 1000  # anywhere in the cell, not in its middle
    assert set(c.tolist()) == {0, 1}
    bound = 4.9 * math.sqrt(0.25 * 0.75 / len(x))
    assert abs(missing.mean() - 0.25) < bound
    assert abs((c == 1).mean() - 0.125) < bound
    assert abs((missing & (c == 1)).mean() - 0.25 * 0.125) < bound  # independent
    # Missing numbers stand at the mean of the counts above the noise; a level has no such place.
    assert found.fill == (round(1.5 * GRID / BINS), 0)
    # Every cell counts for the number of customers, also those that are noise.
    total = (number.sum() + level.sum()) / 2
    np.testing.assert_allclose(found.weights, total / codebook.SYNTHETIC_CUSTOMERS)


def test_marginals_of_nothing_but_noise_are_flat() -> None:
    found = number_and_level(np.full(BINS + 1 + 4, 1.0), sigma=10.0)
    x, c = found.codes.T
    assert set(c.tolist()) == {0, 1, 2, 3}
    assert abs((x == MISSING_NUMERIC).mean() - 1 / (BINS + 1)) < 0.025
    assert x.max() > GRID * 0.99
    assert x.min() == MISSING_NUMERIC
    assert found.fill == (GRID // 2, 0)


def test_there_is_a_customer_at_least() -> None:
    """Counts that add up to less than nothing: weights stay positive."""
    found = number_and_level(np.full(BINS + 1 + 4, -9.0), sigma=1.0)
    assert found.weights.sum() == pytest.approx(1)


# --- levels --------------------------------------------------------------------------------------


def levels_asked(federation: Pooled) -> list[ClusterSums]:
    queries = [query for step, query in federation.asked if step.startswith("cells-")]
    assert all(isinstance(query, ClusterSums) for query in queries)
    return queries  # type: ignore[return-value]


@pytest.mark.parametrize("sigma", [1e-3, 4.0, 11.0, 40.0, 1e5])
def test_a_level_has_as_many_cells_as_its_noise_can_tell_apart(sigma: float) -> None:
    """CELLS·n/(σ√d), at least k and at most MAX_CELLS, with the σ that this step will have."""
    federation = pooled()
    first, second = recipes.levels(STUDY)
    federation.ahead = sigmas(STUDY, 1e9) | {first: sigma, second: 2 * sigma}
    synopsis_of(federation)
    root = math.sqrt(Embedding.of(STUDY).dimensions)
    for query, noise in zip(levels_asked(federation), (sigma, 2 * sigma), strict=True):
        wanted = codebook.CELLS * STUDY.declared_customers / (noise * root)
        most, least = codebook.MAX_CELLS, STUDY.segmentation.k
        assert len(query.centres) == round(min(most, max(least, wanted)))


def test_the_steps_are_the_plan_s_in_order() -> None:
    federation = pooled()
    synopsis = synopsis_of(federation)
    levels = recipes.levels(STUDY)
    assert len(levels) >= 2
    assert federation.steps == ["marginals", *levels]
    assert [one.query for one in synopsis.released] == [query for _, query in federation.asked]


def test_a_level_s_radius_comes_from_the_synopsis(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quantile of its own distances, of no customer's; counts have their share."""
    seen: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    original = codebook.cluster_query

    def remembered(synopsis: Synopsis, centres: FloatArray, *rest: Any) -> ClusterSums:
        seen.append((synopsis.points, synopsis.weights, centres))
        return original(synopsis, centres, *rest)

    monkeypatch.setattr(codebook, "cluster_query", remembered)
    federation = pooled()
    synopsis_of(federation)
    queries = levels_asked(federation)
    assert len(seen) == len(queries)
    for query, (points, weights, centres) in zip(queries, seen, strict=True):
        whole = np.rint(centres)
        np.testing.assert_array_equal(query.centres, whole)
        distances = np.linalg.norm(points[:, None] - whole[None], axis=2).min(axis=1)
        (radius,) = set(query.radii)
        within = weights[distances <= radius].sum() / weights.sum()
        closer = weights[distances <= radius - 1].sum() / weights.sum()
        assert closer < codebook.RADIUS_QUANTILE <= within + 1e-9
        assert query.count_share == codebook.COUNT_SHARE


# --- what a sum teaches --------------------------------------------------------------------------

FEATURES = [
    {"kind": "numeric", "name": "x", "lower": 0.0, "upper": 1.0},
    {"kind": "categorical", "name": "c", "levels": ["a", "b"]},
    {"kind": "numeric", "name": "y", "lower": 0.0, "upper": 1.0},
]
LEVELS = small_study(features=FEATURES)
CODES = np.array(
    [
        [1000, 0, 2000],
        [1200, 1, MISSING_NUMERIC],
        [12_000, 2, 16_300],
        [100, 3, 1000],
        [13_000, 0, 15_900],
        [MISSING_NUMERIC, 1, 500],
    ],
    dtype=np.int16,
)
FILL = (1000, 0, 1500)


def customers(weights: FloatArray) -> Synopsis:
    """Six synthetic customers that a released sum of marginals speaks of."""
    space = Embedding.of(LEVELS)
    query = Marginals(space, BINS, SCALE_BITS)
    values = weights @ responses(query, CODES).toarray()
    released = (Released(query, values, 2.0),)
    return Synopsis(space, CODES, weights, FILL, released)


def two_cells() -> ClusterSums:
    """Around low and high numbers; the coordinates of the list lie between its levels."""
    space = Embedding.of(LEVELS)
    low = (1000, *(3000,) * 4, 1500)
    high = (12_500, *(3000,) * 4, 16_000)
    return ClusterSums(space, (low, high), (9000, 9000), FILL, 30, SCALE_BITS)


def taught(offsets: FloatArray, counts: tuple[float, float] = (400.0, 200.0)) -> Synopsis:
    """What is learnt when the customers of the two cells lie so far off their centres."""
    query = two_cells()
    values = cluster_values(query, np.array(counts), np.array(counts)[:, None] * offsets)
    weights = np.full(6, 100.0)
    return learn(customers(weights), query, NoisySum("cells-1", values, 0.01, 3, 1))


def test_customers_move_with_their_cell_and_stay_codes() -> None:
    """+700 and -1,200 for the low cell, -300 and +300 for the high one; its top is the range's.

    Levels stay levels and missing numbers missing, whatever the sums of their coordinates say.
    """
    offsets = np.array(
        [[700.0, 900.0, -900.0, 50.0, 0.0, -1200.0], [-300.0, 0.0, 800.0, 0.0, -800.0, 300.0]]
    )
    found = taught(offsets)
    expected = [
        [1700, 0, 800],
        [1900, 1, MISSING_NUMERIC],
        [11_700, 2, GRID],
        [800, 3, 0],
        [12_700, 0, 16_200],
        [MISSING_NUMERIC, 1, 0],
    ]
    assert found.codes.dtype == np.int16
    assert found.codes.tolist() == expected
    assert found.fill == FILL


def test_customers_of_a_cell_under_the_noise_stay() -> None:
    found = taught(np.full((2, 6), 500.0), counts=(400.0, 0.01))
    moved = (found.codes != CODES).any(axis=1)
    assert moved.tolist() == [True, True, False, True, False, True]


def test_weights_explain_all_sums_so_far_from_a_flat_prior() -> None:
    offsets = np.full((2, 6), 100.0)
    found = taught(offsets)
    query = two_cells()
    assert [one.query for one in found.released] == [Marginals(found.space, BINS, 28), query]
    assert [one.sigma for one in found.released] == [2.0, 0.01]
    fit = Fit(
        [responses(one.query, found.codes) for one in found.released],
        [one.sigma for one in found.released],
        600.0,
    )
    np.testing.assert_allclose(
        found.weights, fit.weights([one.values for one in found.released]), rtol=1e-6
    )
    assert found.weights.sum() == pytest.approx(600)


def test_cells_never_outgrow_a_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Embedding.of(STUDY)
    monkeypatch.setattr(codebook, "MAX_LENGTH", 7 * (1 + space.dimensions))
    synopsis = synopsis_of(pooled(sigma=5.0))
    for released in synopsis.released[1:]:
        assert isinstance(released.query, ClusterSums)
        assert len(released.query.centres) <= 7


def test_the_synopsis_answers_as_the_customers_did() -> None:
    """Counts of every level's cells and every marginal, within a few σ: noise is off, σ is 5.

    The customers are in no groups, so the prior (a product of marginals) is right about them.
    """
    synopsis = synopsis_of(pooled(sigma=5.0))
    for released in synopsis.released:
        found = responses(released.query, synopsis.codes).T @ synopsis.weights
        off = (found - released.values) / released.sigma
        assert np.abs(off).max() < 6
        assert math.sqrt((off**2).mean()) < 1.5


# --- between levels ------------------------------------------------------------------------------


def scattered(weights: FloatArray, seed: int = 0) -> tuple[Synopsis, float]:
    """A copy of 3,000 customers in the middle of the box, and how far its jitter should reach."""
    codes = np.tile(np.array([[8000, 1, 8000]], dtype=np.int16), (3000, 1))
    codes[:1000, 0] = MISSING_NUMERIC
    codes[1000:2000] = [8000, 2, 0]
    before = replace(customers(np.full(6, 1.0)), codes=codes, weights=weights)
    query = two_cells()
    found = codebook._scattered(before, query, np.random.default_rng(seed))
    return found, codebook.JITTER * 9000 / math.sqrt(before.space.dimensions)


def test_copies_are_drawn_by_weight() -> None:
    """A third of the customers has two thirds of the weight, a third has none.

    4.9 standard errors: a fresh seed fails with probability 1e-6.
    """
    weights = np.concatenate([np.full(1000, 2.0), np.full(1000, 0.0), np.full(1000, 1.0)])
    found, _ = scattered(weights)
    assert len(found.codes) == 3000
    np.testing.assert_allclose(found.weights, 1.0)  # their total, evenly
    share = (found.codes[:, 0] == MISSING_NUMERIC).mean()
    assert abs(share - 2 / 3) < 4.9 * math.sqrt(2 / 9 / 3000)
    assert set(found.codes[:, 1].tolist()) == {1}


def test_copies_spread_a_part_of_their_cell_s_radius() -> None:
    """In numbers alone; at the range's end they stay inside; levels and missing ones stay.

    4.9 standard errors of the deviation: a fresh seed fails with probability 1e-6.
    """
    found, spread = scattered(np.ones(3000))
    x, c, y = found.codes.T.astype(float)
    present = x != MISSING_NUMERIC
    assert set(c.tolist()) == {1, 2}
    for offsets in (x[present] - 8000, y[c == 1] - 8000):
        deviation = math.sqrt((offsets**2).mean()) / spread
        assert abs(deviation - 1) < 4.9 / math.sqrt(2 * len(offsets))
    assert abs(present.mean() - 2 / 3) < 4.9 * math.sqrt(2 / 9 / 3000)
    edge = y[c == 2]
    assert edge.min() == 0
    assert abs((edge == 0).mean() - 0.5) < 4.9 * math.sqrt(0.25 / len(edge))


def test_levels_and_rounds_see_customers_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second level's customers are spread copies; the last level's are kept as they are."""
    calls: list[int] = []
    original = codebook._scattered

    def counted(synopsis: Synopsis, *rest: Any) -> Synopsis:
        calls.append(len(synopsis.released))
        return original(synopsis, *rest)

    monkeypatch.setattr(codebook, "_scattered", counted)
    federation = pooled()
    synopsis = synopsis_of(federation)
    assert calls == list(range(2, 1 + len(recipes.levels(STUDY))))
    last = levels_asked(federation)[-1]
    nearest, _ = nearest_of(synopsis.points, np.array(last.centres, dtype=float))
    assert len(np.unique(nearest)) > len(last.centres) // 2
