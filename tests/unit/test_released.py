"""Studies that train nothing: a released model is evaluated, and compared between two arms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from classifierkit import churn_frame, churn_tables, customers, three_tables, trained
from clikit import Kesit, kesit
from kesit_cli import exits
from kesit_privacy import recipes
from kesit_privacy.errors import BudgetError, KesitError, ModelError, StudyError
from kesit_privacy.features import FloatArray
from kesit_privacy.sides import BookSide
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Target, held_out
from kesit_server import results
from kesit_server.classification.evaluated import evaluate_released
from kesit_server.classification.judging.ranking import area
from kesit_server.classification.judging.released import Released, released_model
from kesit_server.classification.telling import evaluation_telling
from kesit_server.classification.telling import model_telling as telling
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import SimulationResult, Watcher, simulate

__all__ = ["kesit"]
from runs import Run

ARMS = {"kind": "categorical", "name": "campaign", "levels": ["alone", "called"]}
SOME = "0" * 64
GAIN = 0.2
"""By how much more of the called leave: a fifth, whatever the model says of them."""


def tables(digest: str = SOME, arms: bool = True, **changes: Any) -> dict[str, Any]:
    """Parsed TOML of a study that evaluates the churn model on other customers."""
    task = {"estimator": "released", "positive": "yes", "released": digest}
    found = churn_tables(name="next-year", declared_customers=6000)
    if arms:
        found["features"].append(ARMS)
        task["arms"] = "campaign"
    return found | {"classification": task | changes.pop("task", {})} | changes


def fresh(rows: int = 6000) -> pl.DataFrame:
    """Other customers; chance decides who is called, and a fifth of the called leave for it."""
    rng, frame = np.random.default_rng(8), churn_frame(rows, seed=7)
    called, more = rng.random(rows) < 0.5, rng.random(rows) < GAIN
    leaves = (frame["left"] == "yes").to_numpy() | (called & more)
    return frame.with_columns(
        pl.Series("left", np.where(leaves, "yes", "no")),
        pl.Series("campaign", np.where(called, "called", "alone")),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result of a study that trained a model."""
    study = study_from_tables(churn_tables())
    place = tmp_path_factory.mktemp("trained") / "result"
    results.write_folder(place, trained(study, churn_frame(4000)).files)
    return place


@pytest.fixture(scope="module")
def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def released(folder: Path, digest: str) -> Released:
    found = released_model(study_from_tables(tables(digest)), folder)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def result(digest: str, released: Released) -> SimulationResult:
    study = study_from_tables(tables(digest))
    plan = SimulationPlan(data="none", clients=5)
    return simulate(study, plan, customers(study, fresh()), released=released)


# The study.


def test_everybody_is_held_out_and_the_plan_is_the_evaluation() -> None:
    study = study_from_tables(tables())
    assert held_out(study) == (0, PARTS)
    [step] = study.plan
    assert (step.query, step.share, study.side(step)) == ("score-evaluation", 1.0, BookSide.HELD)
    recipes.check_budget(study)


def test_the_model_is_under_the_hash_and_other_studies_keep_theirs() -> None:
    assert study_from_tables(tables()).hash != study_from_tables(tables("1" * 64)).hash
    assert b"released" not in study_from_tables(churn_tables()).canonical


@pytest.mark.parametrize(
    ("field", "task"),
    [
        ("released", {"released": None}),
        ("released", {"estimator": "additive"}),
        ("released", {"released": "F" * 64}),
        ("released", {"released": SOME + "\n"}),
        ("keep", {"keep": 2}),
        ("l1", {"l1": 0.1}),
        ("folds", {"folds": 3}),
        ("classification", {"training": {}}),
    ],
)
def test_a_field_that_does_not_go_with_it_is_named(field: str, task: dict[str, Any]) -> None:
    plain = tables(task=task)
    plain["classification"] = {k: v for k, v in plain["classification"].items() if v is not None}
    with pytest.raises(StudyError) as error:
        study_from_tables(plain)
    assert field in error.value.field
    assert error.value.remedy


