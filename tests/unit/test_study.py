"""Studies: every field is checked by name, and the hash says what was agreed and nothing else."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from copy import deepcopy
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kesit_privacy import recipes
from kesit_privacy.errors import StudyError
from kesit_privacy.features import Categorical, Numeric
from kesit_privacy.files import slug
from kesit_privacy.processing import Processing
from kesit_privacy.study import (
    PlanStep,
    RosterRules,
    Segmentation,
    Study,
    Thresholds,
)
from kesit_privacy.study_file import load_study, study_from_tables, study_from_toml
from kesit_privacy.tables import MAX_BYTES, read_tables
from kit import small_study, study_tables

FULL: dict[str, Any] = {
    "name": "Müşteri grupları",
    "purpose": "customer-segmentation",
    "legal_basis": "explicit-consent",
    "epsilon": 1.0,
    "delta": 1e-5,
    "declared_customers": 3000,
    "max_clients_per_customer": 2,
    "protected": ["gender"],
    "target": "churn",
    "segmentation": {"k": 3, "features": ["x", "y"], "smallest_k": 2},
    "roster": {"min_size": 4, "max_colluders": 2, "silence_probability": 0.01},
    "thresholds": {"min_segment_size": 20},
    "features": [
        {
            "kind": "numeric",
            "name": "x",
            "lower": 0.0,
            "upper": 1.0,
            "transform": "linear",
            "may_be_constant": False,
            "label_en": "monthly income",
            "label_tr": "aylık gelir",
            "tags": ["profiling", "sentiment"],
        },
        {"kind": "numeric", "name": "y", "lower": -1.0, "upper": 1e6, "transform": "signed-log"},
        {
            "kind": "categorical",
            "name": "gender",
            "levels": ["f", "m"],
            "may_be_constant": True,
            "label_en": "gender",
            "label_tr": "cinsiyet",
            "tags": ["special-category"],
        },
        {"kind": "categorical", "name": "churn", "levels": ["no", "yes"]},
    ],
    "plan": [
        {"step": "grid", "query": "grid", "share": 0.5},
        {"step": "lloyd-1", "query": "cluster-sums", "share": 0.2},
        {"step": "lloyd-2", "query": "cluster-sums", "share": 0.2},
        {"step": "evaluation", "query": "evaluation", "share": 0.1},
    ],
    "processing": {
        "description": "Groups of customers with similar use.",
        "retention_days": 365,
        "profiling": True,
        "automated_decisions": False,
        "special_ground": "explicit-consent",
        "regions": ["TR", "DE"],
    },
}
"""Every field of a study, written out."""


def put(tables: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of parsed TOML with another value at a dotted path."""
    copy = deepcopy(tables)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = copy
    for part in way:
        place = place[part]
    place[last] = value
    return copy


def error_of(tables: dict[str, Any]) -> StudyError:
    """The error of a study that cannot be used."""
    with pytest.raises(StudyError) as error:
        study_from_tables(tables)
    assert error.value.cause
    assert error.value.remedy
    return error.value


def test_turkish_names_are_file_names() -> None:
    assert slug("Ankara rıza: İŞÇİ Ğüöç ığdır") == "ankara-riza-isci-guoc-igdir"
    assert slug("研究") == "study"


def test_the_full_study_is_a_study() -> None:
    study = study_from_tables(FULL)
    assert study.step("grid") == study.plan[0]
    assert study.step("none") is None


def test_the_tests_below_know_every_field() -> None:  # a classifier's: test_classification_study
    assert {*FULL, "classification"} == {field.name for field in fields(Study)}
    nested = {
        Segmentation: FULL["segmentation"],
        RosterRules: FULL["roster"],
        Thresholds: FULL["thresholds"],
        PlanStep: FULL["plan"][0],
        Processing: FULL["processing"],
        Numeric: FULL["features"][0],
        Categorical: FULL["features"][2],
    }
    for kind, written in nested.items():
        assert set(written) == {field.name for field in fields(kind)}


# Wrong types and values.

