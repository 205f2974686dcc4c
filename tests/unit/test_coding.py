"""Coding: `encode` is total and pure for each value; `check` names every problem and its remedy."""

from __future__ import annotations

import datetime
import decimal
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from classifierkit import churn_tables
from kesit_client.errors import DataError
from kesit_client.rows.cache import CachedRows
from kesit_client.rows.coding import (
    Coverage,
    check,
    coverage,
    encode,
)
from kesit_client.rows.sources import FrameSource
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import GRID, MISSING_NUMERIC, Numeric
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.queries import Marginals
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.wire import RefusalCode
from kesit_simulations.runner import check_distinct
from kit import ask, instruct, random_codes, say_hello, small_nodes, small_study, study_tables

LEVELS = ["İstanbul", "Iğdır", "web", "1", "1.0", "true"]
TABLE: list[dict[str, Any]] = [
    {"kind": "numeric", "name": "a", "lower": -10.0, "upper": 10.0},
    {"kind": "numeric", "name": "b", "lower": -5.0, "upper": 1e9, "transform": "signed-log"},
    {"kind": "categorical", "name": "c", "levels": LEVELS},
]
STUDY = small_study(features=TABLE, segmentation={"k": 2})

turkish = st.text("çğıöşüÇĞİÖŞÜIi ", max_size=6)
numerals = st.floats().map(str) | st.integers().map(str) | st.sampled_from(["1,5", "1.234,56"])
odd = st.sampled_from(
    ["", " ", "\t", "\u00a0", "nan", "NaN", "inf", "-inf", "1e400", "-1e400", "0x10", "+5", "1_0"]
)
texts = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    turkish,
    numerals,
    numerals.map(lambda text: f"  {text}\n"),
    odd,
    st.sampled_from(LEVELS),
)
floats = st.none() | st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -0.0])
columns = st.one_of(
    st.lists(texts, min_size=1, max_size=12).map(lambda v: pl.Series(v, dtype=pl.String)),
    st.lists(floats, min_size=1, max_size=12).map(lambda v: pl.Series(v, dtype=pl.Float64)),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12).map(
        lambda v: pl.Series(v, dtype=pl.Int64)
    ),
    st.lists(st.none() | st.booleans(), min_size=1, max_size=12).map(
        lambda v: pl.Series(v, dtype=pl.Boolean)
    ),
)


def table(column: pl.Series) -> pl.DataFrame:
    """A table in which every feature holds this column."""
    ids = pl.Series("id", range(len(column)), dtype=pl.Int64)
    return pl.DataFrame([ids, column.alias("a"), column.alias("b"), column.alias("c")])


def codes_of(frame: pl.DataFrame, study: Study = STUDY) -> np.ndarray[Any, Any]:
    return encode(frame, study, "id")


# Total and pure.


@settings(max_examples=200)
@given(column=columns, data=st.data())
def test_encode_is_total_and_pure_for_each_value(column: pl.Series, data: st.DataObject) -> None:
    frame = table(column)
    codes = codes_of(frame)
    assert codes.shape == (len(column), 3)
    assert codes.dtype == np.int16
    assert ((codes[:, :2] >= MISSING_NUMERIC) & (codes[:, :2] <= GRID)).all()
    assert ((codes[:, 2] >= 0) & (codes[:, 2] < len(LEVELS) + 2)).all()
    # Any rows, in any order, have the codes that they have among all.
    chosen = data.draw(st.permutations(range(len(column))))
    chosen = chosen[: data.draw(st.integers(0, len(column)))]
    assert (codes_of(frame[chosen]) == codes[chosen]).all()
    # The owner's check speaks of anything, and raises nothing.
    assert all(problem.cause and problem.remedy for problem in check(frame, STUDY, "id"))