def test_a_plan_without_training_is_of_no_study_that_trains() -> None:
    plan = [{"step": "evaluation", "query": "score-evaluation", "share": 1.0}]
    assert study_from_tables(tables(plan=plan)).plan == study_from_tables(tables()).plan
    with pytest.raises(StudyError, match="not those of this study's recipe"):
        study_from_tables(churn_tables(plan=plan))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_silent_member_costs_an_attempt_that_half_the_budget_leaves(
    share: float, digest: str, released: Released
) -> None:
    plan = [{"step": "evaluation", "query": "score-evaluation", "share": share}]
    study = study_from_tables(tables(digest, plan=plan))
    run = Run(study, 5, lambda attempt, place: (attempt, place) == (0, 4))
    run.federation.hello()
    if share == 1:
        with pytest.raises(BudgetError, match="failed attempts left 0%"):
            evaluate_released(run.federation, released)
    else:
        evaluate_released(run.federation, released)
    run.check_books()


def test_a_budget_that_tells_no_auc_is_refused_with_what_would_do() -> None:
    few = {"declared_customers": 300, "arms": False}
    with pytest.raises(BudgetError, match="too small to evaluate a model of left") as error:
        recipes.check_budget(study_from_tables(tables(epsilon=0.1, **few)))
    wanted = float(error.value.remedy.split("epsilon >= ")[1].split(";")[0])
    recipes.check_budget(study_from_tables(tables(epsilon=wanted, **few)))
    with pytest.raises(BudgetError):
        recipes.check_budget(study_from_tables(tables(epsilon=round(wanted - 0.01, 2), **few)))


# The model.


def _refused(study: Study, folder: Path | None) -> KesitError:
    with pytest.raises((ModelError, StudyError)) as error:
        released_model(study, folder)
    assert error.value.remedy
    return error.value


def test_another_model_or_none_is_refused(folder: Path, digest: str) -> None:
    other, right = study_from_tables(tables()), study_from_tables(tables(digest))
    assert digest in str(_refused(other, folder))
    assert "--model FOLDER" in str(_refused(right, None))
    assert "cannot be read" in str(_refused(right, folder / "nothing"))
    assert "Leave --model out" in str(_refused(study_from_tables(churn_tables()), folder))
    plan = SimulationPlan(data="none", clients=5)
    with pytest.raises(StudyError, match="none was given"):
        simulate(right, plan, customers(right, fresh(50)))


@pytest.mark.parametrize("change", ["bounds", "levels", "fewer", "order", "positive"])
def test_a_model_of_other_features_is_refused(change: str, folder: Path, digest: str) -> None:
    plain = tables(digest)
    if change == "bounds":
        plain["features"][0]["upper"] = 61.0
    elif change == "levels":
        plain["features"][2]["levels"] = ["shop", "web", "phone"]
    elif change == "fewer":
        plain["classification"]["features"] = ["tenure", "channel"]
    elif change == "order":
        plain["classification"]["features"] = ["channel", "spending", "tenure"]
    else:
        plain["classification"]["positive"] = "no"
    wanted = "predicts left" if change == "positive" else "goes by tenure, spending, channel"
    assert wanted in str(_refused(study_from_tables(plain), folder))


def test_a_model_of_another_purpose_is_refused(folder: Path, digest: str) -> None:
    """Its own file says for what alone it may be used."""
    error = _refused(study_from_tables(tables(digest, purpose="credit-scoring")), folder)
    assert "'churn-prediction', and the study's is 'credit-scoring'" in str(error)


def test_another_ground_is_told(folder: Path, digest: str, released: Released) -> None:
    assert released.notice == ""
    study = study_from_tables(tables(digest, legal_basis="legitimate-interest"))
    found = released_model(study, folder)
    assert found is not None
    assert "ground explicit-consent" in found.notice
    assert "ground legitimate-interest" in found.notice
    told: list[str] = []
    plan = SimulationPlan(data="none", clients=5)
    simulate(study, plan, customers(study, fresh()), Watcher(told.append), released=found)
    assert f"note: {found.notice}" in told


def test_what_people_call_a_feature_does_not_matter(folder: Path, digest: str) -> None:
    plain = tables(digest)
    plain["features"][0]["label_tr"] = "süre"
    assert released_model(study_from_tables(plain), folder) is not None


# The run.


def _chances(result: SimulationResult, released: Released) -> tuple[FloatArray, Any, Any]:
    study, frame = result.found.study, fresh()
    codes = customers(study, frame).codes
    labels = Target.of(study).labels(codes)
    points: FloatArray = released.model.points(codes)[:, 0].astype(np.float64)
    return points, labels, (frame["campaign"] == "called").to_numpy()


