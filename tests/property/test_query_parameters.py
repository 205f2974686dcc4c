"""Parameters of queries: what `bind` lets in, and that everything else is a ProtocolError."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier_cases import CLASSIFIER_GENERATORS, CLASSIFIER_STUDIES, VALID_CLASSIFIER
from classifier_cases_logistic import VALID_LOGISTIC
from kesit_privacy import canonical
from kesit_privacy.cells import MAX_BINS
from kesit_privacy.coordinates import Coordinates, level_table
from kesit_privacy.embedding import ONE_HOT, Embedding
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import GRID, Categorical
from kesit_privacy.instruction import MAX_SCALE_BITS, MIN_SCALE_BITS, SCALE_BITS
from kesit_privacy.queries import CATALOGUE, ClusterSums, bind, evaluation
from kesit_privacy.queries.base import MAX_LENGTH
from kesit_privacy.queries.clusters import EXACT, MAX_CENTRES
from kesit_privacy.queries.labels import WEIGHT, WEIGHT_BITS
from kesit_privacy.queries.moments import LARGEST_FACTOR, LARGEST_RADIUS
from kesit_privacy.queries.scores import LARGEST_EDGE, MAX_EDGES
from kesit_privacy.scorecard import CHANCE, LARGEST
from kesit_privacy.study import Study
from kesit_privacy.target import PARTS
from kit import small_study
from query_cases import STUDIES, drawn

KEYS = sorted(CATALOGUE)


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_parameters_read_back(key: tuple[str, int], data: st.DataObject) -> None:
    study, query = drawn(data, key)
    params = canonical.decode(canonical.encode(query.params()))
    if len(Embedding.of(study).features) == len(query.space.features):  # type: ignore[attr-defined]
        assert bind(study, *key, params, query.scale_bits) == query


MIXED = STUDIES["mixed"]


def study_of(key: tuple[str, int]) -> Study:
    """The study that `VALID` has parameters for."""
    return CLASSIFIER_STUDIES["churn"] if key in CLASSIFIER_GENERATORS else MIXED


VALID: dict[tuple[str, int], dict[str, Any]] = {
    ("marginals", 1): {"bins": 32},
    ("grid", 1): {"bins": [2, 2, 2, 2, 1]},
    ("cluster-sums", 1): {
        "centres": [[0] * 9, [GRID] * 9],
        "radii": [1, 2],
        "fill": [0] * 5,
        "count_share": 10,
    },
    ("evaluation", 1): {
        "centres": [[0] * 9, [GRID] * 9],
        "fill": [0] * 5,
        "reach": 1000,
        "bins": 16,
    },
    **VALID_CLASSIFIER,
    **VALID_LOGISTIC,
}
BAD_LEAVES = (True, False, 1.0, "1", None, [], {}, [1], -1, 1 << 16, 1 << 70, float("nan"))
BAD_WHOLES = (True, 1.5, "x", None, {}, [], [[]], [None], [[[0]]], 7.0, {"a": 1}, -1, 1 << 70)


def changed(value: Any, bad: tuple[Any, ...]) -> Iterator[Any]:
    """`value` with one place made bad: each leaf, each list's length, each list as a whole."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from (value | {name: other} for other in changed(inner, bad))
            yield {key: kept for key, kept in value.items() if key != name}
            yield value | {f"{name}_": inner}
    elif isinstance(value, list):
        yield [*value, value[-1]]
        yield value[:-1]
        yield from BAD_WHOLES
        for place, inner in enumerate(value):
            for other in changed(inner, bad):
                yield [*value[:place], other, *value[place + 1 :]]
    else:
        yield from bad


def one_more_centre(params: dict[str, Any]) -> dict[str, Any]:
    return params | {"centres": [*params["centres"], params["centres"][-1]]}


@pytest.mark.parametrize("key", KEYS)
def test_parameters_of_the_wrong_type_size_or_range_are_refused(key: tuple[str, int]) -> None:
    study = study_of(key)
    assert isinstance(bind(study, *key, VALID[key], SCALE_BITS), CATALOGUE[key])
    tried = 0
    for params in [*changed(VALID[key], BAD_LEAVES), *BAD_WHOLES, {}]:
        if key == ("evaluation", 1) and params == one_more_centre(VALID[key]):
            continue  # no other list must be as long
        if key in CLASSIFIER_GENERATORS and still_good(key, params):
            continue
        with pytest.raises(ProtocolError):
            bind(study, *key, params, SCALE_BITS)
        tried += 1
    assert tried > 20


