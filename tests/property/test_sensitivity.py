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

from classifier_cases import CLASSIFIER_STUDIES, VALID_CLASSIFIER
from classifier_cases_logistic import VALID_LOGISTIC
from kesit_privacy.cells import MAX_BINS
from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.features import GRID, Categorical, CodeArray, IntArray
from kesit_privacy.instruction import MAX_SCALE_BITS, MIN_SCALE_BITS, SCALE_BITS
from kesit_privacy.queries import (
    CATALOGUE,
    ClusterSums,
    Evaluation,
    Grid,
    LabelHistograms,
    Marginals,
    Query,
    ResidualSums,
    ScoreEvaluation,
    bind,
    evaluation,
)
from kesit_privacy.queries.base import CHUNK_NUMBERS
from kesit_privacy.queries.labels import WEIGHT
from kesit_privacy.queries.moments import LARGEST_RADIUS
from kesit_privacy.scorecard import LARGEST
from kesit_privacy.study import Study
from kesit_privacy.target import Target
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
    yield from classifier_cases()


def classifier_cases() -> Iterator[tuple[str, Study, Query, CodeArray]]:
    """The same for classifiers: every row of two lists on each side of the split, and of a number
    every 61st step, so that all cells and both ends are met."""
    for name in ("two classes", "many classes"):
        study = CLASSIFIER_STUDIES[name]
        rows = with_parts(all_rows(study))
        cells, classes = Embedding.of(study).features[0], Target.of(study).classes
        assert isinstance(cells, Categorical)
        logits = 1 if len(classes) == 2 else len(classes)
        for size in (1, 3000, LARGEST):
            ladder = [
                [size if place % max(logits, 2) == c else -size for c in range(logits)]
                for place in range(cells.cells)
            ]
            model = {"intercept": [size] * logits, "parts": [ladder]}
            weights = {"held": [0, 200], "weights": [WEIGHT]}
            params = weights | {"bins": 2}
            yield name, study, bind(study, "label-histograms", 1, params, SCALE_BITS), rows
            params |= {"model": model}
            yield name, study, bind(study, "residual-sums", 1, params, SCALE_BITS), rows
            edges, share = ([1, 100, 9000], 30) if logits > 1 else ([-size, 0, size], 0)
            params = {"held": [0, 200], "model": model, "edges": [edges] * logits, "share": share}
            yield name, study, bind(study, "score-evaluation", 1, params, SCALE_BITS), rows
        for radius in (1, 300, LARGEST_RADIUS):
            table = [
                [(37 * (place + 1) * (c + 2)) % 4001 - 2000 for c in range(len(classes))]
                for place in range(cells.cells)
            ]
            params = {
                "held": [0, 200],
                "scores": [table],
                "factors": [256] * len(classes),
                "radii": [radius, radius],
                "share": 50,
            }
            yield name, study, bind(study, "score-moments", 1, params, SCALE_BITS), rows
    study = CLASSIFIER_STUDIES["arms"]
    number = np.array([*range(-1, GRID + 1, 61), GRID])
    rest = with_parts(np.array(list(itertools.product([0], range(4), range(5)))))
    rows = np.repeat(rest, len(number), axis=0).astype(np.int16)
    rows[:, 0] = np.tile(number, len(rest))
    for key in sorted(VALID_CLASSIFIER):
        params = VALID_CLASSIFIER[key] | {"weights": [WEIGHT]}
        params |= {"scores": VALID_CLASSIFIER["score-moments", 1]["scores"][:1]}
        model = VALID_CLASSIFIER["residual-sums", 1]["model"]
        params |= {"model": model | {"parts": model["parts"][:1]}}
        kept = {name: params[name] for name in VALID_CLASSIFIER[key]}
        yield "number", study, bind(study, *key, kept, SCALE_BITS), rows


def with_parts(rows: CodeArray) -> CodeArray:
    """The rows once on each side of the split at 200, at both of its ends."""
    parts = np.repeat([0, 199, 200, 999], len(rows))
    return np.column_stack([np.tile(rows, (4, 1)), parts]).astype(np.int16)


def least(query: Query) -> int:
    """A segmentation counts every customer; a classifier's sums leave out one side of the split,
    and a model may be sure of what is true."""
    return 0 if hasattr(query, "side") else 1


@pytest.mark.parametrize(
    ("study", "query", "rows"),
    [case[1:] for case in supremum_cases()],
    ids=[f"{case[0]}-{case[2].name}-{i}" for i, case in enumerate(supremum_cases())],
)
def test_no_row_at_all_exceeds_the_sensitivity(study: Study, query: Query, rows: CodeArray) -> None:
    """The supremum over every possible row; f is total, so each of them has an answer."""
    norms = [norm_sq(one(query, row)) for row in rows]
    assert max(norms) <= query.delta_sq
    assert min(norms) >= least(query), "a customer counts somewhere"
    if isinstance(query, Grid | Marginals):
        assert set(norms) == {query.delta_sq}
    if isinstance(query, LabelHistograms | ScoreEvaluation):
        counted = set(norms) - {0}
        assert len(counted) == 1, "who counts, counts as much as anybody"
        assert 0.9999 * query.delta_sq <= counted.pop()
    if isinstance(query, ResidualSums) and max(query.model.intercept) == LARGEST:
        assert max(norms) >= 0.99 * query.delta_sq, "a model that is sure and wrong attains Δ"


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_row_of_a_large_dictionary_exceeds_the_sensitivity(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data, key)
    for row in draw_codes(data.draw, study, query, most=20):
        assert least(query) <= norm_sq(one(query, row)) <= query.delta_sq


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
    valid = VALID_CLASSIFIER | VALID_LOGISTIC
    study = CLASSIFIER_STUDIES["churn"] if key in valid else STUDIES["mixed"]
    corners = [
        range(f.cells) if isinstance(f, Categorical) else (-1, 0, 1, GRID - 1, GRID)
        for f in study.features
    ]
    rows = np.array(list(itertools.product(*corners)), dtype=np.int16)
    space = Embedding.of(study)
    if key in valid:
        rows = with_parts(rows)
        query = bind(study, *key, valid[key], SCALE_BITS)
    else:
        query = segment_query(key[0], study, space)
    total = query.sum(rows)
    assert total.shape == (query.length,)
    np.testing.assert_array_equal(total, sum(one(query, row) for row in rows))


def segment_query(name: str, study: Study, space: Embedding) -> Query:
    """One of each kind, with unlike numbers."""
    queries: dict[str, Query] = {
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
    }
    return queries[name]


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
