"""The example studies that come with Kesit, and the stability of a study's hash."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from kesit_privacy import recipes
from kesit_privacy.features import Numeric
from kesit_privacy.study_file import study_from_tables, study_from_toml
from kesit_simulations import datasets, studies
from kesit_simulations.errors import DatasetError, SimulationError
from kesit_simulations.plan import read_plan
from kesit_simulations.runner import load_customers

EXPECTED = {"adult", "bank", "digits", "house", "online-retail", "retail-bank", "s1", "telco"}


def test_the_examples_are_packaged() -> None:
    classifiers = {"adult-income", "bank-subscription", "retail-bank-segment", "telco-churn"}
    assert set(studies.names()) == EXPECTED | {"yeast"} | classifiers


def test_an_unknown_example_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SimulationError, match="no example study") as caught:
        studies.text("nope")
    assert "retail-bank" in caught.value.remedy


@pytest.mark.parametrize("name", studies.names())
def test_an_example_is_a_study_that_its_budget_can_pay(name: str) -> None:
    tables = tomllib.loads(studies.text(name))
    study = study_from_tables(tables)
    recipes.check_budget(study)
    assert study.epsilon == 1.0
    # δ is of the order of 1/(n ln n), and always below 1/n.
    assert study.delta * study.declared_customers < 0.15
    plan = read_plan(tables)
    assert plan.data in datasets.names()
    assert plan.masks


@pytest.mark.parametrize("name", studies.names())
def test_an_example_fits_its_data_and_its_bounds_are_not_the_datas_own(name: str) -> None:
    tables = tomllib.loads(studies.text(name))
    study, plan = study_from_tables(tables), read_plan(tables)
    try:
        customers = load_customers(study, plan)
    except DatasetError as error:
        pytest.skip(str(error))
    frame = datasets.load(plan.data).frame
    assert 0.8 < len(customers.codes) / study.declared_customers < 1.25
    numeric = [feature for feature in study.features if isinstance(feature, Numeric)]
    own = 0
    for feature in numeric:
        values = frame[feature.name].drop_nulls()
        inside = values.is_between(feature.lower, feature.upper).mean()
        assert isinstance(inside, float)
        assert inside > 0.999, feature.name
        own += (values.min(), values.max()) == (feature.lower, feature.upper)
    # The generator clips to its public bounds, so its values reach them.
    assert own < len(numeric) or name == studies.DEMO


def reversed_keys(value: Any) -> Any:
    """The same tables with the keys of each in the opposite order."""
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", studies.names())
def test_the_hash_ignores_comments_layout_order_of_keys_and_the_simulation(name: str) -> None:
    text = studies.text(name)
    tables = tomllib.loads(text)
    original = study_from_tables(tables).hash
    commented = text.replace("\n", "   # a remark\n\n")
    spaced = text.replace(" = ", "   =\t").replace("epsilon   =\t1.0", "epsilon = 1")
    assert "# a remark" in commented
    assert spaced != text
    assert study_from_toml(commented).hash == original
    assert study_from_toml(spaced).hash == original
    assert study_from_tables(reversed_keys(tables)).hash == original
    assert study_from_tables({**tables, "simulation": {"data": "other"}}).hash == original


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Another"},
        {"epsilon": 1.0000001},
        {"delta": 1e-7},
        {"declared_customers": 60_001},
        {"max_clients_per_customer": 2},
        {"protected": ("gender",)},
        {"legal_basis": "contract"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_hash_covers_what_is_agreed(change: dict[str, Any]) -> None:
    study = study_from_toml(studies.text(studies.DEMO))
    assert replace(study, **change).hash != study.hash


def test_the_hash_covers_the_order_and_bounds_of_features() -> None:
    study = study_from_toml(studies.text(studies.DEMO))
    first, second, *rest = study.features
    assert isinstance(first, Numeric)
    swapped = replace(study, features=(second, first, *rest))
    wider = replace(study, features=(replace(first, upper=first.upper + 1), second, *rest))
    assert len({study.hash, swapped.hash, wider.hash}) == 3