LABELS = [
    "features.0.label_en",
    "features.0.label_tr",
    "features.2.label_en",
    "features.2.label_tr",
]
TEXT = ["name", "purpose", "target", "features.0.name", "plan.0.step", "plan.0.query", *LABELS]
TEXT += ["processing.description"]
CHOICES = ["legal_basis", "features.0.transform", "processing.special_ground"]
REALS = [
    "epsilon",
    "delta",
    "features.0.lower",
    "features.0.upper",
    "roster.silence_probability",
    "plan.0.share",
]
WHOLE = [
    "declared_customers",
    "max_clients_per_customer",
    "segmentation.k",
    "segmentation.smallest_k",
    "roster.min_size",
    "roster.max_colluders",
    "thresholds.min_segment_size",
    "processing.retention_days",
]
FLAGS = ["features.0.may_be_constant", "features.2.may_be_constant"]
FLAGS += ["processing.profiling", "processing.automated_decisions"]
LISTS = ["protected", "segmentation.features", "features.2.levels", "features", "plan"]
LISTS += ["features.0.tags", "features.2.tags", "processing.regions"]
TABLES = ["segmentation", "roster", "thresholds", "processing"]
A_DATE = datetime.date(2025, 1, 1)

WRONG_TYPES = [
    *itertools.product(TEXT + CHOICES, [5, 1.5, True, ["x"], {"x": 1}, A_DATE]),
    *itertools.product(REALS, ["1", True, [1.0], {"x": 1}, A_DATE]),
    *itertools.product(WHOLE, ["3", 3.0, True, [3], {"x": 1}]),
    *itertools.product(FLAGS, ["true", 1, 0, []]),
    *itertools.product(LISTS, ["x", 5, {"x": 1}, True]),
    *itertools.product(TABLES, ["x", 5, ["x"], True]),
]


@pytest.mark.parametrize(("path", "value"), WRONG_TYPES)
def test_a_wrong_type_is_refused_by_the_name_of_its_field(path: str, value: Any) -> None:
    assert error_of(put(FULL, path, value)).field == path


NOT_FINITE = [*itertools.product(REALS, [math.nan, math.inf, -math.inf])]
BLANK = [*itertools.product([name for name in TEXT if name != "target"], ["", " x", "a\nb"])]
OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("epsilon", 0.0),
    ("epsilon", -1.0),
    ("epsilon", 101.0),
    ("delta", 0.0),
    ("delta", 0.1),
    ("delta", -1e-5),
    ("declared_customers", 0),
    ("declared_customers", 10**11),
    ("max_clients_per_customer", 0),
    ("max_clients_per_customer", 1001),
    ("segmentation.k", 1),
    ("segmentation.k", 251),
    ("segmentation.smallest_k", 1),
    ("segmentation.smallest_k", 251),
    ("roster.min_size", 1),
    ("roster.max_colluders", -1),
    ("roster.silence_probability", -0.1),
    ("roster.silence_probability", 1.0),
    ("thresholds.min_segment_size", 0),
    ("plan.0.share", 0.0),
    ("plan.0.share", 1.5),
    ("legal_basis", "legitimate interest"),
    ("features.0.transform", "log"),
    ("features.0.name", "x" * 121),
    ("features.2.levels", ["f"]),
    ("features.2.levels", []),
    ("features", []),
]