def test_the_interval_holds_the_exact_auc(result: SimulationResult, released: Released) -> None:
    points, labels, _ = _chances(result, released)
    scores, place = np.unique(points, return_inverse=True)
    others, own = (np.bincount(place[labels == k], minlength=len(scores)) for k in (0, 1))
    exact = area(others.astype(np.float64), own.astype(np.float64))
    evaluation = result.evaluated.judged.evaluation
    ends = evaluation.metrics["auc"].interval_95
    assert ends is not None
    assert ends[0] <= exact <= ends[1]
    assert ends[1] - ends[0] < 0.06
    assert evaluation.customers.value == pytest.approx(6000, rel=0.02)


def test_the_uplift_holds_the_known_difference(
    result: SimulationResult, released: Released
) -> None:
    _, labels, called = _chances(result, released)
    exact = labels[called].mean() - labels[~called].mean()
    [found] = result.evaluated.judged.uplift
    assert (found.arm, found.control) == ("called", "alone")
    everybody = found.everybody
    ends = everybody.difference.interval_95
    assert ends is not None
    assert ends[0] <= exact <= ends[1]
    stays = 1 - (churn_frame(6000, seed=7)["left"] == "yes").mean()
    assert ends[0] <= GAIN * stays <= ends[1]
    assert everybody.clear


def test_the_model_s_own_threshold_is_the_one_that_chooses(
    result: SimulationResult, released: Released, digest: str, folder: Path
) -> None:
    assert released.threshold is not None
    assert result.evaluated.judged.evaluation.threshold == pytest.approx(
        released.threshold, abs=2e-3
    )


def test_it_costs_its_own_budget_once(result: SimulationResult) -> None:
    study = result.found.study
    assert study.mu2_units * (1 - 1e-6) <= result.federation.spent_units <= study.mu2_units
    [spent] = result.federation.spending
    assert (spent.step, spent.side) == ("evaluation", BookSide.HELD)


def test_the_result_is_told_in_two_languages(
    result: SimulationResult, digest: str, tmp_path: Path, kesit: Kesit
) -> None:
    place = tmp_path / "result"
    results.write_folder(place, result.files)
    assert "model.json" not in result.files
    told = evaluation_telling.read(place)
    assert (told.model, told.evaluation.as_dict()) == (
        digest,
        result.evaluated.judged.evaluation.as_dict(),
    )
    for language, words in (("en", "How good the released model is"), ("tr", "Yayımlanmış model")):
        shown = kesit("model", "show", str(place), "--language", language)
        assert shown.code == 0
        for part in (words, digest, "called - alone"):
            assert part in shown.out


def test_a_model_trained_with_arms_is_read_back(tmp_path: Path) -> None:
    plain = churn_tables()
    plain["features"].append(ARMS)
    plain["classification"]["arms"] = "campaign"
    study = study_from_tables(plain)
    results.write_folder(tmp_path / "result", trained(study, fresh(4000)).files)
    [told] = telling.read(tmp_path / "result").uplift
    assert told.en.startswith("called - alone\n")
    assert "fark" in told.tr.lower()


