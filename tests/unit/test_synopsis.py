"""The grid's synopsis against hand-computed cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, MISSING_NUMERIC, FloatArray
from kesit_privacy.queries import Grid, Query
from kesit_privacy.study import Study
from kesit_server.segmentation import synopsis as module
from kesit_server.segmentation.synopsis import Synopsis, from_grid, mean_position
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
    return from_grid(federation, Embedding.of(study))


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
    from_grid(federation, Embedding.of(study))
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


def test_the_released_sum_is_kept_as_it_was() -> None:
    (released,) = of_counts(CELLS, sigma=10.0).released
    np.testing.assert_array_equal(released.values, CELLS.ravel())
    assert (released.step, released.sigma) == ("grid", 10.0)


def test_a_later_sum_stands_beside_and_changes_no_customer() -> None:
    found = of_counts(CELLS, sigma=10.0)
    more = found.beside(replace(found.released[0], step="lloyd-1"))
    assert [one.step for one in more.released] == ["grid", "lloyd-1"]
    assert more.codes is found.codes
    assert more.weights is found.weights