EXOTIC = {
    "bytes": pl.Series([b"\xff", b"1", None]),
    "dates": pl.Series([datetime.date(2024, 1, 1), None, datetime.date(2025, 1, 1)]),
    "durations": pl.Series([datetime.timedelta(1), None, datetime.timedelta(2)]),
    "times": pl.Series([datetime.time(1), None, datetime.time(2)]),
    "lists": pl.Series([[1], [2], None]),
    "structs": pl.Series([{"x": 1}, {"x": 2}, None]),
    "objects": pl.Series([object(), object(), None], dtype=pl.Object),
    "nothing": pl.Series([None, None, None]),
    "decimals": pl.Series([decimal.Decimal("1.5"), decimal.Decimal("-1.5"), None]),
    "categories": pl.Series(["web", "5", None], dtype=pl.Categorical),
    "an enumeration": pl.Series(["web", "5", None], dtype=pl.Enum(["web", "5"])),
    "short floats": pl.Series([0.1, math.nan, math.inf], dtype=pl.Float32),
    "long integers": pl.Series([1, 2**100, None], dtype=pl.Int128),
}


@pytest.mark.parametrize("name", EXOTIC)
def test_every_type_of_column_has_codes(name: str) -> None:
    """A Parquet file may hold any type; what is no number and no text has no value."""
    frame = table(EXOTIC[name])
    codes = codes_of(frame)
    for row in range(len(frame)):
        assert (codes_of(frame[[row]]) == codes[[row]]).all()
    if name in ("bytes", "dates", "durations", "times", "lists", "structs", "objects"):
        assert (codes[:, :2] == MISSING_NUMERIC).all()
        problems = [problem for problem in check(frame, STUDY, "id") if problem.field == "a"]
        assert "no numbers" in problems[0].cause
    if name in ("categories", "an enumeration"):
        assert codes[:, 2].tolist() == [2, len(LEVELS), len(LEVELS) + 1]
        assert codes[1, 0] == codes_of(table(pl.Series(["5"])))[0, 0]


def test_codes_by_hand() -> None:
    """Text with space around it, Turkish letters, look-alikes and missing values."""
    values = ["İstanbul", " web ", "istanbul", "Istanbul", "1", "1.0", "", None, "nan", "10"]
    codes = codes_of(table(pl.Series(values)))
    unknown, missing = len(LEVELS), len(LEVELS) + 1
    assert codes[:, 2].tolist() == [
        0,
        2,
        unknown,
        unknown,
        3,
        4,
        missing,
        missing,
        unknown,
        unknown,
    ]
    one = round(11 / 20 * GRID)
    assert codes[:, 0].tolist() == [-1, -1, -1, -1, one, one, -1, -1, -1, GRID]


def test_of_two_rows_with_one_id_the_first_stands() -> None:
    frame = pl.DataFrame(
        {
            "id": ["x", "y", "x", None, "y"],
            "a": [1, 2, 3, 4, 5],
            "b": [1, 2, 3, 4, 5],
            "c": ["web"] * 5,
        }
    )
    codes = codes_of(frame)
    assert (codes == codes_of(frame[[0, 1]])).all()
    assert len(codes) == 2  # and a row without an id is nobody's


def test_no_rows_have_no_codes() -> None:
    assert codes_of(table(pl.Series([], dtype=pl.String))).shape == (0, 3)


# Places on the grid.

bounds = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def numerics(draw: st.DrawFn) -> Numeric:
    """Any numeric feature that a study may define."""
    low, high = sorted([draw(bounds), draw(bounds | st.floats(-1e6, 1e6))])
    transform = draw(st.sampled_from(["linear", "amount", "signed-log"]))
    try:
        return Numeric("numeric", "x", low, high, transform)  # type: ignore[arg-type]
    except ValueError:
        assume(False)
        raise


def placed(feature: Numeric, *values: float) -> list[int]:
    """Codes of values."""
    return [int(code) for code in feature.encode(np.array(values, dtype=np.float64))]