def still_good(key: tuple[str, int], params: Any) -> bool:
    """Whether the change is none that matters: other points, one cell or one edge more or less."""
    try:
        found = bind(study_of(key), *key, params, SCALE_BITS).params()
    except ProtocolError:
        return False
    assert canonical.encode(found) == canonical.encode(params)  # True is not 1
    assert [name for name in params if params[name] != VALID[key][name]] in (
        ["directions"],
        ["edges"],
        ["model"],
        ["offsets"],
        ["radii"],
        ["radius"],
        ["scores"],
    )
    return True


def changed_intercept(intercept: list[int]) -> dict[str, Any]:
    model: dict[str, Any] = VALID["residual-sums", 1]["model"]
    return model | {"intercept": intercept}


DIAMETER = math.isqrt(4 * GRID**2 + 5 * ONE_HOT**2)
RANGES: list[tuple[tuple[str, int], dict[str, Any], bool]] = [
    (("marginals", 1), {"bins": 2}, True),
    (("marginals", 1), {"bins": 1}, False),
    (("marginals", 1), {"bins": MAX_BINS}, True),
    (("marginals", 1), {"bins": MAX_BINS + 1}, False),
    (("grid", 1), {"bins": [1, 1, 1, 1, 1]}, True),
    (("grid", 1), {"bins": [0, 1, 1, 1, 1]}, False),
    (("grid", 1), {"bins": [MAX_BINS, 1, 1, 1, 1]}, True),
    (("grid", 1), {"bins": [MAX_BINS + 1, 1, 1, 1, 1]}, False),
    (("grid", 1), {"bins": [MAX_BINS, MAX_BINS, 1, 1, 1]}, False),  # too long a vector
    *(
        (("cluster-sums", 1), VALID["cluster-sums", 1] | change, good)
        for change, good in (
            ({"radii": [DIAMETER + 1, 1]}, True),
            ({"radii": [DIAMETER + 2, 1]}, False),
            ({"radii": [0, 1]}, False),
            ({"fill": [GRID] * 5}, True),
            ({"fill": [0, 0, 0, 0, GRID + 1]}, False),
            ({"centres": [[0] * 9, [0] * 8 + [GRID + 1]]}, False),
            ({"count_share": 1}, True),
            ({"count_share": 0}, False),
            ({"count_share": 99}, True),
            ({"count_share": 100}, False),
            ({"centres": [[0] * 9] * MAX_CENTRES, "radii": [1] * MAX_CENTRES}, True),
            ({"centres": [[0] * 9] * (MAX_CENTRES + 1), "radii": [1] * (MAX_CENTRES + 1)}, False),
            ({"centres": [], "radii": []}, False),
        )
    ),
    *(
        (("evaluation", 1), VALID["evaluation", 1] | change, good)
        for change, good in (
            ({"reach": 1}, True),
            ({"reach": 0}, False),
            ({"reach": DIAMETER + 1}, True),
            ({"reach": DIAMETER + 2}, False),
            ({"bins": 1}, True),
            ({"bins": 0}, False),
            ({"bins": evaluation.MAX_BINS}, True),
            ({"bins": evaluation.MAX_BINS + 1}, False),
            ({"fill": [GRID] * 5}, True),
            ({"fill": [0, 0, 0, 0, GRID + 1]}, False),
            ({"fill": [-1, 0, 0, 0, 0]}, False),
            ({"centres": [[0] * 9, [0] * 8 + [GRID + 1]]}, False),
            ({"centres": [[0] * 9] * 2}, True),  # they may coincide
            ({"centres": [[0] * 9]}, False),  # a silhouette needs two
            ({"centres": []}, False),
            ({"centres": [[0] * 9] * MAX_CENTRES}, True),
            ({"centres": [[0] * 9] * (MAX_CENTRES + 1)}, False),
        )
    ),
    *(
        (("label-histograms", 1), VALID["label-histograms", 1] | change, good)
        for change, good in (
            ({"held": [0, PARTS]}, True),
            ({"held": [0, PARTS + 1]}, False),
            ({"held": [-1, 200]}, False),
            ({"bins": 2}, True),
            ({"bins": 1}, False),
            ({"bins": MAX_BINS}, True),
            ({"bins": MAX_BINS + 1}, False),
            ({"weights": [1, 1, 1]}, True),
            ({"weights": [0, 1, 1]}, False),
            ({"weights": [WEIGHT, 1, 1]}, False),  # longer than 1
        )
    ),
    *(
        (("residual-sums", 1), VALID["residual-sums", 1] | change, good)
        for change, good in (
            ({"model": changed_intercept([LARGEST])}, True),
            ({"model": changed_intercept([-LARGEST])}, True),
            ({"model": changed_intercept([LARGEST + 1])}, False),
            ({"model": changed_intercept([0, 0])}, False),
            ({"weights": [WEIGHT, 1, 1]}, False),
        )
    ),
    *(
        (("score-moments", 1), VALID["score-moments", 1] | change, good)
        for change, good in (
            ({"factors": [0, LARGEST_FACTOR]}, True),
            ({"factors": [0, LARGEST_FACTOR + 1]}, False),
            ({"radii": [LARGEST_RADIUS, 1]}, True),
            ({"radii": [LARGEST_RADIUS + 1, 1]}, False),
            ({"radii": [0, 1]}, False),
            ({"share": 1}, True),
            ({"share": 0}, False),
            ({"share": 100}, False),
        )
    ),
    *(
        (("score-evaluation", 1), VALID["score-evaluation", 1] | change, good)
        for change, good in (
            ({"edges": [[0]]}, True),
            ({"edges": [[]]}, False),
            ({"edges": []}, False),
            ({"edges": [[0], [0]]}, False),  # two classes have one score
            ({"edges": [[0, 0]]}, False),
            ({"edges": [[1, 0]]}, False),
            ({"edges": [[-LARGEST_EDGE, LARGEST_EDGE]]}, True),
            ({"edges": [[LARGEST_EDGE + 1]]}, False),
            ({"edges": [list(range(MAX_EDGES))]}, True),
            ({"edges": [list(range(MAX_EDGES + 1))]}, False),
            ({"share": 1}, False),  # there is no confusion matrix beside the histogram
        )
    ),
]


