"""The additive model: federated is pooled, it learns what is there, and bad targets are told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from classifierkit import (
    Pooled,
    asks_alike,
    churn_frame,
    churn_study,
    churn_tables,
    clouds,
    customers,
    log_odds,
    three_tables,
    trained,
)
from kesit_privacy.errors import StudyError
from kesit_privacy.features import CodeArray, FloatArray, IntArray
from kesit_privacy.scorecard import CHANCE
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import Side, Target, held_out
from kesit_server.classification.training import additive
from kesit_server.classification.training.fitted import Fitted
from kesit_server.classification.training.fold import Fold
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import simulate


def pooled_fit(sums: Pooled) -> Fitted:
    """The study's one training over these sums."""
    [fold] = Fold.all_of(sums)
    return additive.fit(fold)


def _auc(study: Study, codes: CodeArray, chances: FloatArray | IntArray) -> float:
    low, high = held_out(study)
    rows, truth = Side(low, high, inside=True).counted(codes, Target.of(study))
    assert len(rows) == len(chances)
    return float(roc_auc_score(truth, chances))


def _held(study: Study, codes: CodeArray) -> CodeArray:
    low, high = held_out(study)
    return Side(low, high, inside=True).counted(codes, Target.of(study))[0]


@pytest.mark.parametrize("three", [False, True])
def test_without_noise_federated_is_pooled_to_the_bit(three: bool) -> None:
    study = study_from_tables(three_tables()) if three else churn_study()
    frame = churn_frame(2000)
    result = trained(study, frame, noise="off")
    pooled = pooled_fit(Pooled(study, customers(study, frame).codes))
    assert result.classifier.fitted.model == pooled.model


def test_it_learns_nearly_all_that_there_is_to_learn() -> None:
    study, frame = churn_study(), churn_frame(6000)
    result = trained(study, frame)
    codes = customers(study, frame).codes
    low, high = held_out(study)
    held = (codes[:, -1] >= low) & (codes[:, -1] < high)
    best = float(roc_auc_score((frame["left"] == "yes").to_numpy()[held], log_odds(frame)[held]))
    found = _auc(study, codes, result.classifier.fitted.model.chances(_held(study, codes))[:, 1])
    assert found > best - 0.03


def test_more_classes_are_learnt_each() -> None:
    study, frame = study_from_tables(three_tables(epsilon=4.0)), churn_frame(6000)
    chances = (
        trained(study, frame).classifier.fitted.model.chances(
            _held(study, customers(study, frame).codes)
        )
        / CHANCE
    )
    low, high = held_out(study)
    truth = Side(low, high, inside=True).counted(customers(study, frame).codes, Target.of(study))[1]
    assert roc_auc_score(truth == 0, chances[:, 0]) > 0.8  # "small" is who leaves
    assert chances.mean(axis=0) == pytest.approx(np.bincount(truth) / len(truth), abs=0.05)


