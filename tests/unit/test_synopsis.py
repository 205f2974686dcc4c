"""The grid's synopsis against hand-computed cases, and what a redraw changes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, MISSING_NUMERIC, FloatArray
from kesit_privacy.queries import Grid, Query
from kesit_privacy.study import Study
from kesit_server import synopsis as module
from kesit_server.synopsis import Synopsis, from_grid, mean_position
from kit import random_codes, small_study
from stand_in import Pooled

CELLS = np.array([[50.0, 5.0, 12.0], [10.0, 30.0, 0.0], [-7.0, 0.0, 25.0]])
"""Noisy counts of a 2 x 2 grid; the last row and column are customers without a value."""

COARSE = 1e9
"""σ expected of a grid, with which it has the fewest cells."""


def numeric_study(dimensions: int, **changes: object) -> Study:
    features = [
        {"kind": "numeric", "name": f"x{i}", "lower": 0.0, "upper": 1.0} for i in range(dimensions)
    ]
    return small_study(**({"features": features} | changes))


def of_counts(counts: FloatArray, sigma: float, study: Study | None = None) -> Synopsis:
    """The synopsis of a grid that opened as `counts`."""
    study = study or small_study()

    def answer(step: str, query: Query) -> FloatArray:
        assert isinstance(query, Grid)
        assert (step, query.shape) == ("grid", counts.shape)
        return counts.ravel()

    federation = Pooled(
        study, random_codes(study, 0), {"grid": sigma}, ahead={"grid": COARSE}, answer=answer
    )
    return from_grid(federation, Embedding.of(study))  # type: ignore[arg-type]


def test_cells_stand_in_their_middles_with_their_counts_less_one_sigma() -> None:
    found = of_counts(CELLS, sigma=10.0)
    low, high, missing = GRID // 4, 3 * GRID // 4, MISSING_NUMERIC
    assert found.codes.tolist() == [[low, low], [low, missing], [high, high], [missing, missing]]
    assert found.weights.tolist() == [40, 2, 20, 15]
    # Missing numbers stand at the mean of those that are not: of 42 and 20, of 40 and 20.
    x, y = (low * 42 + high * 20) / 62, (low * 40 + high * 20) / 60
    assert found.fill == (round(x), round(y))
    assert found.points.tolist() == [
        [low, low],
        [low, round(y)],
        [high, high],
        [round(x), round(y)],
    ]


def test_a_count_of_exactly_one_sigma_is_an_empty_cell() -> None:
    found = of_counts(CELLS, sigma=30.0)
    assert found.weights.tolist() == [20]
    assert found.codes.tolist() == [[GRID // 4, GRID // 4]]


def test_when_nothing_rises_above_the_noise_every_cell_counts_alike() -> None:
    found = of_counts(CELLS, sigma=50.0)
    assert found.weights.tolist() == [1] * 9
    assert len(np.unique(found.codes, axis=0)) == 9
    assert found.fill == (GRID // 2, GRID // 2)


def test_only_missing_values_stand_in_the_middle_of_the_range() -> None:
    counts = np.zeros((3, 3))
    counts[2, 2] = 100
    found = of_counts(counts, sigma=1.0)
    assert found.codes.tolist() == [[MISSING_NUMERIC] * 2]
    assert found.points.tolist() == [[GRID // 2, GRID // 2]]


def test_features_that_are_not_segmented_by_have_no_part() -> None:
    """Columns are those of the study, whatever order the segmentation names them in."""
    names = ["a", "b", "c", "d"]
    features = [{"kind": "numeric", "name": name, "lower": 0.0, "upper": 1.0} for name in names]
    study = small_study(features=features, segmentation={"k": 2, "features": ["d", "b"]})
    found = of_counts(CELLS, 10.0, study)
    low, high = GRID // 4, 3 * GRID // 4
    assert found.codes[:, 3].tolist() == [low, low, high, MISSING_NUMERIC]
    assert found.codes[:, 1].tolist() == [low, MISSING_NUMERIC, high, MISSING_NUMERIC]
    assert not found.codes[:, [0, 2]].any()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.01, 2.5, 40.0, 1e6])
def test_a_grid_has_as_many_cells_as_its_noise_can_tell_apart(
    dimensions: int, sigma: float
) -> None:
    """1.2·n/σ in all, at least 8 and at most 3,000, the same number along each feature."""
    study = numeric_study(dimensions)
    federation = Pooled(study, random_codes(study, 50), {"grid": 1.0}, ahead={"grid": sigma})
    from_grid(federation, Embedding.of(study))  # type: ignore[arg-type]
    ((step, query),) = federation.asked
    assert step == "grid"
    assert isinstance(query, Grid)
    wanted = min(module.MAX_GRID_CELLS, max(8, 1.2 * study.declared_customers / sigma))
    (bins,) = set(query.bins)
    assert len(query.bins) == dimensions
    assert bins >= 2
    assert bins**dimensions <= wanted + 1e-9 < (bins + 1) ** dimensions


def test_mean_position_by_hand() -> None:
    middles = np.array([100.0, 200.0, 400.0])
    assert mean_position(middles, np.array([1.0, 0.0, 3.0])) == round((100 + 1200) / 4)
    assert mean_position(middles, np.array([0.0, 2.0, 0.0])) == 200
    assert mean_position(middles, np.zeros(3)) == GRID // 2


# --- redraws -------------------------------------------------------------------------------------


def test_a_redraw_has_fresh_noise_of_the_same_sigma() -> None:
    """9,000 differences of counts far above their noise: mean 0 and deviation σ.

    Bounds of 4.9 standard errors: a fresh seed fails with probability 2e-6.
    """
    found = of_counts(np.full((3, 3), 1e6), sigma=7.0)
    rng = np.random.default_rng(0)
    redraws = [found.redrawn(rng) for _ in range(1000)]
    differences = np.concatenate([again.weights - found.weights for again in redraws])
    assert len(differences) == 9000
    for again in redraws[:5]:
        np.testing.assert_array_equal(again.codes, found.codes)
    deviation = math.sqrt((differences**2).mean()) / 7.0
    assert abs(deviation - 1) < 4.9 / math.sqrt(2 * len(differences))
    assert abs(differences.mean()) < 4.9 * 7.0 / math.sqrt(len(differences))


def test_a_redraw_is_what_the_redrawn_sum_would_have_given() -> None:
    """Rebuilt from its own released values it is the same to the bit, empty cells included."""
    found = of_counts(CELLS, sigma=10.0)
    again = found.redrawn(np.random.default_rng(3))
    assert not np.array_equal(again.released[0].values, found.released[0].values)
    expected = of_counts(again.released[0].values.reshape(3, 3), sigma=10.0)
    np.testing.assert_array_equal(again.codes, expected.codes)
    np.testing.assert_array_equal(again.weights, expected.weights)
    assert again.fill == expected.fill
    assert again.released[0].sigma == found.released[0].sigma


def test_a_redraw_of_a_redraw_has_the_noise_twice() -> None:
    """Its counts come from the redraw's own, not from the first release again."""
    found = of_counts(np.full((3, 3), 1e6), sigma=5.0)
    rng = np.random.default_rng(1)
    twice = [found.redrawn(rng).redrawn(rng).weights - found.weights for _ in range(300)]
    deviation = float(np.std(twice)) / (5.0 * math.sqrt(2))
    assert abs(deviation - 1) < 4.9 / math.sqrt(2 * 2700)


def test_the_released_sums_are_kept_as_they_were() -> None:
    found = of_counts(CELLS, sigma=10.0)
    (released,) = found.released
    np.testing.assert_array_equal(released.values, CELLS.ravel())
    assert released.sigma == 10.0
    found.redrawn(np.random.default_rng(0))
    np.testing.assert_array_equal(found.released[0].values, CELLS.ravel())
