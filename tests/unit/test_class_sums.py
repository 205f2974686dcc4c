"""The first sum of logistic regression where it was wrong: long rows, rare classes, rare levels."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from classifierkit import Pooled, churn_frame, churn_study, churn_tables, customers, three_tables
from kesit_privacy.coordinates import UNIT, Coordinates
from kesit_privacy.embedding import Embedding
from kesit_privacy.features import FloatArray
from kesit_privacy.queries import SecondMoments
from kesit_privacy.scorecard import LOGIT
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import Side, Target, held_out
from kesit_server.classification.training import logistic
from kesit_server.classification.training.class_sums import ClassSums
from kesit_server.classification.training.fold import Fold
from kesit_server.sums import NoisySum

NO_NOISE = 1e-6


def _query(study: Study, radius: int) -> SecondMoments:
    return SecondMoments.bind(study, {"held": [0, 0], "radius": radius, "share": 50}, 32)


@pytest.mark.parametrize("three", [False, True])
def test_a_clipped_row_is_the_same_part_of_a_customer_in_all_sums(three: bool) -> None:
    """Clipped to half their length or less, rows still tell shares and means of one population."""
    study = study_from_tables(three_tables()) if three else churn_study()
    codes = customers(study, churn_frame(3000)).codes
    query = _query(study, UNIT // 2)
    values = query.sum(codes) / 2.0**query.scale_bits
    found = ClassSums.of(query, NoisySum("second-moments", values, 1e-9, 5, 1))
    target, space = Target.of(study), Coordinates(Embedding.of(study))
    rows = np.column_stack([np.ones(len(codes)), space.rows(codes) / UNIT])
    weights = 0.25 / (rows**2).sum(axis=1)  # (radius / length)²
    own = np.eye(len(target.classes))[target.labels(codes)] * weights[:, None]
    np.testing.assert_allclose(found.by_class, rows.T @ own, rtol=0.02, atol=2)
    np.testing.assert_allclose(found.everybody, rows.T @ weights, rtol=0.02, atol=2)
    means = rows.T @ weights / weights.sum()
    apart = own - np.outer(weights, own.sum(axis=0) / weights.sum())
    wanted = ((rows - means).T @ apart)[1:]
    np.testing.assert_allclose(found.told(float(weights.sum())), wanted, atol=0.02 * len(codes) / 8)


@pytest.mark.parametrize(("three", "share"), [(False, 0.03), (False, 0.5), (True, 0.1)])
def test_the_noise_of_what_tells_a_class_is_known(three: bool, share: float) -> None:
    study = study_from_tables(three_tables()) if three else churn_study()
    query, sigma, many = _query(study, 2 * UNIT), 30.0, 1e7
    rng, seen = np.random.default_rng(5), []
    shares = np.array([1 - share, share]) if not three else np.array([share, share, 1 - 2 * share])
    for _ in range(300):
        noise: FloatArray = rng.normal(0, sigma, query.length)
        found = ClassSums.of(query, NoisySum("second-moments", noise, sigma, 5, 1))
        found.by_class[0] += shares * many  # so many customers that their number is no question
        found.everybody[0] += many
        seen.append(found.told(many))
    spread = np.std(np.array(seen), axis=(0, 1))
    np.testing.assert_allclose(spread, found.told_noise(shares), rtol=0.08)


def test_a_rare_class_in_rare_cells_is_learnt() -> None:
    """Most of p(1-p) lies with a few customers: a step by its mean would overshoot there."""
    rng, rows = np.random.default_rng(3), 20_000
    channel = rng.choice(["web", "shop", "phone"], rows, p=[0.9, 0.07, 0.03])
    tenure, spending = rng.integers(0, 2, rows) * 60.0, rng.choice([-100.0, 1e5], rows)
    odds = -6 + 4 * (channel == "phone") + 2.5 * (channel == "shop") + tenure / 40
    left = np.where(rng.random(rows) < 1 / (1 + np.exp(-odds)), "yes", "no")
    assert 0.01 < (left == "yes").mean() < 0.03
    frame = pl.DataFrame(
        {
            "id": [str(row) for row in range(rows)],
            "tenure": tenure,
            "spending": spending,
            "channel": channel,
            "left": left,
        }
    )
    study = study_from_tables(churn_tables(classification={"estimator": "logistic"}))
    codes = customers(study, frame).codes
    low, high = held_out(study)
    (train, truth), (held, _) = (
        Side(low, high, inside=inside).counted(codes, Target.of(study)) for inside in (False, True)
    )
    space = Coordinates(Embedding.of(study))
    best = LogisticRegression(C=1e3, max_iter=1000).fit(space.rows(train) / UNIT, truth)
    wanted = best.decision_function(space.rows(held) / UNIT)
    model = logistic.fit(*Fold.all_of(Pooled(study, codes, told=NO_NOISE))).model
    found = model.points(held)[:, 0] / LOGIT
    assert np.corrcoef(wanted, found)[0, 1] > 0.99
    assert np.abs(wanted - found).max() < 0.8  # of odds that are 6 at most