@pytest.mark.parametrize(
    ("edges", "share", "good"),
    [
        ([[1], [CHANCE], [5, 6]], 30, True),
        ([[1], [CHANCE], [5, 6]], 0, False),
        ([[1], [CHANCE], [5, 6]], 100, False),
        ([[0], [1], [1]], 30, False),  # no chance is below 0
        ([[1], [CHANCE + 1], [1]], 30, False),
        ([[1], [1]], 30, False),
    ],
)
def test_edges_of_more_than_two_classes(edges: list[list[int]], share: int, good: bool) -> None:
    parts = [[[1, 2, 3]] * 5, [[0, 0, 0]] * 4]
    params = {
        "held": [0, 200],
        "model": {"intercept": [0, 0, 0], "parts": parts},
        "edges": edges,
        "share": share,
    }
    study = CLASSIFIER_STUDIES["three classes"]
    if good:
        assert bind(study, "score-evaluation", 1, params, SCALE_BITS).params() == params
        return
    with pytest.raises(ProtocolError):
        bind(study, "score-evaluation", 1, params, SCALE_BITS)


@pytest.mark.parametrize("key", sorted(VALID_CLASSIFIER))
def test_a_lattice_too_coarse_for_a_classifier_s_sum_is_refused(key: tuple[str, int]) -> None:
    with pytest.raises(ProtocolError, match="coarse"):
        bind(study_of(key), *key, VALID[key], MIN_SCALE_BITS - 1)


def test_the_smallest_weight_of_label_histograms_is_fine_enough_or_refused() -> None:
    """Rule 8: a customer counts at least 2^12 lattice units, for every feature."""
    key = ("label-histograms", 1)
    params = VALID[key] | {"weights": [9000, 9000, 1]}
    bind(study_of(key), *key, params, 26)
    with pytest.raises(ProtocolError, match="coarse"):
        bind(study_of(key), *key, params, 25)


@pytest.mark.parametrize(("key", "params", "good"), RANGES)
def test_the_ends_of_each_range(key: tuple[str, int], params: dict[str, Any], good: bool) -> None:
    study = study_of(key)
    if good:
        assert bind(study, *key, params, SCALE_BITS).params() == params
        return
    with pytest.raises(ProtocolError):
        bind(study, *key, params, SCALE_BITS)


