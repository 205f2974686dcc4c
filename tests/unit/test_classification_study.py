"""Studies with a classifier: what they may say, and what the member learns who says it wrong."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from classifierkit import churn_study, churn_tables
from kesit_privacy import recipes
from kesit_privacy.errors import BudgetError, StudyError
from kesit_privacy.study import Classification, Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Side, Target, columns, held_out, parts
from kit import random_codes, small_study

FULL: dict[str, Any] = {
    "estimator": "additive",
    "features": ["tenure", "channel"],
    "positive": "yes",
    "holdout": 0.25,
    "folds": 3,
    "split": 7,
    "bins": 16,
    "keep": 2,
    "l1": 0.1,
    "threshold": 0.4,
    "arms": "campaign",
}
ARMS = {"kind": "categorical", "name": "campaign", "levels": ["called", "left alone"]}


def full(**changes: Any) -> Study:
    """A study in which every field of the classifier is written out."""
    tables = churn_tables()
    tables["features"].append(ARMS)
    table = {name: value for name, value in (FULL | changes).items() if value is not None}
    return study_from_tables(tables | {"classification": table})


def _error(**changes: Any) -> StudyError:
    with pytest.raises(StudyError) as error:
        churn_study(**changes)
    assert error.value.remedy
    return error.value


def test_the_tests_below_know_every_field() -> None:
    own = {"training", "released"}  # see test_training_study, test_released
    assert set(FULL) == {field.name for field in fields(Classification)} - own
    assert full().chosen == ("tenure", "channel")


@pytest.mark.parametrize("name", FULL)
def test_every_field_is_under_the_hash(name: str) -> None:
    other: dict[str, Any] = {
        "estimator": {"estimator": "logistic", "keep": None},
        "features": ["tenure"],
        "positive": "no",
        "holdout": 0.3,
        "folds": None,
        "split": 8,
        "bins": 17,
        "keep": 1,
        "l1": 0.2,
        "threshold": 0.5,
        "arms": None,
    }
    change = other[name] if isinstance(other[name], dict) else {name: other[name]}
    assert full().hash != full(**change).hash


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
        ("folds", 1),
        ("folds", 11),
        ("folds", 2.5),
        ("split", -1),
        ("split", 1.5),
        ("bins", 1),
        ("bins", 10_000),
        ("keep", 0),
        ("l1", -0.1),
        ("threshold", 1.0),
        ("arms", "left"),
        ("arms", "nothing"),
        ("trees", 3),
    ],
)
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    with pytest.raises(StudyError) as caught:
        full(**{name: value})
    error = caught.value
    assert error.remedy
    assert name.rstrip("s") in error.field or "target" in error.field


def test_a_study_has_one_task() -> None:
    assert "one task" in str(_error(segmentation={"k": 3}))
    tables = churn_tables()
    del tables["classification"]
    with pytest.raises(StudyError, match="one task"):
        study_from_tables(tables)


@pytest.mark.parametrize("estimator", ["additive", "auto", "neural"])
@pytest.mark.parametrize("target", [None, "tenure"])
def test_a_target_is_a_list(target: str | None, estimator: str) -> None:
    tables = churn_tables()
    tables["classification"]["estimator"] = estimator
    tables["target"] = target
    if target is None:
        del tables["target"]
    with pytest.raises(StudyError, match="left") as error:  # the remedy names what would do
        study_from_tables(tables)
    assert error.value.field == "target"


@pytest.mark.parametrize("estimator", ["additive", "auto", "logistic", "neural"])
@pytest.mark.parametrize("place", ["classification.features", "protected", "target"])
def test_a_name_that_points_nowhere_is_named(estimator: str, place: str) -> None:
    tables = churn_tables()
    tables["classification"]["estimator"] = estimator
    if place == "classification.features":
        tables["classification"]["features"] = ["tenur"]
    else:
        tables[place] = "tenur" if place == "target" else ["tenur"]
    with pytest.raises(StudyError, match="tenur") as error:
        study_from_tables(tables)
    assert error.value.field == place
    assert "tenure" in error.value.remedy


def test_a_protected_target_predicts_nothing() -> None:
    assert _error(protected=["left"]).field == "target"


def test_the_positive_level_comes_second() -> None:
    assert Target.of(full()).classes == ("no", "yes")
    other = full(positive="no")
    assert Target.of(other).classes == ("yes", "no")


def test_a_budget_that_could_only_guess_is_refused_with_what_would_do() -> None:
    study = churn_study(epsilon=0.001, declared_customers=500)
    with pytest.raises(BudgetError, match="too small to learn left") as error:
        recipes.check_budget(study)
    wanted = float(error.value.remedy.split("epsilon >= ")[1].split(",")[0])
    recipes.check_budget(churn_study(epsilon=wanted, declared_customers=500))
    with pytest.raises(BudgetError):
        recipes.check_budget(churn_study(epsilon=round(wanted - 0.01, 2), declared_customers=500))
    assert "logistic" not in error.value.remedy  # it would guess as well


def test_where_shapes_are_too_many_logistic_regression_is_advised_and_chosen() -> None:
    few = churn_study(epsilon=0.15, declared_customers=800)
    with pytest.raises(BudgetError, match="needed 30") as error:
        recipes.check_budget(few)
    assert 'on estimator = "logistic", which needs less' in error.value.remedy
    chosen = churn_study(epsilon=0.15, declared_customers=800, classification={"estimator": "auto"})
    assert chosen.classifying.estimator == "logistic"
    recipes.check_budget(chosen)


def test_the_estimator_follows_size_and_budget_alike() -> None:
    auto = {"classification": {"estimator": "auto"}}
    found = {
        (customers, epsilon): churn_study(
            declared_customers=customers, epsilon=epsilon, **auto
        ).classifying.estimator
        for customers in (2000, 50_000)
        for epsilon in (0.05, 1.0, 4.0)
    }
    assert found == {
        (2000, 0.05): "logistic",
        (2000, 1.0): "logistic",
        (2000, 4.0): "additive",
        (50_000, 0.05): "logistic",
        (50_000, 1.0): "additive",
        (50_000, 4.0): "additive",
    }
    kept = churn_study(classification={"estimator": "auto", "keep": 2}, declared_customers=2000)
    assert kept.classifying.estimator == "additive"  # nothing else leaves features out
    for customers in (2000, 50_000):
        plan = churn_study(declared_customers=customers, epsilon=4.0, **auto).plan
        assert sum(step.exact_share for step in plan if step.step != "evaluation") == 1


# --- who is held out -----------------------------------------------------------------------------


def test_parts_are_a_function_of_the_id_and_the_study() -> None:
    study, ids = churn_study(), [f"c{i}" for i in range(20_000)]
    found = parts(study, ids)
    np.testing.assert_array_equal(found[:5], parts(study, ids[:5]))
    np.testing.assert_array_equal(found, parts(churn_study(epsilon=1.5), ids))
    assert (found != parts(churn_study(name="another"), ids)).mean() > 0.99
    assert (found != parts(full(), ids)).mean() > 0.99
    low, high = held_out(study)
    share = ((found >= low) & (found < high)).mean()
    assert abs(share - 0.2) < 4 * np.sqrt(0.16 / len(ids))
    assert found.min() >= 0
    assert found.max() < PARTS


def test_both_sides_together_are_everybody_with_a_label() -> None:
    study = churn_study()
    target = Target.of(study)
    codes = random_codes(study, 3000)
    low, high = held_out(study)
    inside, kinds = Side(low, high, inside=True).counted(codes, target)
    outside, others = Side(low, high, inside=False).counted(codes, target)
    assert len(inside) + len(outside) == (target.labels(codes) >= 0).sum()
    assert set(kinds) | set(others) == {0, 1}
    assert columns(study) == codes.shape[1]
    assert columns(small_study()) == 2
