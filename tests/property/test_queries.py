"""Every query of the catalogue is a sum of a pure function of one row, and its Δ is true.

Each test runs over the whole catalogue; a new query without a generator and a reference in
`query_cases` fails the first test.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier_cases import CLASSIFIER_GENERATORS
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import CATALOGUE, ClusterSums, Marginals
from kesit_privacy.queries.base import CHUNK
from kesit_privacy.queries.clusters import clip
from kesit_privacy.target import Target, columns
from kit import instruct, mixed_study, opened, random_codes, say_hello, small_nodes
from query_cases import GENERATORS, REFERENCES, STUDIES, draw_codes, drawn, one

CHUNKS = (1000, 1024, 4099, CHUNK)
KEYS = sorted(CATALOGUE)


def test_every_query_of_the_catalogue_is_tested() -> None:
    assert set(GENERATORS) == set(REFERENCES) == set(CATALOGUE)
    assert all((query.name, query.version) == key for key, query in CATALOGUE.items())


# --- a sum of a pure function of one row ---------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_row_s_contribution_is_its_row_function_s(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data, key)
    codes = draw_codes(data.draw, study, query, most=12)
    expected = [REFERENCES[key](query, row) for row in codes.tolist()]
    assert {len(vector) for vector in expected} == {query.length}
    for row, vector in zip(codes, expected, strict=True):
        assert one(query, row).tolist() == vector
    assert query.sum(codes).tolist() == [sum(column) for column in zip(*expected, strict=True)]


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_deleting_any_row_changes_the_sum_by_exactly_that_row(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data, key)
    codes = draw_codes(data.draw, study, query, most=6000)
    row = data.draw(st.integers(0, len(codes) - 1))
    fewer = np.delete(codes, row, axis=0)
    alone = one(query, codes[row])
    for chunk in CHUNKS:
        difference = query.sum(codes, chunk) - query.sum(fewer, chunk)
        np.testing.assert_array_equal(difference, alone)


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_order_and_chunks_do_not_matter(key: tuple[str, int], data: st.DataObject) -> None:
    study, query = drawn(data, key)
    codes = draw_codes(data.draw, study, query, most=6000)
    total = query.sum(codes)
    shuffled = codes[np.random.default_rng(len(codes)).permutation(len(codes))]
    cut = data.draw(st.integers(0, len(codes)))
    for chunk in (*CHUNKS, 1 << 20, 97):
        np.testing.assert_array_equal(query.sum(shuffled, chunk), total)
    np.testing.assert_array_equal(query.sum(codes[:cut]) + query.sum(codes[cut:]), total)
    # Nor does the layout in memory.
    np.testing.assert_array_equal(query.sum(np.asfortranarray(codes)), total)
    np.testing.assert_array_equal(query.sum(codes.astype(np.int64)), total)


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_client_without_customers_answers_zeros(
    key: tuple[str, int], data: st.DataObject
) -> None:
    study, query = drawn(data, key)
    nothing = query.sum(np.zeros((0, columns(study)), dtype=np.int16))
    assert nothing.dtype == np.int64
    assert nothing.tolist() == [0] * query.length


@pytest.mark.parametrize("key", sorted(CLASSIFIER_GENERATORS))
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_chunk_of_which_no_row_counts_adds_nothing(
    key: tuple[str, int], data: st.DataObject
) -> None:
    """Neither class known, or all on the other side: no error that an onlooker could see."""
    study, query = drawn(data, key)
    target = Target.of(study)
    codes = draw_codes(data.draw, study, query, most=50)
    codes[:, target.column] = data.draw(st.sampled_from([0, 1])) + target.feature.unknown
    assert query.sum(codes).tolist() == [0] * query.length


@pytest.mark.parametrize("chunk", CHUNKS)
def test_the_opened_sum_of_a_federation_changes_by_exactly_the_row(chunk: int) -> None:
    """The same through nodes, masks and all: the row of one client's last chunk is taken away."""
    study = mixed_study()
    codes = random_codes(study, 3 * chunk + 5)
    space = Embedding.of(study)
    centres = ((0,) * space.dimensions, (1, *(0,) * (space.dimensions - 1)))
    fill = (9,) * len(space.features)
    for step, query in (
        ("marginals", Marginals(space, 64, SCALE_BITS)),
        ("cells-1", ClusterSums(space, centres, (500, 500), fill, 30, SCALE_BITS)),
    ):
        totals = []
        for rows in (codes, codes[:-1]):
            nodes = small_nodes(study, rows, clients=3)
            transcript = say_hello(study, nodes)
            order = instruct(study, transcript, step, query)
            data = order.encode(), transcript.encoded
            totals.append(opened([node.answer(*data)[1:] for node in nodes], order))
        np.testing.assert_array_equal(totals[0] - totals[1], one(query, codes[-1]))


