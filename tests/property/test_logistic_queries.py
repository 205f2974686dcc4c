"""Logistic regression's sums are sums of pure functions of one row, and their Δ is true."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier_cases_logistic import (
    LOGISTIC_GENERATORS,
    LOGISTIC_REFERENCES,
    VALID_LOGISTIC,
    Draw,
    logistic_studies,
)
from kesit_privacy import canonical
from kesit_privacy.coordinates import ABSENT, UNIT, Coordinates, table
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import GRID, Categorical, CodeArray
from kesit_privacy.queries import Query, bind
from kesit_privacy.queries.base import CHUNK
from kesit_privacy.queries.gradients import LARGEST_DIRECTION, LARGEST_OFFSET, MAX_SHIFT
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS, Target

KEYS = sorted(LOGISTIC_GENERATORS)
STUDIES = logistic_studies()


def drawn(draw: Draw, key: tuple[str, int]) -> tuple[Study, Query]:
    study = STUDIES[draw(st.sampled_from(sorted(STUDIES)))]
    return study, LOGISTIC_GENERATORS[key](draw, study)


def draw_codes(draw: Draw, study: Study, most: int) -> CodeArray:
    """Random rows, corner rows, missing values, unknown labels, and parts on either side."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(1, most))
    columns = []
    for feature in study.features:
        if isinstance(feature, Categorical):
            columns.append(rng.integers(0, feature.cells, rows))
            continue
        column = rng.integers(-1, GRID + 1, rows)
        corner = rng.random(rows) < 0.3
        column[corner] = rng.choice([-1, 0, 1, GRID // 2, GRID - 1, GRID], corner.sum())
        columns.append(column)
    columns.append(rng.integers(0, PARTS, rows))
    return np.stack(columns, axis=1).astype(np.int16)


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=60)
def test_a_row_s_contribution_is_its_row_function_s(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data.draw, key)
    codes = draw_codes(data.draw, study, 12)
    expected = [LOGISTIC_REFERENCES[key](query, row) for row in codes.tolist()]
    for row, vector in zip(codes, expected, strict=True):
        assert query.sum(row[None, :]).tolist() == vector
        assert sum(x * x for x in vector) <= query.delta_sq
    assert query.sum(codes).tolist() == [sum(column) for column in zip(*expected, strict=True)]


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=15)
def test_neither_order_nor_chunks_nor_another_row_matter(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data.draw, key)
    codes = draw_codes(data.draw, study, 6000)
    total, row = query.sum(codes), data.draw(st.integers(0, len(codes) - 1))
    alone = query.sum(codes[row : row + 1])
    shuffled = codes[np.random.default_rng(len(codes)).permutation(len(codes))]
    for chunk in (1000, 1024, 4099, CHUNK, 97):
        np.testing.assert_array_equal(query.sum(shuffled, chunk), total)
        np.testing.assert_array_equal(total - query.sum(np.delete(codes, row, 0), chunk), alone)
    np.testing.assert_array_equal(query.sum(np.asfortranarray(codes)), total)


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=20)
def test_no_rows_and_rows_that_do_not_count_answer_zeros(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data.draw, key)
    codes = draw_codes(data.draw, study, 50)
    target = Target.of(study)
    codes[:, target.column] = data.draw(st.sampled_from([0, 1])) + target.feature.unknown
    for rows in (codes, codes[:0]):
        assert query.sum(rows).tolist() == [0] * query.length


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=30)
def test_parameters_read_back(key: tuple[str, int], data: st.DataObject) -> None:
    study, query = drawn(data.draw, key)
    params = canonical.decode(canonical.encode(query.params()))
    assert bind(study, *key, params, query.scale_bits) == query


def _changed(key: str, **changes: Any) -> tuple[tuple[str, int], dict[str, Any]]:
    found = next(known for known in VALID_LOGISTIC if known[0] == key)
    return found, VALID_LOGISTIC[found] | changes