@settings(max_examples=60, deadline=None)
@given(feature=numerics())
def test_bounds_are_the_ends_of_the_grid(feature: Numeric) -> None:
    assert placed(feature, feature.lower, feature.upper) == [0, GRID]
    below = math.nextafter(feature.lower, -math.inf)
    above = math.nextafter(feature.upper, math.inf)
    assert placed(feature, below)[0] == (0 if math.isfinite(below) else MISSING_NUMERIC)
    assert placed(feature, above)[0] == (GRID if math.isfinite(above) else MISSING_NUMERIC)
    assert placed(feature, min(feature.lower, -1e300), max(feature.upper, 1e300)) == [0, GRID]


@settings(max_examples=60, deadline=None)
@given(feature=numerics(), share=st.floats(0, 1))
def test_a_value_is_within_half_a_step_of_its_code(feature: Numeric, share: float) -> None:
    """On the scale on which the grid is even: decode(encode(x)) returns to x within one step."""
    value = feature.lower + share * (feature.upper / 2 - feature.lower / 2) * 2
    assume(feature.lower <= value <= feature.upper)
    (code,) = placed(feature, value)
    step = (feature.forward(feature.upper) - feature.forward(feature.lower)) / GRID
    place = (feature.forward(value) - feature.forward(feature.lower)) / step
    assert abs(place - code) <= 0.5 + 1e-3
    if 0 < code < GRID:
        assert placed(feature, feature.decode(code)) == [code]
        back = feature.forward(feature.decode(code))
        assert abs(back - feature.forward(value)) <= step


@settings(max_examples=60, deadline=None)
@given(feature=numerics(), values=st.lists(bounds, min_size=2, max_size=20))
def test_codes_keep_the_order_of_values(feature: Numeric, values: list[float]) -> None:
    codes = placed(feature, *sorted(values))
    assert codes == sorted(codes)


def test_between_two_codes_the_higher_one_stands() -> None:
    feature = Numeric("numeric", "x", 0.0, float(GRID))
    below, above = math.nextafter(5.5, 0), math.nextafter(5.5, 10)
    assert placed(feature, 5.0, below, 5.5, above, 6.0) == [5, 5, 6, 6, 6]


def test_the_signed_log_is_odd_and_spreads_small_sums() -> None:
    feature = Numeric("numeric", "x", -1e6, 1e6, "signed-log")
    assert placed(feature, 0.0, -0.0) == [GRID // 2] * 2
    for value in (0.5, 3.0, 1000.0):
        low, high = placed(feature, -value, value)
        assert low + high == GRID
        assert feature.decode(high) == pytest.approx(value, rel=2e-3, abs=2e-3)
    linear = Numeric("numeric", "x", -1e6, 1e6)
    assert placed(linear, 3.0)[0] - GRID // 2 == 0 < placed(feature, 3.0)[0] - GRID // 2


def test_an_amount_keeps_two_thirds_of_the_grid_even_and_spreads_what_lies_near_0() -> None:
    feature = Numeric("numeric", "x", 0.0, 1000.0, "amount")
    assert placed(feature, -5.0, 0.0, 1000.0) == [0, 0, GRID]
    even = placed(Numeric("numeric", "x", 0.0, 1000.0), 1.0, 500.0)
    near, half = placed(feature, 1.0, 500.0)
    assert near > 20 * even[0]  # a thousandth of the range has 3 % of the grid
    assert GRID - half > 0.7 * (GRID - even[1])
    for value in (0.3, 7.0, 80.0, 999.0):
        assert feature.decode(placed(feature, value)[0]) == pytest.approx(value, rel=2e-3)
    below = Numeric("numeric", "x", -400.0, 1000.0, "amount")
    assert below.forward(-250.0) == -below.forward(250.0)


@pytest.mark.parametrize(
    ("lower", "upper", "given", "classifier", "wanted"),
    [
        (0.0, 100.0, None, True, "amount"),
        (-50.0, 100.0, None, True, "amount"),
        (-51.0, 100.0, None, True, "linear"),
        (18.0, 90.0, None, True, "linear"),
        (-100.0, -1.0, None, True, "linear"),
        (0.0, 100.0, "linear", True, "linear"),
        (0.0, 100.0, "signed-log", True, "signed-log"),
        (0.0, 100.0, None, False, "linear"),
        (0.0, 100.0, "amount", False, "amount"),
    ],
)
def test_a_classifier_s_study_finds_amounts_and_segments_keep_distances(
    lower: float, upper: float, given: str | None, classifier: bool, wanted: str
) -> None:
    tables = churn_tables() if classifier else study_tables()
    feature = {"kind": "numeric", "name": "new", "lower": lower, "upper": upper}
    if given is not None:
        feature["transform"] = given
    study = study_from_tables({**tables, "features": [*tables["features"], feature]})
    (found,) = (one for one in study.features if one.name == "new")
    assert isinstance(found, Numeric)
    assert found.transform == wanted


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(1.0, math.nextafter(1.0, 2)), (1e15, 1e15 + 1), (-1.7e308, 1.7e308), (0.0, 5e-324)],
)
def test_bounds_that_doubles_cannot_divide_are_refused(lower: float, upper: float) -> None:
    with pytest.raises(ValueError, match="too close together, or too far apart"):
        Numeric("numeric", "x", lower, upper)


