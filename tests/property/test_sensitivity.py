"""Δ of every query: no row exceeds it, and some row comes close.

Over small dictionaries the supremum is taken over every possible row; over larger ones over
random and extreme rows.
"""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kesit_privacy.cells import MAX_BINS
from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import GRID, Categorical, CodeArray, IntArray
from kesit_privacy.instruction import MAX_SCALE_BITS, MIN_SCALE_BITS, SCALE_BITS
from kesit_privacy.queries import (
    CATALOGUE,
    ClusterSums,
    Evaluation,
    Grid,
    Marginals,
    Query,
    evaluation,
)
from kesit_privacy.queries.base import CHUNK_NUMBERS
from kesit_privacy.study import Study
from kit import small_study
from query_cases import COARSEST_EVALUATION, STUDIES, draw_codes, drawn, one

KEYS = sorted(CATALOGUE)


def norm_sq(vector: IntArray) -> int:
    return sum(int(x) ** 2 for x in vector[vector != 0])


def all_rows(study: Study) -> CodeArray:
    """Every combination of codes: levels, unknown, missing, and each step of one number's grid."""
    ranges = [
        range(f.cells) if isinstance(f, Categorical) else range(-1, GRID + 1)
        for f in study.features
    ]
    return np.array(list(itertools.product(*ranges)), dtype=np.int16)


SHARES = (1, 30, 99)


def supremum_cases() -> Iterator[tuple[str, Study, Query, CodeArray]]:
    """Queries over dictionaries that are small enough to try every row."""
    lists, number = STUDIES["two lists"], STUDIES["one number"]
    space, line = Embedding.of(lists), Embedding.of(number)
    rows = all_rows(lists)
    assert len(rows) == 4 * 5
    yield "marginals", lists, Marginals(space, 2, SCALE_BITS), rows
    yield "grid", lists, Grid(space, (1, 1), MAX_SCALE_BITS), rows
    for share in SHARES:
        for radius in (1, 1000, ONE_HOT, 2 * ONE_HOT):
            centres = [[0] * space.dimensions, [ONE_HOT] + [0] * (space.dimensions - 1)]
            params = {
                "centres": centres,
                "radii": [radius] * 2,
                "fill": [0, 0],
                "count_share": share,
            }
            yield "lists", lists, ClusterSums.bind(lists, params, SCALE_BITS), rows
    for reach in (1, ONE_HOT, 2 * ONE_HOT):
        params = {"centres": centres, "fill": [0, 0], "reach": reach, "bins": 5}
        yield "lists", lists, Evaluation.bind(lists, params, SCALE_BITS), rows
    every = all_rows(number)
    assert len(every) == GRID + 2
    yield "marginals", number, Marginals(line, MAX_BINS, MIN_SCALE_BITS), every
    yield "grid", number, Grid(line, (7,), MIN_SCALE_BITS), every
    for share, radius in zip(SHARES, (1, 777, GRID), strict=True):
        params = {"centres": [[0], [9]], "radii": [radius] * 2, "fill": [5], "count_share": share}
        yield "number", number, ClusterSums.bind(number, params, SCALE_BITS), every
    for reach, bits in ((1, COARSEST_EVALUATION), (777, SCALE_BITS), (GRID, MAX_SCALE_BITS)):
        params = {"centres": [[0], [9], [9]], "fill": [5], "reach": reach, "bins": 16}
        yield "number", number, Evaluation.bind(number, params, bits), every


@pytest.mark.parametrize(
    ("study", "query", "rows"),
    [case[1:] for case in supremum_cases()],
    ids=[f"{case[0]}-{case[2].name}-{i}" for i, case in enumerate(supremum_cases())],
)
def test_no_row_at_all_exceeds_the_sensitivity(study: Study, query: Query, rows: CodeArray) -> None:
    """The supremum over every possible row; f is total, so each of them has an answer."""
    norms = [norm_sq(one(query, row)) for row in rows]
    assert max(norms) <= query.delta_sq
    assert min(norms) > 0, "a customer counts somewhere"
    if isinstance(query, Grid | Marginals):
        assert set(norms) == {query.delta_sq}


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_row_of_a_large_dictionary_exceeds_the_sensitivity(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data, key)
    for row in draw_codes(data.draw, study, query, most=20):
        assert 0 < norm_sq(one(query, row)) <= query.delta_sq


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("radius", [1, 2, 777, GRID])
def test_the_sensitivity_of_cluster_sums_is_almost_attained(radius: int, share: int) -> None:
    """By a row at its centre's radius: within 0.1 % of Δ². A larger Δ would be wasted noise."""
    study = STUDIES["two numbers"]
    params = {"centres": [[0, 0]], "radii": [radius], "fill": [0, 0], "count_share": share}
    query = ClusterSums.bind(study, params, SCALE_BITS)
    at_radius = norm_sq(one(query, np.array([radius, 0], dtype=np.int16)))
    assert 0.999 * query.delta_sq <= at_radius <= query.delta_sq