def test_features_that_are_alike_do_not_each_mend_the_same_customers() -> None:
    """Copies of one number: what each lacks, all lack, and together they must not overshoot."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 4, 4000)
    one = rng.normal(0, 1, 4)[kinds] + rng.normal(0, 0.3, 4000)
    rows = one[:, None] + rng.normal(0, 0.1, (4000, 24))
    study, frame = clouds(rows, kinds, (-4.0, 4.0), "additive", 2.0)
    codes = customers(study, frame).codes
    model = pooled_fit(Pooled(study, codes, told=1e-6)).model  # no noise that would hold it back
    low, high = held_out(study)
    held, truth = Side(low, high, inside=True).counted(codes, Target.of(study))
    own = model.chances(held)[np.arange(len(held)), truth.astype(int)] / CHANCE
    assert -np.log(np.maximum(own, 1e-6)).mean() < 0.4


def test_a_run_whose_counts_are_all_noise_ends_all_the_same() -> None:
    """Far fewer customers than declared: it is paid, so it must not break off."""
    study = churn_study()
    codes = customers(study, churn_frame(900)).codes
    first = Pooled(study, codes)
    pooled_fit(first)
    below = replace(first.opened[0], values=-np.abs(first.opened[0].values))
    found = pooled_fit(Pooled(study, codes, answers=[below, *first.opened[1:]]))
    assert np.isfinite(found.model.chances(codes)).all()


def test_no_query_holds_anything_but_what_earlier_sums_told() -> None:
    """The same opened sums give the same questions, whoever the customers are."""
    assert asks_alike(churn_study(), additive.fit) == 4


def test_one_class_only_is_learnt_as_such_and_told() -> None:
    tables = churn_tables()
    tables["features"][-1]["may_be_constant"] = True
    study, frame = study_from_tables(tables), churn_frame(3000)
    frame = frame.with_columns(pl.lit("no").alias("left"))
    result = trained(study, frame)
    chances = result.classifier.fitted.model.chances(_held(study, customers(study, frame).codes))
    assert (chances[:, 1] < 0.1 * CHANCE).all()
    assert any("'yes'" in words.en for words in result.card.doubts)


def test_a_class_may_be_missing_at_some_clients() -> None:
    """Three clients: one where all leave, one where all stay, one that has no customers."""
    study, frame = churn_study(), churn_frame(4000)
    leaves = (frame["left"] == "yes").to_numpy()
    parts = (np.flatnonzero(leaves), np.flatnonzero(~leaves), np.array([], dtype=np.int64))
    plan = SimulationPlan(data="none", clients=3, noise="off")
    divided = replace(customers(study, frame), parts=parts)
    pooled = pooled_fit(Pooled(study, divided.codes))
    federated = simulate(study, plan, divided).classifier.fitted
    # Another roster has another noise, which sets how much is smoothed: what is summed is the same.
    np.testing.assert_allclose(federated.labels.by_class, pooled.labels.by_class, rtol=1e-12)


def test_a_feature_that_is_the_target_is_told() -> None:
    frame = churn_frame(3000).with_columns(
        pl.when(pl.col("left") == "yes")
        .then(pl.lit("phone"))
        .otherwise(pl.lit("web"))
        .alias("channel")
    )
    said = [words.en for words in trained(churn_study(), frame).card.doubts]
    assert len(said) == 1
    assert said[0].startswith("channel alone tells left")
    assert not trained(churn_study(), churn_frame(3000)).card.doubts


@pytest.mark.parametrize("estimator", ["additive", "logistic"])
def test_a_list_whose_cells_are_mostly_noise_is_not_said_to_give_the_target_away(
    estimator: str,
) -> None:
    """300 levels at random: the smaller of two noisy counts is always small."""
    levels = [f"level {place}" for place in range(300)]
    tables = churn_tables(classification={"estimator": estimator}, declared_customers=5000)
    features = [*tables["features"], {"kind": "categorical", "name": "code", "levels": levels}]
    study = study_from_tables({**tables, "features": features, "epsilon": 1.0})
    frame = churn_frame(5000)
    code = np.random.default_rng(0).choice(levels, len(frame))
    frame = frame.with_columns(pl.Series("code", code))
    assert not trained(study, frame).card.doubts


@pytest.mark.parametrize("estimator", ["additive", "logistic"])
def test_of_a_rare_class_nothing_is_said_to_give_it_away(estimator: str) -> None:
    frame = churn_frame(8000)
    rare = (pl.col("left") == "yes") & (pl.int_range(pl.len()) % 12 == 0)
    left = pl.when(rare).then(pl.lit("yes")).otherwise(pl.lit("no"))
    frame = frame.with_columns(left.alias("left"))
    task = {"estimator": estimator, "positive": "yes"}
    for seed in range(3):
        study = churn_study(classification=task, declared_customers=8000, epsilon=1.0)
        assert not trained(study, frame, seed=seed).card.doubts


def test_bounds_that_put_everybody_in_one_cell_are_told() -> None:
    tables = churn_tables(declared_customers=4000)
    wide = [f | {"upper": 1e5} if f["name"] == "tenure" else f for f in tables["features"]]
    study = study_from_tables({**tables, "features": wide, "epsilon": 4.0})
    (said,) = trained(study, churn_frame(4000)).card.doubts
    assert said.en.startswith("tenure: nearly all customers lie in one of its")
    assert said.tr.startswith("tenure: müşterilerin neredeyse tümü")


def test_customers_of_unknown_label_are_left_out() -> None:
    study, frame = churn_study(), churn_frame(2000)
    extra = frame.head(500).with_columns(
        pl.lit(None, dtype=pl.String).alias("left"),
        pl.concat_str(pl.lit("x"), pl.col("id")).alias("id"),
    )
    both = pl.concat([frame, extra])
    one = pooled_fit(Pooled(study, customers(study, frame).codes))
    two = pooled_fit(Pooled(study, customers(study, both).codes))
    assert one.model == two.model


def test_missing_values_have_points_of_their_own() -> None:
    """Who has no tenure on file leaves often: the cell of missing values learns it."""
    frame = churn_frame(6000).with_columns(
        pl.when(pl.col("tenure").is_null()).then(pl.lit("yes")).otherwise("left").alias("left")
    )
    part = trained(churn_study(epsilon=8.0), frame).classifier.fitted.model.parts[0].params()
    assert part[-1][0] > 500  # half a logit


def test_only_the_features_that_tell_most_are_kept() -> None:
    study = churn_study(classification={"estimator": "additive", "keep": 1, "bins": 8})
    result = trained(study, churn_frame(5000))
    importances = result.card.importances
    assert max(importances, key=lambda name: importances[name]) == "tenure"
    assert importances["spending"] == importances["channel"] == 0
    with pytest.raises(StudyError, match="keep"):
        churn_study(classification={"estimator": "logistic", "keep": 1})


def test_fewer_shares_of_noise_give_other_models() -> None:
    """Seeds of noise matter, so nothing is learnt from the rows beside the sums."""
    frame, study = churn_frame(1000), churn_study()
    models = [trained(study, frame, seed=seed).classifier.fitted.model for seed in (1, 2)]
    assert models[0] != models[1]
    assert replace(models[0], intercept=models[1].intercept) != models[1]