# The owner's check.

GOOD = pl.DataFrame(
    {
        "id": ["1", "2", "3", "4"],
        "a": ["0.5", "1", None, "-3"],
        "b": ["10", "20", "30", ""],
        "c": ["web", "Iğdır", None, "web"],
    }
)


def test_good_data_have_no_problem() -> None:
    assert check(GOOD, STUDY, "id", min_customers=4) == []


PROBLEMS: dict[str, tuple[pl.DataFrame, int, str, str, str]] = {
    "text in a numeric column": (
        GOOD.with_columns(a=pl.Series(["0.5", "many", "1,5", "1"])),
        1,
        "a",
        r"2 values are no numbers \(row 2: 'many'\)",
        "Correct them",
    ),
    "NaN": (
        GOOD.with_columns(a=pl.Series([1.0, math.nan, 2.0, None])),
        1,
        "a",
        r"1 values are NaN \(first in row 2\)",
        "empty",
    ),
    "infinity": (
        GOOD.with_columns(a=pl.Series([1.0, 2.0, math.inf, -math.inf])),
        1,
        "a",
        r"2 values are infinite \(first in row 3\)",
        "empty",
    ),
    "infinity as text": (
        GOOD.with_columns(a=pl.Series(["1", "2", "inf", "1e999"])),
        1,
        "a",
        r"2 values are infinite \(first in row 3\)",
        "empty",
    ),
    "NaN as text": (
        GOOD.with_columns(a=pl.Series(["1", "2", "nan", "3"])),
        1,
        "a",
        r"1 values are no numbers \(row 3: 'nan'\)",
        "empty",
    ),
    "duplicate ids": (
        GOOD.with_columns(id=pl.Series(["1", "2", "2", "1"])),
        1,
        "id",
        r"2 customer ids stand in several rows \(first: '1'\)",
        "one row",
    ),
    "rows without an id": (
        GOOD.with_columns(id=pl.Series(["1", None, None, "4"])),
        1,
        "id",
        "2 rows have no id",
        "id",
    ),
    "an unknown category": (
        GOOD.with_columns(c=pl.Series(["web", "Web", "Izmir", None])),
        1,
        "c",
        "2 levels are not in the study: 'Izmir', 'Web'",
        "İstanbul, Iğdır.*add them to the study",
    ),
    "a constant number": (
        GOOD.with_columns(a=pl.lit("7")),
        1,
        "a",
        r"same value \(7\)",
        "may_be_constant",
    ),
    "a constant category": (
        GOOD.with_columns(c=pl.lit("web")),
        1,
        "c",
        r"same value \('web'\)",
        "may_be_constant",
    ),
    "a column that is all missing": (
        GOOD.with_columns(a=pl.lit(None, dtype=pl.String)),
        1,
        "a",
        r"same value \(missing\)",
        "may_be_constant",
    ),
    "no customer": (GOOD.clear(), 1, "id", "there is no customer", "filter"),
    "too few customers": (
        GOOD,
        5,
        "id",
        "4 customers are fewer than the policy's minimum of 5",
        "min_customers",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_has_its_place_cause_and_remedy(name: str) -> None:
    frame, minimum, field, cause, remedy = PROBLEMS[name]
    (problem,) = check(frame, STUDY, "id", minimum)
    assert problem.field == field
    error = DataError([problem])
    with pytest.raises(DataError, match=cause):
        raise error
    with pytest.raises(DataError, match=remedy):
        raise error
    assert str(problem) == f"{field}: {problem.cause} {problem.remedy}"
    # None of it changes whether the rows have codes.
    assert codes_of(frame).shape[1] == 3


def test_only_nameless_rows_are_no_customer() -> None:
    problems = check(GOOD.with_columns(id=pl.lit(None, dtype=pl.String)), STUDY, "id")
    assert [problem.cause for problem in problems] == [
        "4 rows have no id.",
        "there is no customer.",
    ]


def test_all_problems_are_told_at_once() -> None:
    frame = GOOD.with_columns(id=pl.lit("1"), a=pl.lit("x"), b=pl.lit(math.inf), c=pl.lit("y"))
    problems = check(frame, STUDY, "id", min_customers=2)
    assert {problem.field for problem in problems} == {"id", "a", "b", "c"}
    error = DataError(problems)
    assert error.problems == tuple(problems)
    assert f"and {len(problems) - 1} more" in str(error)


def test_constant_features_may_be_allowed() -> None:
    features = [feature | {"may_be_constant": True} for feature in TABLE]
    study = small_study(features=features, segmentation={"k": 2})
    frame = GOOD.with_columns(a=pl.lit("7"), b=pl.lit(None, dtype=pl.String), c=pl.lit("web"))
    assert check(frame, study, "id") == []


def test_k_larger_than_the_data_support() -> None:
    codes = np.zeros((50, 3), dtype=np.int16)
    codes[0, 0] = 1
    check_distinct(STUDY, codes)
    with pytest.raises(DataError, match=r"segmentation\.k.*1 distinct customers.*smaller k"):
        check_distinct(STUDY, codes[1:])


# Inside a run nothing of this shows.


@pytest.mark.parametrize("name", PROBLEMS)
def test_bad_data_change_nothing_that_leaves_a_node(tmp_path: Path, name: str) -> None:
    """Same code, same length as from good data; codes of the fixed list only."""
    lengths = []
    for place, frame in enumerate((GOOD, PROBLEMS[name][0])):
        nodes = small_nodes(STUDY, random_codes(STUDY, 12))
        source = FrameSource(frame, "id")
        nodes[0].rows = lambda study, s=source, p=place: CachedRows(s, study, tmp_path / str(p))
        transcript = say_hello(STUDY, nodes)
        query = Marginals(Embedding.of(STUDY), 8, SCALE_BITS)
        order = instruct(STUDY, transcript, "marginals", query)
        code, payload = ask(nodes[0], order, transcript)
        assert code is RefusalCode.OK
        lengths.append(len(payload))
    assert lengths[0] == lengths[1]


def test_one_letter_written_in_two_ways_is_one_level() -> None:
    study = small_study(
        features=[{"kind": "categorical", "name": "c", "levels": ["Gümüş", "Altın"]}]
    )
    table = pl.DataFrame({"id": ["1", "2"], "c": ["Gu\u0308mu\u0308s\u0327", "Altın"]})
    assert encode(table, study, "id").tolist() == [[0], [1]]
    assert check(table, study, "id") == []


def test_coverage_counts_what_is_missing_and_what_is_clipped() -> None:
    table = pl.DataFrame(
        {"id": list("abcd"), "x": ["0.5", "", "7", "-1"], "y": ["0", "1", "nan", "1"]}
    )
    assert coverage(table, small_study()) == [Coverage("x", 1, 2), Coverage("y", 1, 0)]