@pytest.mark.parametrize("bits", [SCALE_BITS, MAX_SCALE_BITS])
@pytest.mark.parametrize("reach", [1, 2, 20])
def test_the_sensitivity_of_an_evaluation_is_almost_attained(reach: int, bits: int) -> None:
    """By a row beyond the reach whose second centre is far: within 0.1 % of Δ²."""
    study = STUDIES["two numbers"]
    params = {"centres": [[0, 0], [GRID, GRID]], "fill": [0, 0], "reach": reach, "bins": 16}
    query = Evaluation.bind(study, params, bits)
    beyond = norm_sq(one(query, np.array([reach, 0], dtype=np.int16)))
    assert 0.999 * query.delta_sq <= beyond <= query.delta_sq


def test_the_parts_of_an_evaluation_are_all_of_its_sensitivity() -> None:
    parts = (evaluation.SIZE, evaluation.INERTIA, evaluation.SILHOUETTE, evaluation.DISTANCE)
    assert sum(parts) == 100
    assert min(parts) > 0


@pytest.mark.parametrize("key", KEYS)
def test_every_corner_of_the_dictionary_has_an_answer(key: tuple[str, int]) -> None:
    """f is total: missing and unknown values, both ends of the grid, in every combination."""
    study = STUDIES["mixed"]
    corners = [
        range(f.cells) if isinstance(f, Categorical) else (-1, 0, 1, GRID - 1, GRID)
        for f in study.features
    ]
    rows = np.array(list(itertools.product(*corners)), dtype=np.int16)
    space = Embedding.of(study)
    query: Query = {
        "marginals": Marginals(space, 33, SCALE_BITS),
        "grid": Grid(space, (2, 3, 1, 2, 1), SCALE_BITS),
        "cluster-sums": ClusterSums.bind(
            study,
            {
                "centres": [[GRID] * space.dimensions, [0] * space.dimensions],
                "radii": [1, 40_000],
                "fill": [GRID, 0, 1, 2, 3],
                "count_share": 10,
            },
            SCALE_BITS,
        ),
        "evaluation": Evaluation.bind(
            study,
            {
                "centres": [[GRID] * space.dimensions, [0] * space.dimensions],
                "fill": [GRID, 0, 1, 2, 3],
                "reach": 20_000,
                "bins": 16,
            },
            SCALE_BITS,
        ),
    }[key[0]]
    total = query.sum(rows)
    assert total.shape == (query.length,)
    np.testing.assert_array_equal(total, sum(one(query, row) for row in rows))


def test_coordinates_beyond_16_bits_are_still_those_of_the_row() -> None:
    """Codes are 16-bit, coordinates need not be: nine features of 4,096 levels have 36,882."""
    levels = [f"l{place}" for place in range(4096)]
    features = [{"kind": "categorical", "name": f"f{i}", "levels": levels} for i in range(9)]
    space = Embedding.of(small_study(features=features, delta=1e-9))
    codes = np.full((2, 9), 4097, dtype=np.int16)  # missing everywhere: the last cells
    rows = space.expand(codes, (0,) * 9)
    assert np.flatnonzero(rows[0]).tolist() == [offset + 4097 for offset in space.offsets[:-1]]


SPACE = Embedding.of(small_study())


@pytest.mark.parametrize(
    "query",
    [
        ClusterSums(SPACE, ((1, 1),) * 1000, (1,) * 1000, (0, 0), 10, SCALE_BITS),
        Evaluation(SPACE, ((1, 1),) * 1000, (0, 0), 1, 64, SCALE_BITS),
    ],
    ids=lambda query: query.name,
)
def test_a_chunk_of_wide_rows_stays_small(query: Query) -> None:
    """Else memory would grow with the rows, and a node with many would fail where one answers."""
    assert query.width >= 2 * 1000
    codes = np.ones((5000, 2), dtype=np.int16)
    tracemalloc.start()
    query.sum(codes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 8 * CHUNK_NUMBERS
