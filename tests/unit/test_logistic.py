"""Logistic regression: federated is pooled, it finds what scikit-learn finds, bad data are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
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
from kesit_privacy.coordinates import UNIT, Coordinates
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import CodeArray, FloatArray
from kesit_privacy.scorecard import CHANCE, LOGIT, Cells
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import Side, Target, held_out
from kesit_server.classification.training import fit as training
from kesit_server.classification.training import logistic
from kesit_server.classification.training.fold import Fold
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import simulate

LOGISTIC = {"estimator": "logistic", "positive": "yes"}
NO_NOISE = 1e-6
"""Of a federation's noise: as good as none, and the server knows it."""


def _study(**changes: Any) -> Study:
    return churn_study(classification=LOGISTIC, **changes)


def _three(**changes: Any) -> Study:
    return study_from_tables(three_tables(classification={"estimator": "logistic"}, **changes))


def _side(study: Study, codes: CodeArray, *, inside: bool) -> tuple[CodeArray, FloatArray]:
    low, high = held_out(study)
    return Side(low, high, inside=inside).counted(codes, Target.of(study))


@pytest.mark.parametrize("three", [False, True])
def test_without_noise_federated_is_pooled_to_the_bit(three: bool) -> None:
    study = _three() if three else _study()
    frame = churn_frame(2000)
    result = trained(study, frame, noise="off")
    pooled = training.fit(*Fold.all_of(Pooled(study, customers(study, frame).codes)))
    found = result.classifier.fitted
    assert found.labels.customers == pooled.labels.customers
    np.testing.assert_array_equal(found.labels.by_class, pooled.labels.by_class)
    assert found.model == pooled.model


def test_without_noise_it_is_scikit_learn_s() -> None:
    """On the same coordinates: the same order of customers, and nearly the same log odds."""
    study, frame = _study(), churn_frame(20_000)
    codes = customers(study, frame).codes
    model = logistic.fit(*Fold.all_of(Pooled(study, codes, told=NO_NOISE))).model
    space = Coordinates(Embedding.of(study))
    (rows, truth), (held, _) = (_side(study, codes, inside=inside) for inside in (False, True))
    best = LogisticRegression(C=1e3, max_iter=1000).fit(space.rows(rows) / UNIT, truth)
    wanted = best.decision_function(space.rows(held) / UNIT)
    found = model.points(held)[:, 0] / LOGIT
    assert np.corrcoef(wanted, found)[0, 1] > 0.998
    assert np.abs(wanted - found).mean() < 0.1


def test_it_learns_nearly_all_that_there_is_to_learn_from_few_customers() -> None:
    study, frame = _study(declared_customers=1500), churn_frame(1500)
    codes = customers(study, frame).codes
    found = trained(study, frame).classifier.fitted.model
    held, truth = _side(study, codes, inside=True)
    low, high = held_out(study)
    place = (codes[:, -1] >= low) & (codes[:, -1] < high)
    best = float(roc_auc_score(truth, log_odds(frame)[place]))
    assert roc_auc_score(truth, found.points(held)[:, 0]) > best - 0.05


def test_more_classes_are_learnt_each() -> None:
    study, frame = _three(epsilon=4.0), churn_frame(6000)
    model = trained(study, frame).classifier.fitted.model
    held, truth = _side(study, customers(study, frame).codes, inside=True)
    chances = model.chances(held) / CHANCE
    assert roc_auc_score(truth == 0, chances[:, 0]) > 0.8  # "small" is who leaves
    assert chances.mean(axis=0) == pytest.approx(np.bincount(truth) / len(truth), abs=0.05)


def test_many_classes_around_centres_are_told_apart() -> None:
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 6, 3000)
    rows = rng.uniform(0.2, 0.8, (6, 8))[kinds] + rng.normal(0, 0.1, (3000, 8))
    study, frame = clouds(rows, kinds, (0.0, 1.0), "logistic", 4.0)
    model = trained(study, frame).classifier.fitted.model
    held, truth = _side(study, customers(study, frame).codes, inside=True)
    assert (model.chances(held).argmax(axis=1) == truth).mean() > 0.9