def test_the_evaluation_s_smallest_part_is_fine_enough_or_refused() -> None:
    """Rule 8: a customer counts at least 2^12 lattice units, in every part."""
    key = ("evaluation", 1)
    bind(MIXED, *key, VALID[key], 14)
    with pytest.raises(ProtocolError, match="coarse"):
        bind(MIXED, *key, VALID[key], 13)


def test_a_lattice_too_coarse_for_the_radii_is_refused() -> None:
    """A weight of 0 lattice units a step would silently lose the sums."""
    with pytest.raises(ProtocolError):
        bind(MIXED, "cluster-sums", 1, VALID["cluster-sums", 1], MIN_SCALE_BITS)
    for bits in range(MIN_SCALE_BITS, MAX_SCALE_BITS + 1):
        try:
            query = bind(MIXED, "cluster-sums", 1, VALID["cluster-sums", 1], bits)
        except ProtocolError:
            continue
        assert isinstance(query, ClusterSums)
        assert (query.weights >= 1).all()


@pytest.mark.parametrize("name", ["", "rows", "Marginals", "marginals "])
@pytest.mark.parametrize("version", [0, 2, -1])
def test_nothing_outside_the_catalogue_is_answered(name: str, version: int) -> None:
    with pytest.raises(ProtocolError):
        bind(MIXED, name, 1, {"bins": 32}, SCALE_BITS)
    with pytest.raises(ProtocolError):
        bind(MIXED, "marginals", version, {"bins": 32}, SCALE_BITS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@pytest.mark.parametrize("key", KEYS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_parameters_are_accepted_or_refused(key: tuple[str, int], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(VALID[key])))
    params = VALID[key] | {name: data.draw(JSON)}
    try:
        assert bind(study_of(key), *key, params, SCALE_BITS).params() == params
    except ProtocolError:
        assert repr(params) != repr(VALID[key])  # False is not 0


def test_no_query_that_fits_in_a_vector_outgrows_float64() -> None:
    """Products stay whole in float64: 4·d·GRID² < 2^53 for the longest vector of any query."""
    assert 4 * MAX_LENGTH * GRID**2 < EXACT == 2**53
    lists = [
        {"kind": "categorical", "name": f"c{i}", "levels": [f"{j}" for j in range(4096)]}
        for i in range(30)
    ]
    study = small_study(features=lists)
    dimensions = Embedding.of(study).dimensions
    for count in (1, 8, 9):
        params = {
            "centres": [[0] * dimensions] * count,
            "radii": [1] * count,
            "fill": [0] * 30,
            "count_share": 10,
        }
        if count * (1 + dimensions) <= MAX_LENGTH:
            assert bind(study, "cluster-sums", 1, params, SCALE_BITS).length <= MAX_LENGTH
        else:
            with pytest.raises(ProtocolError):
                bind(study, "cluster-sums", 1, params, SCALE_BITS)


def test_a_lattice_below_the_weights_steps_is_refused() -> None:
    """One feature may have all the weight; its steps must still be whole on the lattice."""
    study = CLASSIFIER_STUDIES["two classes"]
    features = len(Embedding.of(study).features)
    params = {"held": [0, 200], "bins": 2, "weights": [WEIGHT] * features}
    assert features == 1
    with pytest.raises(ProtocolError, match="coarse"):
        bind(study, "label-histograms", 1, params, WEIGHT_BITS - 1)
    assert bind(study, "label-histograms", 1, params, WEIGHT_BITS).delta_sq == WEIGHT**2


def test_a_list_of_many_levels_needs_no_table_of_them_all() -> None:
    """A table of 4,096 levels by as many would be 128 MB, and anew for every few rows."""
    feature = _levels(300)
    space = Coordinates(Embedding((feature,), (0,)))
    codes = np.arange(feature.cells, dtype=np.int16)[:, None]
    np.testing.assert_array_equal(space.rows(codes), level_table(feature))
    many = Coordinates(Embedding((_levels(4096),), (0,)))
    tracemalloc.start()
    assert many.rows(np.zeros((2, 1), dtype=np.int16)).shape == (2, 4098)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


def _levels(count: int) -> Categorical:
    return Categorical("categorical", "p", tuple(f"p{place}" for place in range(count)))
