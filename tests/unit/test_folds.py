"""Cross-validation: folds in the plan, in the books and in the result."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_logistic import Pooled
from typer.testing import CliRunner

from classifier_cases import CLASSIFIER_STUDIES
from classifierkit import churn_frame, churn_study, churn_tables, customers, three_tables, trained
from kesit_cli.main import app
from kesit_client.node import Node
from kesit_privacy import classifier_recipes, recipes
from kesit_privacy.errors import BudgetError, StudyError
from kesit_privacy.queries import Query
from kesit_privacy.sides import BookSide, BySide
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import PARTS, Side, Target, book_side, held_ranges
from kesit_privacy.wire import RefusalCode
from kesit_server.classification.classifier import classify
from kesit_server.classification.folds import mean_model
from kesit_server.classification.judging.judged import ModelEvaluation
from kesit_server.classification.judging.metrics import TOO_FEW, UNTOLD, Metric, average, total
from kesit_server.classification.training.fitted import Fitted
from kesit_server.sums import NoisySum
from kesit_simulations import studies
from kesit_simulations.model_evaluation import evaluate_model
from kit import ask, instruct, random_codes, say_hello, small_nodes
from sidekit import PartLedger, query

ESTIMATORS = ("additive", "logistic")
EVERY_PART = np.arange(PARTS, dtype=np.int16)


def folded(folds: int | None = 3, estimator: str = "additive", **changes: Any) -> Study:
    table = {"estimator": estimator, "positive": "yes", "bins": 8}
    return churn_study(
        classification=table if folds is None else table | {"folds": folds}, **changes
    )


# The study and its plan.


def test_a_study_without_folds_keeps_its_hash() -> None:
    assert b"folds" not in folded(None).canonical
    assert len({folded(folds).hash for folds in (None, 2, 3)}) == 3


def test_a_network_has_no_folds() -> None:
    with pytest.raises(StudyError, match="trained once") as error:
        folded(estimator="neural")
    assert error.value.field == "classification.folds"
    assert "additive" in error.value.remedy


@pytest.mark.parametrize("folds", range(2, 11))
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_all_of_a_plan_with_folds_adds_up_and_is_priced_for_everybody(
    folds: int, estimator: str
) -> None:
    study = folded(folds, estimator, epsilon=8.0, declared_customers=50_000)
    once = folded(None, estimator, epsilon=8.0, declared_customers=50_000)
    assert len(study.plan) == folds * len(once.plan)
    assert sum(step.exact_share for step in study.plan) == 1
    assert sum(map(study.step_units, study.plan)) <= study.mu2_units
    assert {study.side(step) for step in study.plan} == {BookSide.ALL}
    evaluations = [step for step in study.plan if step.query == "score-evaluation"]
    assert [step.step for step in evaluations] == [f"evaluation-f{n + 1}" for n in range(folds)]
    assert sum(step.share for step in evaluations) == pytest.approx(0.1, abs=1e-4)
    for planned in once.plan[:-1]:
        shares = [step.share for step in study.plan if step.step.startswith(f"{planned.step}-f")]
        assert len(set(shares)) == 1
        assert shares[0] * folds == pytest.approx(0.9 * planned.share, abs=1e-4)
    for fold in range(folds):
        ending = classifier_recipes.suffix(fold)
        assert classifier_recipes.rounds(study, ending) == classifier_recipes.rounds(once)


@pytest.mark.parametrize("folds", range(2, 11))
def test_each_customer_is_held_out_exactly_once(folds: int) -> None:
    ranges = held_ranges(folded(folds, epsilon=20.0))
    sides = [Side(*held, inside=True).holds(EVERY_PART) for held in ranges]
    assert len(ranges) == folds
    assert (np.sum(sides, axis=0) == 1).all()
    sizes = [int(side.sum()) for side in sides]
    assert max(sizes) - min(sizes) <= 1
    assert held_ranges(folded(None)) == ((0, 200),)


def test_a_plan_of_one_s_own_shares_all_of_the_budget_among_the_folds() -> None:
    plan = [{"step": s.step, "query": s.query, "share": s.share} for s in folded(2).plan]
    tables = churn_tables(plan=plan, classification={"estimator": "additive", "folds": 2})
    assert study_from_tables(tables).plan == folded(2).plan
    plan[-1]["share"] = 0.5
    with pytest.raises(StudyError, match=r"the shares add up to 1\.45"):
        study_from_tables(tables)


def test_a_budget_too_small_for_a_fold_s_training_is_refused_with_what_would_do() -> None:
    assert classifier_recipes.signal_to_noise(folded()) < 0.6 * classifier_recipes.signal_to_noise(
        folded(None)
    )
    few = {"epsilon": 0.3, "declared_customers": 1000}
    recipes.check_budget(folded(None, **few))
    with pytest.raises(BudgetError, match="fewer folds or none") as error:
        recipes.check_budget(folded(5, **few))
    wanted = float(error.value.remedy.split("epsilon >= ")[1].split(",")[0])
    recipes.check_budget(folded(5, **(few | {"epsilon": wanted})))


# The books.

STUDY = replace(
    (CHURN := CLASSIFIER_STUDIES["churn"]),
    classification=replace(CHURN.classifying, folds=3),
    plan=(),
)
STUDY = replace(STUDY, plan=classifier_recipes.default_plan(STUDY))
RANGES = held_ranges(STUDY)
OK, NO, BUDGET = RefusalCode.OK, RefusalCode.NOT_IN_PLAN, RefusalCode.BUDGET


def paid(node: Node) -> BySide:
    with node.store.transaction() as books:
        found = books.by_run(study=STUDY.hash).values()
    return BySide(sum(f.train for f in found), sum(f.held for f in found))


@pytest.mark.parametrize("inside", [False, True])
def test_with_folds_every_sum_is_over_all(inside: bool) -> None:
    held = (*RANGES, (0, 0), (0, PARTS), (1, 2))
    assert {book_side(STUDY, Side(*pair, inside=inside)) for pair in held} == {BookSide.ALL}


def test_a_whole_run_costs_everybody_the_study_and_nobody_more() -> None:
    """The books against a ledger that looks at each part: theirs is an upper bound."""
    nodes, ledger = small_nodes(STUDY, random_codes(STUDY, 40), 4), PartLedger()
    transcript = say_hello(STUDY, nodes)
    for step in STUDY.plan:
        held = RANGES[int(step.step[-1]) - 1]
        asked = query(step.step, STUDY, held=list(held))
        before = paid(nodes[0]).units
        code, _ = ask(nodes[0], instruct(STUDY, transcript, step.step, asked), transcript)
        assert code is OK
        ledger.charge(paid(nodes[0]).units - before, *held, inside=step.query == "score-evaluation")
    found = paid(nodes[0])
    assert found.train == found.held == found.units <= STUDY.mu2_units
    assert found.units >= STUDY.mu2_units * (1 - 1e-6)
    assert ledger.dearest < 0.67 * found.units  # two trainings of three, and an evaluation
    again = say_hello(STUDY, nodes)
    order = instruct(STUDY, again, "labels-f1", query("labels-f1", STUDY, held=list(RANGES[0])))
    assert ask(nodes[0], order, again)[0] is BUDGET


@pytest.mark.parametrize(
    "held", [[0, 0], [0, PARTS], [500, 600], list(RANGES[1])], ids=["nobody", "all", "few", "other"]
)
@pytest.mark.parametrize("step", ["labels-f1", "evaluation-f1"])
def test_a_server_that_holds_out_others_gains_nothing(step: str, held: list[int]) -> None:
    """Whom a fold holds out is no secret and no promise to anyone: whoever they are, everybody is
    charged for the sum, so what a server asks it could have got at no lower price."""
    nodes = small_nodes(STUDY, random_codes(STUDY, 40), 4)
    transcript = say_hello(STUDY, nodes)
    codes = []
    for _ in range(40):
        asked = query(step, STUDY, held=held)
        codes.append(ask(nodes[0], instruct(STUDY, transcript, step, asked), transcript)[0])
        found = paid(nodes[0])
        assert found.train == found.held <= STUDY.mu2_units
        transcript = say_hello(STUDY, nodes)
    planned = STUDY.step(step)
    assert planned is not None
    assert codes.count(OK) == min(40, int(1 / planned.exact_share))
    assert set(codes) <= {OK, BUDGET}


@pytest.mark.parametrize(
    ("step", "of"),
    [("labels-f4", "labels-f1"), ("labels", "labels-f1"), ("labels-f1", "evaluation-f1")],
)
def test_a_step_that_no_fold_has_is_refused_at_no_cost(step: str, of: str) -> None:
    nodes = small_nodes(STUDY, random_codes(STUDY, 40), 4)
    transcript = say_hello(STUDY, nodes)
    order = instruct(STUDY, transcript, of, query(of, STUDY, held=list(RANGES[0])))
    assert ask(nodes[0], replace(order, step=step), transcript)[0] is NO
    assert paid(nodes[0]) == BySide()


# The result.


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("three", [False, True])
def test_without_noise_federated_is_pooled_to_the_bit(estimator: str, three: bool) -> None:
    table = {"estimator": estimator, "bins": 8, "folds": 3}
    tables = three_tables if three else churn_tables
    study, frame = study_from_tables(tables(classification=table)), churn_frame(2000)
    result = trained(study, frame, noise="off")
    pooled = classify(Pooled(study, customers(study, frame).codes))
    assert result.classifier.fitted.model == pooled.fitted.model
    assert [f.fitted.model for f in result.classifier.folds] == [
        f.fitted.model for f in pooled.folds
    ]
    assert pooled.judged is not None
    assert result.classifier.judged == pooled.judged


def test_every_customer_is_counted_once_in_the_mean() -> None:
    study, frame = folded(), churn_frame(2000)
    classifier = trained(study, frame, noise="off").classifier
    known = int((Target.of(study).labels(customers(study, frame).codes) >= 0).sum())
    assert classifier.fitted.labels.customers == pytest.approx(known)
    assert classifier.judged is not None
    told = classifier.judged.evaluation
    assert told.customers.value == pytest.approx(known)
    assert sum(m.value or 0 for line in told.confusion for m in line) == pytest.approx(known)


def test_the_mean_s_shapes_are_the_mean_of_the_folds_with_narrower_bands() -> None:
    classifier = trained(folded(), churn_frame(4000)).classifier
    folds = [fold.fitted for fold in classifier.folds]
    for place, spread in enumerate(classifier.fitted.spreads):
        own = np.mean([np.array(f.model.params()["parts"][place]) for f in folds], axis=0)
        mean = np.array(classifier.fitted.model.params()["parts"][place])
        assert np.abs(mean - own).max() <= 0.5
        several = np.array([f.spreads[place] for f in folds])
        independent = np.sqrt((several**2).sum(axis=0)) / 3
        assert (spread >= independent - 1e-12).all()  # as if nobody were in two trainings
        assert (spread <= np.sqrt((several**2).mean(axis=0)) + 1e-12).all()
    assert np.mean(classifier.fitted.labels.noise) < np.mean(folds[0].labels.noise)
    assert mean_model(folds[:1]) is folds[0]


def test_a_mean_over_noise_is_nearer_to_the_truth_than_a_fold() -> None:
    """Against what the same training finds without noise, over all folds."""
    study, frame = folded(epsilon=1.0), churn_frame(5000)
    wanted = _points(trained(study, frame, noise="off").classifier.fitted)
    classifier = trained(study, frame, seed=3).classifier
    off = [np.abs(_points(f.fitted) - wanted).mean() for f in classifier.folds]
    assert np.abs(_points(classifier.fitted) - wanted).mean() < np.mean(off)


def _points(fitted: Fitted) -> Any:
    return np.concatenate([np.ravel(part) for part in fitted.model.params()["parts"]])


def test_evaluations_of_folds_are_told_as_one() -> None:
    study, frame = folded(), churn_frame(5000)
    result = trained(study, frame)
    assert result.classifier.judged is not None
    told = result.classifier.judged.evaluation
    plain = told.as_dict()
    assert plain["folds"] == told.folds == 3
    assert ModelEvaluation.from_dict(plain).folds == 3
    assert "cross-validation" in told.text()
    assert "çapraz doğrulama" in told.text("tr")
    pooled = evaluate_model(result.classifier, customers(study, frame).codes)
    assert pooled is not None
    low, high = told.metrics["auc"].interval_95 or (1, 0)
    assert low <= pooled.auc <= high
    once = trained(folded(None), frame).classifier
    assert once.judged is not None
    assert "folds" not in once.judged.evaluation.as_dict()


def test_an_evaluation_that_is_left_out_is_not_in_the_mean() -> None:
    study, frame = folded(), churn_frame(2000)

    class Short(Pooled):
        """The budget is gone before all folds are evaluated."""

        def sum(self, step: str, query: Query) -> NoisySum:
            if step in ("evaluation-f2", "evaluation-f3"):
                raise BudgetError("Nothing is left.", remedy="None.")
            return super().sum(step, query)

    found = classify(Short(study, customers(study, frame).codes))
    assert found.judged is not None
    assert found.judged.evaluation.folds == 1
    assert "cross-validation" in found.judged.evaluation.text()
    assert len(found.folds) == 3


def test_features_leave_the_mean_and_each_fold_s_model() -> None:
    task = {"estimator": "additive", "bins": 8, "folds": 2}
    frame = churn_frame(4000)
    whole = trained(churn_study(classification=task, epsilon=8.0), frame).card.importances
    penalty = sorted(whole.values())[0] * 1.01
    study = churn_study(classification=task | {"l1": penalty}, epsilon=8.0)
    after = trained(study, frame).card.importances
    assert sum(value == 0 for value in after.values()) == 1
    assert after == pytest.approx({k: max(0.0, v - penalty) for k, v in whole.items()}, abs=0.02)


def test_figures_of_folds_are_averaged_and_their_errors_add_up_in_squares() -> None:
    one, two = Metric(0.6, (0.5, 0.8)), Metric(0.8, (0.7, 0.9))
    assert average([one, two]).value == pytest.approx(0.7)
    assert average([one, two]).interval_95 == pytest.approx(
        (0.7 - np.hypot(0.1, 0.1) / 2, 0.7 + np.hypot(0.2, 0.1) / 2)
    )
    assert total([one, two]).value == pytest.approx(1.4)
    assert average([one, UNTOLD]).reason == TOO_FEW


def test_classes_and_arms_are_averaged_each() -> None:
    tables = three_tables(classification={"estimator": "additive", "bins": 8, "folds": 2})
    judged = trained(study_from_tables(tables | {"epsilon": 8.0}), churn_frame(4000)).classifier
    assert judged.judged is not None
    assert len(judged.judged.evaluation.by_class) == 3
    assert ModelEvaluation.from_dict(judged.judged.evaluation.as_dict()).folds == 2
    tables = churn_tables(epsilon=8.0)
    tables["classification"] |= {"folds": 2, "arms": "channel", "features": ["tenure", "spending"]}
    compared = trained(study_from_tables(tables), churn_frame(4000)).classifier.judged
    assert compared is not None
    assert [found.arm for found in compared.uplift] == ["shop", "phone"]
    assert compared.uplift[1].everybody.difference.value == pytest.approx(0.25, abs=0.15)


def test_study_check_tells_what_folds_cost_before_they_run(tmp_path: Path) -> None:
    text = studies.text("telco-churn").replace("[classification]", "[classification]\nfolds = 4")
    path = tmp_path / "churn.toml"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["study", "check", str(path)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for step, fold in itertools.product(("labels", "evaluation"), range(1, 5)):
        assert f"{step}-f{fold}" in result.output
    said = " ".join(result.output.split())
    assert "4 folds: each customer is in the trainings of 3 and evaluates one" in said
    assert "a client answers 20 of them instead of 5" in said