MOMENTS, GRADIENTS = "second-moments", "gradient-sums"
LONG = [[LARGEST_DIRECTION] * 11]


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        (_changed(MOMENTS), True),
        (_changed(MOMENTS, radius=255), False),
        (_changed(MOMENTS, radius=256), True),
        (_changed(MOMENTS, radius=4 * UNIT), True),
        (_changed(MOMENTS, radius=4 * UNIT + 1), False),
        (_changed(MOMENTS, radius=True), False),
        (_changed(MOMENTS, share=0), False),
        (_changed(MOMENTS, share=100), False),
        (_changed(MOMENTS, held=[5, 4]), True),
        (_changed(MOMENTS, held=[0, PARTS + 1]), False),
        (_changed(MOMENTS, more=1), False),
        (_changed(GRADIENTS), True),
        (_changed(GRADIENTS, directions=[]), False),
        (_changed(GRADIENTS, directions=[[1] * 11] * 600, offsets=[0] * 600), False),
        (_changed(GRADIENTS, directions=[[1] * 10] * 2), False),
        (_changed(GRADIENTS, directions=[[1.0] * 11] * 2), False),
        (_changed(GRADIENTS, directions=LONG, offsets=[0], shift=MAX_SHIFT), True),
        (_changed(GRADIENTS, directions=LONG, offsets=[0], shift=0), False),
        (_changed(GRADIENTS, directions=[[LARGEST_DIRECTION + 1] * 11] * 2), False),
        (_changed(GRADIENTS, offsets=[0]), False),
        (_changed(GRADIENTS, offsets=[LARGEST_OFFSET, 0], shift=MAX_SHIFT), True),
        (_changed(GRADIENTS, offsets=[LARGEST_OFFSET, 0], shift=3), False),
        (_changed(GRADIENTS, offsets=[LARGEST_OFFSET + 1, 0], shift=MAX_SHIFT), False),
        (_changed(GRADIENTS, shift=-1), False),
        (_changed(GRADIENTS, shift=MAX_SHIFT + 1), False),
        (_changed(GRADIENTS, radius=0), False),
        (_changed(GRADIENTS, radius=1 << 14), True),
        (_changed(GRADIENTS, radius=(1 << 14) + 1), False),
        (_changed(GRADIENTS, model={"intercept": [1, 2], "parts": []}), False),
    ],
)
def test_the_ends_of_each_range(
    changed: tuple[tuple[str, int], dict[str, Any]], good: bool
) -> None:
    key, params = changed
    if good:
        assert bind(STUDIES["churn"], *key, params, 32).params() == params
        return
    with pytest.raises(ProtocolError):
        bind(STUDIES["churn"], *key, params, 32)


@pytest.mark.parametrize("key", KEYS)
def test_a_lattice_that_is_too_coarse_is_refused(key: tuple[str, int]) -> None:
    with pytest.raises(ProtocolError, match="coarse"):
        bind(STUDIES["churn"], *key, VALID_LOGISTIC[key], 12)


def test_coordinates_are_centred_bounded_and_as_far_apart_as_they_say() -> None:
    space = Coordinates(Embedding.of(STUDIES["churn"]))
    number, levels = table(space.space.features[0], 128), table(space.space.features[2], 1)
    assert number[-1].tolist() == [0, 0, ABSENT]
    assert np.abs(number[:-1].mean(axis=0)).max() < 2
    assert np.abs(number).max() <= space.longest
    assert np.abs(levels[:3].sum(axis=0)).max() <= 3
    apart = np.linalg.norm(levels[0] - levels[1])
    assert abs(float(apart) - UNIT) < 2
    every = space.rows(np.array([[0, GRID, 2, 0, 0], [-1, 5, 4, 1, 0]], dtype=np.int16))
    assert (every == np.rint(every)).all()
    assert np.abs(every).max() <= space.longest