@pytest.mark.parametrize(("path", "value"), NOT_FINITE + BLANK + OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(path: str, value: Any) -> None:
    assert error_of(put(FULL, path, value)).field == path


CONTRADICTIONS: list[tuple[str, Any, str, str]] = [
    ("features.0.lower", 1.0, "features.0", "must be less than upper"),
    ("features.0.lower", 2.0, "features.0", "must be less than upper"),
    ("features.0.kind", "number", "features.0", "number"),
    ("features.2.levels", ["f", "m", "f"], "features.2.levels", "listed twice: f"),
    ("features.2.levels", ["f", "m "], "features.2.levels", "space around it"),
    ("features.2.levels", ["f", " m"], "features.2.levels.1", "pattern"),
    ("features.1.name", "x", "features", "defined twice: x"),
    ("roster.min_size", 3, "roster", r"at least max_colluders \+ 2 \(4\)"),
    ("roster.max_colluders", 3, "roster", r"at least max_colluders \+ 2 \(5\)"),
    ("protected", ["sex"], "protected", "'sex', which is no feature.*Use one of: churn, gender"),
    ("target", "sold", "target", "'sold', which is no feature"),
    ("segmentation.features", ["z"], "segmentation.features", "'z', which is no feature"),
    ("segmentation.features", ["x", "x"], "segmentation.features", "twice"),
    ("segmentation.k", 151, "segmentation.k", "151 segments of at least 20 do not fit in 3,000"),
    ("segmentation.smallest_k", 3, "segmentation", r"\(3\) must be less than k \(3\)"),
    ("segmentation.smallest_k", 4, "segmentation", "leave it out for exactly 3 segments"),
    ("declared_customers", 200_000, "delta", "no promise for 200,000 customers"),
    ("plan.1.step", "grid", "plan", "two steps have the same name"),
    ("plan.1.step", "lloyd-3", "plan", r"lloyd-1 \(cluster-sums\)"),
    ("plan.1.query", "grid", "plan", r"lloyd-1 \(cluster-sums\)"),
]


@pytest.mark.parametrize(("path", "value", "field", "message"), CONTRADICTIONS)
def test_contradictions_are_refused_by_name(
    path: str, value: Any, field: str, message: str
) -> None:
    error = error_of(put(FULL, path, value))
    assert error.field == field
    assert re.search(message, str(error))


def test_nothing_left_to_segment_is_refused() -> None:
    error = error_of(study_tables(protected=["x"], target="y"))
    assert error.field == "segmentation.features"
    assert "every feature is protected or the target" in error.cause


@pytest.mark.parametrize(
    "place", ["", "segmentation", "roster", "thresholds", "features.0", "features.2", "plan.0"]
)
def test_an_unknown_key_is_named(place: str) -> None:
    path = f"{place}.epslon" if place else "epslon"
    error = error_of(put(FULL, path, 1.0))
    assert error.field == path
    assert "is not a field that is known here" in error.cause


@pytest.mark.parametrize(
    "path",
    [
        "name",
        "purpose",
        "legal_basis",
        "epsilon",
        "delta",
        "declared_customers",
        "features",
        "segmentation.k",
        "features.0.name",
        "features.0.lower",
        "features.2.levels",
        "plan.0.share",
    ],
)
def test_a_missing_field_is_named(path: str) -> None:
    tables = put(FULL, path, None)
    *way, last = path.split(".")
    place: Any = tables
    for part in way:
        place = place[int(part) if part.isdigit() else part]
    del place[last]
    error = error_of(tables)
    assert error.field == path
    assert "required" in error.cause


def test_a_misspelt_field_is_named_as_it_is_written() -> None:
    """It is also missing under its right name; the author looks for what stands in the file."""
    tables = study_tables()
    tables["epsilonn"] = tables.pop("epsilon")
    assert error_of(tables).field == "epsilonn"


# Files.


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"name = ", "is not TOML"),
        (b"name = 1\nname = 2\n", "is not TOML.*line 2"),
        ("name = 'Müşteri'".encode("cp1254"), r"is not UTF-8 \(byte 9\)"),
        (b"#" * (MAX_BYTES + 1), "larger than 4 MiB"),
        (b"", "study.toml|name"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(data)
    with pytest.raises(StudyError, match=message):
        load_study(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"none\.toml: cannot be read \(No such file"):
        load_study(tmp_path / "none.toml")
    with pytest.raises(StudyError, match="cannot be read"):
        read_tables(tmp_path)


# The hash.


def hash_of(tables: dict[str, Any]) -> str:
    return study_from_tables(tables).hash


OTHERS: dict[str, Any] = {
    "name": "Müşteri gruplari",
    "purpose": "marketing",
    "legal_basis": "contract",
    "epsilon": 1.0000000000000002,
    "delta": 1.0000000000000003e-5,
    "declared_customers": 3001,
    "max_clients_per_customer": 3,
    "protected": [],
    "target": "gender",
    "segmentation.k": 4,
    "segmentation.features": ["y", "x"],
    "segmentation.smallest_k": None,
    "roster.min_size": 5,
    "roster.max_colluders": 1,
    "roster.silence_probability": 0.011,
    "thresholds.min_segment_size": 21,
    "features.0.name": "z",
    "features.0.lower": -5e-324,
    "features.0.upper": 1.0000000000000002,
    "features.0.transform": "signed-log",
    "features.0.may_be_constant": True,
    "features.0.label_en": "income",
    "features.0.label_tr": None,
    "features.1.transform": "linear",
    "features.2.levels": ["m", "f"],
    "features.2.may_be_constant": False,
    "features.2.label_en": None,
    "features.2.label_tr": "cins",
    "features.2": {"kind": "numeric", "name": "gender", "lower": 0.0, "upper": 1.0},
    "plan": [
        {"step": "grid", "query": "grid", "share": 0.5},
        {"step": "lloyd-1", "query": "cluster-sums", "share": 0.1},
        {"step": "lloyd-2", "query": "cluster-sums", "share": 0.3},
        {"step": "evaluation", "query": "evaluation", "share": 0.1},
    ],
    "features.0.tags": ["sentiment", "profiling"],
    "features.2.tags": [],
    "processing": None,
    "processing.description": "Groups of customers.",
    "processing.retention_days": 366,
    "processing.profiling": False,
    "processing.automated_decisions": None,
    "processing.special_ground": "law",
    "processing.regions": ["DE", "TR"],
}


def test_the_hash_changes_with_every_field() -> None:
    hashes = {hash_of(FULL)}
    for path, value in OTHERS.items():
        tables = put(FULL, path, value)
        if path == "features.0.name":
            tables["segmentation"]["features"] = ["z", "y"]
        hashes.add(hash_of(tables))
    swapped = FULL | {"features": [FULL["features"][i] for i in (1, 0, 2, 3)]}
    hashes.add(hash_of(swapped))  # the order of columns is agreed too
    assert len(hashes) == len(OTHERS) + 2
    named = {path.split(".")[0] for path in OTHERS}
    assert {*named, "classification"} == {field.name for field in fields(Study)}


PLAIN = """
name = "small"
purpose = "customer-segmentation"
legal_basis = "explicit-consent"
epsilon = 1.0
delta = 1e-5
declared_customers = 3000
segmentation = { k = 3 }
[[features]]
kind = "numeric"
name = "x"
lower = 0.0
upper = 1.0
[[features]]
kind = "numeric"
name = "y"
lower = 0.0
upper = 1.0
"""

OTHERWISE_WRITTEN = """
# A comment.
delta = 0.000_01
epsilon = 1          # a whole number
declared_customers = 3_000
purpose = 'customer-segmentation'
legal_basis = \"\"\"explicit-consent\"\"\"
name = "\\u0073mall"
protected = []
plan = [ PLAN ]
features = [
    { upper = 1, lower = 0, name = "x", kind = "numeric", transform = "linear" },
    { name = "y", kind = "numeric", lower = 0e0, upper = 1.00, may_be_constant = false },
]
[simulation]
data = "anything"
[roster]
max_colluders = 1
[segmentation]
k = 3
features = []
"""


PLAN = ", ".join(
    f'{{ share = {Decimal(repr(step.share)):e}, query = "{step.query}", step = "{step.step}" }}'
    for step in reversed(recipes.GRID_PLAN)
)


def test_the_hash_changes_with_no_formatting() -> None:
    """Order, comments, spellings of a number, defaults, the default plan, a machine's table."""
    study = study_from_toml(PLAIN)
    other = study_from_toml(OTHERWISE_WRITTEN.replace("PLAN", PLAN))
    assert other.hash == study.hash
    assert study_from_toml(PLAIN.replace("\n", "\r\n")).hash == study.hash
    assert small_study().hash == study.hash
    assert study.canonical == other.canonical
    assert re.fullmatch("[0-9a-f]{64}", study.hash)


# The plan.


@pytest.mark.parametrize(
    ("shares", "total"),
    [
        ((0.5, 0.2, 0.1, 0.1), "0.9"),
        ((0.5, 0.2, 0.1, 0.3), "1.1"),
        ((0.1, 0.1, 0.1, 0.7000000000000001), "1"),
        ((0.333, 0.333, 0.332, 0.001), "0.999"),
    ],
)
def test_shares_must_add_up_to_exactly_one(shares: tuple[float, ...], total: str) -> None:
    plan = [step | {"share": share} for step, share in zip(FULL["plan"], shares, strict=True)]
    error = error_of(put(FULL, "plan", plan))
    assert error.field == "plan"
    assert f"add up to {total}; they must add up to exactly 1" in error.cause


@given(
    cuts=st.lists(st.integers(1, 9999), min_size=3, max_size=3, unique=True).map(sorted),
    epsilon=st.floats(0.5, 100),  # less would have another plan
)
def test_the_steps_together_never_exceed_the_study(cuts: list[int], epsilon: float) -> None:
    """Shares are the decimals in the file: 0.1 + 0.2 + 0.3 + 0.4 is 1, whatever doubles say."""
    edges = itertools.pairwise([0, *cuts, 10_000])
    parts = [float(Fraction(high - low, 10_000)) for low, high in edges]
    plan = [step | {"share": part} for step, part in zip(FULL["plan"], parts, strict=True)]
    study = small_study(plan=plan, epsilon=epsilon)
    units = [study.step_units(step) for step in study.plan]
    assert study.mu2_units - len(units) < sum(units) <= study.mu2_units
    for step, unit in zip(study.plan, units, strict=True):
        assert unit <= study.mu2_units * step.exact_share < unit + 1