# --- centres that coincide, almost coincide, or tie ----------------------------------------------


def cluster_sums(centres: list[list[int]], radius: int = GRID) -> ClusterSums:
    study = STUDIES["two numbers"]
    params = {
        "centres": centres,
        "radii": [radius] * len(centres),
        "fill": [0, 0],
        "count_share": 50,
    }
    return ClusterSums.bind(study, params, SCALE_BITS)


def chosen(query: ClusterSums, row: list[int]) -> int:
    counts = one(query, np.array(row, dtype=np.int16))[: len(query.centres)]
    [index] = np.flatnonzero(counts)
    return int(index)


def test_ties_go_to_the_lowest_index() -> None:
    for swapped in (False, True):
        centres = [[0, 0], [2, 0], [0, 2], [2, 2]]
        query = cluster_sums(centres[::-1] if swapped else centres)
        assert chosen(query, [1, 1]) == 0
    assert chosen(cluster_sums([[9, 9], [7, 7], [7, 7], [7, 7]]), [7, 7]) == 1
    assert chosen(cluster_sums([[GRID, 0], [0, GRID]]), [GRID // 2, GRID // 2]) == 0


def test_centres_one_apart_are_told_apart_anywhere() -> None:
    for x in (0, 1, 8191, 8192, GRID - 1):
        query = cluster_sums([[x, x], [x + 1, x]])
        assert chosen(query, [x, x]) == 0
        assert chosen(query, [x + 1, x]) == 1
        assert chosen(query, [x, 0]) == 0


def test_a_row_at_the_radius_is_not_clipped_and_one_beyond_is() -> None:
    query = cluster_sums([[0, 0]], radius=5000)
    weight = query.sum_scale // 5000
    at, beyond = one(query, np.array([3000, 4000])), one(query, np.array([3000, 4001]))
    assert at[1:].tolist() == [3000 * weight, 4000 * weight]
    assert (beyond[1:] < at[1:] + weight).all()
    assert sum(int(x // weight) ** 2 for x in beyond[1:]) <= 5000**2


VECTORS = st.lists(st.integers(-GRID, GRID), min_size=1, max_size=30)


@given(VECTORS, st.integers(1, 3 * GRID))
@settings(max_examples=500, deadline=None)
def test_clipping_shortens_in_the_same_direction_and_never_gives_up(
    vector: list[int], radius: int
) -> None:
    """|q_i| <= |x_i|·r/‖x‖ < |q_i| + 1 + 2^-20, in rational arithmetic: ‖q‖ <= r before the check.

    2^-20 is far more than the 2^-40·|x_i| by which clipping aims inside.
    """
    norm_sq = sum(x * x for x in vector)
    if norm_sq <= radius * radius:
        return
    short = clip(
        np.array([vector], dtype=float), np.array([float(radius)]), np.array([float(norm_sq)])
    )[0]
    assert all(value == int(value) for value in short.tolist())
    for x, q in zip(vector, map(int, short), strict=True):
        assert q * x >= 0
        assert q * q * norm_sq <= x * x * radius * radius
        slack = Fraction(abs(q)) + 1 + Fraction(1, 1 << 20)
        assert x * x * radius * radius < slack * slack * norm_sq
