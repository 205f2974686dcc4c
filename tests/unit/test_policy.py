"""The policy file: every field checked by name, caps turned into units, nothing from outside."""

from __future__ import annotations

import datetime
import itertools
import math
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from kesit_client.checklist import check_policy, check_server, check_window
from kesit_client.errors import PolicyError
from kesit_client.owner.policy import Lifetime, Period, Policy, PurposeCap, Window
from kesit_privacy import accounting
from kesit_privacy.hello import HelloRequest
from kesit_privacy.wire import Refusal, RefusalCode
from kit import small_study

A, B, C = "a" * 64, "b" * 64, "0123456789abcdef" * 4

FULL: dict[str, Any] = {
    "purposes": ["customer-segmentation"],
    "features": ["x", "y"],
    "queries": ["grid", "cluster-sums", "evaluation"],
    "min_roster": 3,
    "min_customers": 100,
    "servers": [C],
    "peers": {"Ankara": A, "İzmir": B},
    "lifetime": {"epsilon": 10.0, "delta": 1e-6, "neural_epsilon": 2.0},
    "periods": [{"days": 30, "epsilon": 2.0}],
    "purpose_caps": [{"purpose": "marketing", "epsilon": 1.0}],
    "studies": [small_study().hash],
    "max_epsilon": 2.0,
    "max_roster": 40,
    "bundles": [A],
    "consent": "required",
    "rules": ["kvkk", "gdpr"],
    "window": {"hours": "08:00-18:00", "days": ["mon", "fri"], "time_zone": "Europe/Istanbul"},
}


