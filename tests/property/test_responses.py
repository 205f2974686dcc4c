"""Synthetic customers answer as real ones would: `responses` beside the members' own sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import ClusterSums
from kesit_server.segmentation.responses import nearest_of, responses
from kit import mixed_study, query_for, random_codes, small_study
from query_cases import draw_codes, drawn, one


@pytest.mark.parametrize("key", [("marginals", 1), ("grid", 1), ("cluster-sums", 1)])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_response_is_the_sum_of_that_row_alone(key: tuple[str, int], data: st.DataObject) -> None:
    """Histograms to the bit; a clipped offset to the grid step that the members cut off."""
    study, query = drawn(data, key)
    codes = draw_codes(data.draw, study, query, most=12)
    matrix = responses(query, codes).toarray()
    unit = 2.0**query.scale_bits
    expected = np.stack([one(query, row) for row in codes]) / unit
    assert matrix.shape == expected.shape
    if not isinstance(query, ClusterSums):
        np.testing.assert_array_equal(matrix, expected)
        return
    k = len(query.centres)
    np.testing.assert_array_equal(matrix[:, :k], expected[:, :k])
    step = np.repeat(query.weights, query.space.dimensions) / unit
    assert (np.abs(matrix[:, k:] - expected[:, k:]) <= step * (1 + 1e-6)).all()
    # No farther out than the members go, and rows within their radius are exact.
    assert (np.abs(expected[:, k:]) <= np.abs(matrix[:, k:]) * (1 + 1e-9)).all()
    points = query.space.expand(codes, query.fill)
    nearest, distance = nearest_of(points, np.array(query.centres, dtype=float))
    inside = distance <= np.array(query.radii)[nearest]
    np.testing.assert_allclose(matrix[inside], expected[inside], rtol=1e-12)


def test_a_whole_table_answers_as_its_sum() -> None:
    """Weighted by ones, the responses add up to the sum over all rows, missing values and all."""
    study = mixed_study()
    codes = random_codes(study, 500)
    space = Embedding.of(study)
    rng = np.random.default_rng(0)
    centres = tuple(tuple(map(int, rng.integers(0, GRID, space.dimensions))) for _ in range(7))
    query = ClusterSums(space, centres, (30_000,) * 7, (5, 6, 7, 8, 9), 30, SCALE_BITS)
    assert query.radii[0] ** 2 < space.diameter_sq
    total = query.sum(codes) / 2.0**query.scale_bits
    found = responses(query, codes).T @ np.ones(len(codes))
    # At most one step a row and coordinate is cut off; a step weighs 1/30,000 at most.
    np.testing.assert_allclose(found, total, atol=500 / 30_000)
    np.testing.assert_allclose(found[:7], total[:7], rtol=1e-12)


def test_a_sum_that_no_synopsis_learns_from_has_no_responses() -> None:
    study = small_study()
    with pytest.raises(TypeError, match="evaluation has no responses"):
        responses(query_for(study, "evaluation"), random_codes(study, 2))


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_nearest_of_by_brute_force(seed: int, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, GRID + 1, (count, 3)).astype(float)
    centres = rng.integers(0, GRID + 1, (k, 3)).astype(float)
    nearest, distance = nearest_of(points, centres)
    squares = ((points[:, None] - centres[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest, squares.argmin(axis=1))
    np.testing.assert_allclose(distance, np.sqrt(squares.min(axis=1)), rtol=1e-12)