def test_shapes_far_from_where_customers_are_keep_the_intercept_in_its_bounds() -> None:
    """One class is spread out along many features: steep bends, and nobody near their ends."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 2, 4000)
    rows = rng.normal(0, 0.12 + 0.12 * kinds[:, None], (4000, 16))
    study, frame = clouds(rows, kinds, (-1.0, 1.0), "logistic", 2.0)
    codes = customers(study, frame).codes
    model = logistic.fit(*Fold.all_of(Pooled(study, codes, told=NO_NOISE))).model
    held, truth = _side(study, codes, inside=True)
    assert roc_auc_score(truth, model.points(held)[:, 0]) > 0.99
    assert abs(model.intercept[0]) < 4 * LOGIT


def test_no_query_holds_anything_but_what_earlier_sums_told() -> None:
    """The same opened sums give the same questions, whoever the customers are."""
    assert asks_alike(_study(), logistic.fit) + 3 <= 9  # hello, evaluation and the end


def test_one_class_only_is_learnt_as_such() -> None:
    tables = churn_tables(classification=LOGISTIC)
    tables["features"][-1]["may_be_constant"] = True
    study, frame = study_from_tables(tables), churn_frame(3000)
    frame = frame.with_columns(pl.lit("no").alias("left"))
    model = trained(study, frame).classifier.fitted.model
    held, _ = _side(study, customers(study, frame).codes, inside=True)
    assert (model.chances(held)[:, 1] < 0.1 * CHANCE).mean() > 0.99


def test_a_class_may_be_missing_at_some_clients() -> None:
    """Three clients: one where all leave, one where all stay, one that has no customers."""
    study, frame = _study(), churn_frame(4000)
    leaves = (frame["left"] == "yes").to_numpy()
    parts = (np.flatnonzero(leaves), np.flatnonzero(~leaves), np.array([], dtype=np.int64))
    divided = replace(customers(study, frame), parts=parts)
    found = simulate(study, SimulationPlan(data="none", clients=3, noise="off"), divided)
    held, truth = _side(study, divided.codes, inside=True)
    pooled = logistic.fit(*Fold.all_of(Pooled(study, divided.codes))).model
    federated = found.classifier.fitted.model
    one, two = (
        float(roc_auc_score(truth, model.points(held)[:, 0])) for model in (federated, pooled)
    )
    assert one == pytest.approx(two, abs=0.01)  # another roster has another noise


def test_a_constant_feature_and_one_that_is_always_missing_say_nothing() -> None:
    study = _study(epsilon=8.0)
    codes = customers(study, churn_frame(4000)).codes
    codes[:, 0], codes[:, 1] = 4000, -1
    fitted = logistic.fit(*Fold.all_of(Pooled(study, codes)))
    held, truth = _side(study, codes, inside=True)
    points = fitted.model.points(held)[:, 0]
    assert roc_auc_score(truth, points) > 0.55  # the channel is left
    assert len(np.unique(points)) <= 3
    assert all(np.isfinite(spread).all() for spread in fitted.spreads)


def test_missing_values_have_points_of_their_own() -> None:
    """Who has no tenure on file leaves often: the cell of missing values learns it."""
    frame = churn_frame(6000).with_columns(
        pl.when(pl.col("tenure").is_null()).then(pl.lit("yes")).otherwise("left").alias("left")
    )
    [part, *_] = trained(_study(epsilon=8.0), frame).classifier.fitted.model.parts
    assert isinstance(part, Cells)
    assert part.values[-1][0] > 500  # half a logit


def test_customers_of_unknown_label_are_left_out() -> None:
    study, frame = _study(), churn_frame(2000)
    extra = frame.head(500).with_columns(
        pl.lit(None, dtype=pl.String).alias("left"),
        pl.concat_str(pl.lit("x"), pl.col("id")).alias("id"),
    )
    both = pl.concat([frame, extra])
    one = logistic.fit(*Fold.all_of(Pooled(study, customers(study, frame).codes)))
    two = logistic.fit(*Fold.all_of(Pooled(study, customers(study, both).codes)))
    assert one.model == two.model


def test_it_counts_customers_by_cell_as_the_first_sum_tells_them() -> None:
    study, frame = _study(), churn_frame(5000)
    codes = customers(study, frame).codes
    labels = logistic.fit(*Fold.all_of(Pooled(study, codes, told=NO_NOISE))).labels
    rows, truth = _side(study, codes, inside=False)
    assert labels.customers == pytest.approx(len(rows), rel=0.01)  # long rows are clipped
    assert labels.by_class == pytest.approx(np.bincount(truth), rel=0.01)
    wanted = np.bincount(rows[:, 2], minlength=5)
    assert labels.sizes[2] == pytest.approx(wanted, abs=0.005 * len(rows))
    tenure = rows[:, 0]
    assert labels.sizes[0][-1] == pytest.approx((tenure < 0).sum(), abs=5)
    middles = (np.arange(labels.bins) + 0.5) / labels.bins
    mean = float(labels.sizes[0][:-1] @ middles / labels.sizes[0][:-1].sum())
    assert mean == pytest.approx(tenure[tenure >= 0].mean() / 2**14, abs=0.01)


def test_little_noise_and_much_noise_are_survived() -> None:
    codes = customers(_study(), churn_frame(300)).codes
    for epsilon, told in ((0.1, 1.0), (50.0, 1.0), (50.0, NO_NOISE)):
        study = _study(epsilon=epsilon)
        fitted = logistic.fit(*Fold.all_of(Pooled(study, codes, told=told)))
        assert all(np.isfinite(spread).all() for spread in fitted.spreads)