def toml(value: Any) -> str:
    """A value as inline TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}" = {toml(v)}' for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime.date) else repr(value)


def load(folder: Path, tables: dict[str, Any]) -> Policy:
    """The policy of these tables, through a file."""
    path = folder / "policy.toml"
    path.write_text("\n".join(f"{k} = {toml(v)}" for k, v in tables.items()), encoding="utf-8")
    return Policy.load(path)


def put(path: str, value: Any) -> dict[str, Any]:
    """`FULL` with another value at a dotted path."""
    copy = deepcopy(FULL)
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = copy
    for part in way:
        place = place[part]
    place[last] = value
    return copy


def test_the_full_policy_is_a_policy(tmp_path: Path) -> None:
    policy = load(tmp_path, FULL)
    assert policy.pinned == {A, B}
    assert policy.lifetime == Lifetime(10.0, 1e-6, 2.0)
    assert policy.periods == (Period(30, 2.0),)
    assert policy.purpose_caps == (PurposeCap("marketing", 1.0),)


def test_the_tests_below_know_every_field() -> None:
    """A field that is added to a policy must be added here."""
    assert set(FULL) == {field.name for field in fields(Policy)}
    for kind, written in (
        (Lifetime, FULL["lifetime"]),
        (Period, FULL["periods"][0]),
        (PurposeCap, FULL["purpose_caps"][0]),
        (Window, FULL["window"]),
    ):
        assert set(written) == {field.name for field in fields(kind)}


NAMES = ["purposes.0", "features.0", "queries.0", "purpose_caps.0.purpose"]
REALS = [
    "lifetime.epsilon",
    "lifetime.delta",
    "lifetime.neural_epsilon",
    "periods.0.epsilon",
    "purpose_caps.0.epsilon",
    "max_epsilon",
]
WHOLE = ["min_roster", "max_roster", "min_customers", "periods.0.days"]
LISTS = ["purposes", "features", "queries", "servers", "periods", "purpose_caps"]
LISTS += ["studies", "bundles", "window.days"]
KEYS = ["servers.0", "peers.Ankara", "studies.0", "bundles.0"]
HOURS = ["", "8:00-18:00", "08:00", "08:00-08:00", "24:00-08:00", "08:00-24:01", "08:60-18:00"]
HOURS += ["08:00-25:00", "08:00 - 18:00", "٠٨:٠٠-١٨:٠٠", 8]
ZONES = ["", "Mars/Olympus", "Europe", "../Europe/Istanbul", "/etc/passwd", 3]
A_DATE = datetime.date(2025, 1, 1)

WRONG: list[tuple[str, Any]] = [
    *itertools.product(NAMES, [5, True, ["x"], A_DATE, "", " x"]),
    *itertools.product(REALS, ["1", True, [1.0], 0.0, -1.0, math.nan, math.inf]),
    *itertools.product(WHOLE, ["3", 3.0, True, [3], 0, -1]),
    *itertools.product(LISTS, ["x", 5, {"x": 1}]),
    *itertools.product(KEYS, [5, "", "a" * 63, "A" * 64, "g" * 64, " " + "a" * 64, "a" * 64 + "a"]),
    *itertools.product(["lifetime", "peers", "window"], ["x", 5, ["x"]]),
    *itertools.product(["window.hours"], HOURS),
    *itertools.product(["window.time_zone"], ZONES),
    *itertools.product(["window.days"], [[], ["Mon"], ["monday"], [1]]),
    ("lifetime.epsilon", 1001.0),
    ("lifetime.neural_epsilon", 1001.0),
    ("lifetime.delta", 0.1),
    ("periods.0.days", 36_501),
    ("min_roster", 1),
    ("max_roster", 1),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    tmp_path: Path, path: str, value: Any
) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.toml: {path}(\.\d)?: ") as error:
        load(tmp_path, put(path, value))
    assert "Correct this field of the policy" in error.value.remedy


@pytest.mark.parametrize("place", ["", "lifetime.", "periods.0.", "purpose_caps.0."])
def test_an_unknown_key_is_named(tmp_path: Path, place: str) -> None:
    with pytest.raises(PolicyError, match=rf"{place}epsilonn: is not a field that is known"):
        load(tmp_path, put(f"{place}epsilonn", 1.0))


@pytest.mark.parametrize(
    "name",
    ["purposes", "features", "queries", "min_roster", "servers", "peers", "lifetime"],
)
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    """Nothing is allowed by default: an owner says each of these."""
    tables = {key: value for key, value in FULL.items() if key != name}
    with pytest.raises(PolicyError, match=f"{name}: field required"):
        load(tmp_path, tables)


@pytest.mark.parametrize(
    "data", [b"purposes = ", b"purposes = []\npurposes = []", "x = 'ş'".encode("cp1254")]
)
def test_a_file_that_is_no_policy(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(data)
    with pytest.raises(PolicyError, match=r"policy\.toml: the policy cannot be read.*UTF-8"):
        Policy.load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"policy\.toml: the policy cannot be read"):
        Policy.load(tmp_path / "policy.toml")


def test_caps_are_units_at_the_lifetime_s_delta(tmp_path: Path) -> None:
    policy = load(tmp_path, FULL)
    assert policy.units(2.0) == accounting.budget_units(2.0, 1e-6)
    assert accounting.epsilon(policy.units(2.0), 1e-6) <= 2.0


def test_no_peer_and_no_server_pinned_is_a_policy_that_answers_nobody(tmp_path: Path) -> None:
    policy = load(tmp_path, FULL | {"servers": [], "peers": {}})
    assert policy.pinned == frozenset()
    with pytest.raises(Refusal) as refused:
        check_server(HelloRequest("0" * 64, "0" * 32, C), policy)
    assert refused.value.code is RefusalCode.NOT_PINNED


@pytest.mark.parametrize(
    ("field", "kind", "name"),
    [
        ("purposes", "purpose", "customer-segmentation"),
        ("features", "feature", "y"),
        ("queries", "query", "cluster-sums"),
    ],
)
def test_what_a_policy_does_not_name_it_forbids(
    tmp_path: Path, field: str, kind: str, name: str
) -> None:
    study = small_study()
    policy = load(tmp_path, FULL)
    check_policy(study, policy)
    allowed = tuple(item for item in FULL[field] if item != name)
    narrower = replace(policy, **{field: allowed})
    with pytest.raises(Refusal, match=f"does not allow the {kind} '{name}'.*Add it") as refused:
        check_policy(study, narrower)
    assert refused.value.code is RefusalCode.POLICY


def at(text: str) -> float:
    """Unix seconds of a moment in Istanbul (UTC+3)."""
    return datetime.datetime.fromisoformat(f"{text}+03:00").timestamp()


@pytest.mark.parametrize(
    ("moment", "answers"),
    [
        ("2026-11-23T08:00", True),  # a Monday
        ("2026-11-23T07:59:59", False),
        ("2026-11-23T17:59:59", True),
        ("2026-11-23T18:00", False),
        ("2026-11-24T12:00", False),  # Tuesday
        ("2026-11-27T12:00", True),  # Friday
    ],
)
def test_a_window_holds_by_the_clock_of_its_zone(
    tmp_path: Path, moment: str, answers: bool
) -> None:
    policy = load(tmp_path, FULL)
    if answers:
        check_window(policy, at(moment))
        return
    with pytest.raises(Refusal, match=r"outside 08:00-18:00.*within these hours") as refused:
        check_window(policy, at(moment))
    assert refused.value.code is RefusalCode.POLICY


def test_a_night_belongs_to_the_day_on_which_it_began() -> None:
    night = Window("22:00-06:00", ("fri",))
    assert night.holds(at("2026-11-27T22:00"))
    assert night.holds(at("2026-11-28T05:59"))
    assert not night.holds(at("2026-11-28T06:00"))
    assert not night.holds(at("2026-11-28T22:00"))
    assert not night.holds(at("2026-11-27T05:00"))


def test_a_window_has_defaults_and_may_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, FULL | {"window": {}}).window == Window()
    assert Window().holds(at("2026-11-28T00:00"))
    assert Window().holds(at("2026-11-28T23:59:59"))
    policy = load(tmp_path, {key: value for key, value in FULL.items() if key != "window"})
    check_window(policy, at("2026-11-24T03:00"))


def test_only_listed_studies(tmp_path: Path) -> None:
    study, policy = small_study(), load(tmp_path, FULL)
    check_policy(study, policy)
    check_policy(study, replace(policy, studies=None))
    for none in ((), (A,)):
        with pytest.raises(Refusal, match="lists the studies") as refused:
            check_policy(study, replace(policy, studies=none))
        assert refused.value.code is RefusalCode.POLICY


def test_the_dearest_study_is_measured_at_the_lifetime_s_delta(tmp_path: Path) -> None:
    """A study of a small ε at a large δ is dear: comparing ε alone would not see it."""
    policy = load(tmp_path, {key: v for key, v in FULL.items() if key != "studies"})
    check_policy(small_study(epsilon=1.9, delta=1e-6), policy)
    with pytest.raises(Refusal, match=r"more than the policy's max_epsilon of 2") as refused:
        check_policy(small_study(epsilon=1.9, delta=1e-4), policy)
    assert refused.value.code is RefusalCode.POLICY
