"""Studies with a classifier: what they may say, and what the member learns who says it wrong."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from classifierkit import churn_study, churn_tables
from kesit_privacy import recipes
from kesit_privacy.errors import BudgetError, StudyError
from kesit_privacy.study import Classification
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Side, Target, columns, held_out, parts
from kit import random_codes, small_study

FULL: dict[str, Any] = {
    "estimator": "additive",
    "features": ["tenure", "channel"],
    "positive": "yes",
    "holdout": 0.25,
    "split": 7,
    "bins": 16,
}


def _error(**changes: Any) -> StudyError:
    with pytest.raises(StudyError) as error:
        churn_study(**changes)
    assert error.value.remedy
    return error.value


def test_the_tests_below_know_every_field() -> None:
    assert set(FULL) == {field.name for field in fields(Classification)}
    assert churn_study(classification=FULL).chosen == ("tenure", "channel")


@pytest.mark.parametrize("name", FULL)
def test_every_field_is_under_the_hash(name: str) -> None:
    other = {
        "estimator": "logistic",
        "features": ["tenure"],
        "positive": "no",
        "holdout": 0.3,
        "split": 8,
        "bins": 17,
    }[name]
    assert (
        churn_study(classification=FULL).hash
        != churn_study(classification=FULL | {name: other}).hash
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("estimator", "forest"),
        ("features", ["nothing"]),
        ("features", ["tenure", "tenure"]),
        ("features", ["left"]),
        ("positive", "perhaps"),
        ("holdout", 0),
        ("holdout", 0.9),
        ("holdout", "a fifth"),
        ("split", -1),
        ("split", 1.5),
        ("bins", 1),
        ("bins", 10_000),
        ("trees", 3),
    ],
)
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    error = _error(classification=FULL | {name: value})
    assert name.rstrip("s") in error.field or "target" in error.field


def test_a_study_has_one_task() -> None:
    assert "one task" in str(_error(segmentation={"k": 3}))
    tables = churn_tables()
    del tables["classification"]
    with pytest.raises(StudyError, match="one task"):
        study_from_tables(tables)


@pytest.mark.parametrize("target", [None, "tenure"])
def test_a_target_is_a_list(target: str | None) -> None:
    tables = churn_tables()
    tables["target"] = target
    if target is None:
        del tables["target"]
    with pytest.raises(StudyError, match="left") as error:  # the remedy names what would do
        study_from_tables(tables)
    assert error.value.field == "target"


def test_a_protected_target_predicts_nothing() -> None:
    assert _error(protected=["left"]).field == "target"


def test_the_positive_level_comes_second() -> None:
    assert Target.of(churn_study(classification=FULL)).classes == ("no", "yes")
    other = churn_study(classification=FULL | {"positive": "no"})
    assert Target.of(other).classes == ("yes", "no")


def test_a_budget_that_could_only_guess_is_refused_with_what_would_do() -> None:
    study = churn_study(epsilon=0.001, declared_customers=500)
    with pytest.raises(BudgetError, match="too small to learn left") as error:
        recipes.check_budget(study)
    wanted = float(error.value.remedy.split("epsilon >= ")[1].split(",")[0])
    recipes.check_budget(churn_study(epsilon=wanted, declared_customers=500))
    with pytest.raises(BudgetError):
        recipes.check_budget(churn_study(epsilon=round(wanted - 0.01, 2), declared_customers=500))


# --- who is held out -----------------------------------------------------------------------------


def test_parts_are_a_function_of_the_id_and_the_study() -> None:
    study, ids = churn_study(), [f"c{i}" for i in range(20_000)]
    found = parts(study, ids)
    np.testing.assert_array_equal(found[:5], parts(study, ids[:5]))
    np.testing.assert_array_equal(found, parts(churn_study(epsilon=1.5), ids))
    assert (found != parts(churn_study(name="another"), ids)).mean() > 0.99
    assert (found != parts(churn_study(classification=FULL), ids)).mean() > 0.99
    low, high = held_out(study)
    share = ((found >= low) & (found < high)).mean()
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / len(ids))
    assert found.min() >= 0
    assert found.max() < PARTS


def test_both_sides_together_are_everybody_with_a_label() -> None:
    study = churn_study()
    target, rng = Target.of(study), np.random.default_rng(0)
    codes = np.concatenate(
        [random_codes(study, 3000), rng.integers(0, PARTS, (3000, 1)).astype(np.int16)], axis=1
    )
    low, high = held_out(study)
    inside, kinds = Side(low, high, inside=True).counted(codes, target)
    outside, others = Side(low, high, inside=False).counted(codes, target)
    assert len(inside) + len(outside) == (target.labels(codes) >= 0).sum()
    assert set(kinds) | set(others) == {0, 1}
    assert columns(study) == codes.shape[1]
    assert columns(small_study()) == 2