def test_of_more_classes_each_has_its_scores(tmp_path: Path) -> None:
    plain = three_tables()
    results.write_folder(
        tmp_path / "result", trained(study_from_tables(plain), churn_frame(4000)).files
    )
    digest = hashlib.sha256((tmp_path / "result" / "model.json").read_bytes()).hexdigest()
    task = {"estimator": "released", "released": digest}
    study = study_from_tables(plain | {"name": "next-year", "classification": task})
    model = released_model(study, tmp_path / "result")
    assert model is not None
    assert model.threshold is None
    run = SimulationPlan(data="none", clients=5)
    found = simulate(study, run, customers(study, churn_frame(4000, seed=5)), released=model)
    evaluation = found.evaluated.judged.evaluation
    assert evaluation.customers.value == pytest.approx(4000, rel=0.05)
    assert evaluation.metrics["auc"].value == pytest.approx(0.7, abs=0.15)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_shares", [0.5]),
        ("class_shares", [1.5, -0.5]),
        ("class_shares", [float("nan"), 0.5]),
        ("class_shares", None),
        ("evaluation", {"threshold": 2.0}),
        ("evaluation", "good"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(
    field: str, value: Any, folder: Path, tmp_path: Path
) -> None:
    plain = json.loads((folder / "model.json").read_bytes())
    (tmp_path / "model.json").write_text(json.dumps(plain | {field: value}))
    digest = hashlib.sha256((tmp_path / "model.json").read_bytes()).hexdigest()
    error = _refused(study_from_tables(tables(digest)), tmp_path)
    assert "does not say which customers" in str(error) or "broken" in str(error)


# The commands.


def _toml(plain: dict[str, Any]) -> str:
    task, features = plain["classification"], plain["features"]
    tops = {k: v for k, v in plain.items() if not isinstance(v, dict | list)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in tops.items()]
    for title, table in (
        ("[classification]", task),
        *(("[[features]]", feature) for feature in features),
        ("[simulation]", {"data": "customers.csv", "id_column": "id", "clients": 4}),
    ):
        lines += [title, *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
    return "\n".join(lines)


def test_the_commands_check_run_and_show_it(
    digest: str, folder: Path, tmp_path: Path, kesit: Kesit
) -> None:
    (tmp_path / "next.toml").write_text(_toml(tables(digest)), "utf-8")
    fresh().write_csv(tmp_path / "customers.csv")
    checked = kesit("study", "check", "next.toml")
    assert checked.code == 0
    assert "evaluation of a released model of left" in checked.out
    missing = kesit("simulate", "run", "next.toml", "--out", "none")
    assert missing.code != 0
    assert "--model FOLDER" in missing.said
    assert not (tmp_path / "none").exists()
    run = kesit("simulate", "run", "next.toml", "--model", str(folder), "--out", "found")
    assert run.code == 0
    assert "AUC" in run.out
    assert "called - alone" in run.out
    assert digest in json.loads((tmp_path / "found" / "evaluation.json").read_text())["model"]
    summary = kesit("simulate", "run", "next.toml", "--model", str(folder), "--json")
    assert json.loads(summary.out)["judged"]["metrics"]["auc"]["value"] > 0.6


def test_a_check_holds_the_model_against_the_study(
    digest: str, folder: Path, tmp_path: Path, kesit: Kesit
) -> None:
    (tmp_path / "next.toml").write_text(_toml(tables(digest)), "utf-8")
    unchecked = kesit("study", "check", "next.toml")
    assert "give the folder of its result with --model FOLDER" in " ".join(unchecked.out.split())
    checked = kesit("study", "check", "next.toml", "--model", str(folder))
    assert checked.code == 0
    assert "the one agreed on, of the study's purpose" in " ".join(checked.out.split())
    assert "Warning" not in checked.out
    (tmp_path / "ground.toml").write_text(_toml(tables(digest, legal_basis="contract")), "utf-8")
    warned = kesit("study", "check", "ground.toml", "--model", str(folder))
    assert warned.code == 0
    assert "Warning" in warned.out
    assert "on the ground explicit-consent" in " ".join(warned.out.split())
    (tmp_path / "other.toml").write_text(_toml(tables(digest, purpose="pricing")), "utf-8")
    refused = kesit("study", "check", "other.toml", "--model", str(folder))
    assert refused.code == exits.RESULT
    assert "released for the purpose 'churn-prediction'" in refused.said
    plain = churn_tables()
    (tmp_path / "trains.toml").write_text(_toml(plain), "utf-8")
    trains = kesit("study", "check", "trains.toml", "--model", str(folder))
    assert trains.code == exits.SETTINGS
    assert "evaluates no released model" in trains.said


@pytest.mark.parametrize("command", ["draw", "export"])
def test_an_evaluation_is_no_model_to_draw_or_export(
    result: SimulationResult, tmp_path: Path, kesit: Kesit, command: str
) -> None:
    results.write_folder(tmp_path / "found", result.files)
    failed = kesit("model", command, "found")
    assert failed.code == exits.RESULT
    assert "holds the evaluation of a released model, not the model" in failed.said
    assert "`kesit model show found`" in failed.said
    assert "SHA-256" in failed.said
    assert {path.name for path in (tmp_path / "found").iterdir()} == set(result.files)


@pytest.mark.parametrize("command", ["show", "draw", "export"])
def test_segments_are_no_model(tmp_path: Path, kesit: Kesit, command: str) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "segments.json").write_bytes(b"{}")
    failed = kesit("model", command, "found")
    assert failed.code == exits.RESULT
    assert "holds segments, and no classifier" in failed.said
    assert "`kesit segments show found`" in failed.said
