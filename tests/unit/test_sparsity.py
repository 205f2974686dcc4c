"""L1: features that say little leave a model; the rest keep their order and their meaning."""

from __future__ import annotations

import numpy as np
import pytest

from classifierkit import churn_frame, churn_study, customers, trained
from kesit_privacy.scorecard import LOGIT
from kesit_privacy.target import Target
from kesit_server.classification.training.sparsity import sparse


@pytest.mark.parametrize("estimator", ["additive", "logistic"])
def test_a_penalty_shrinks_each_feature_s_spread_by_itself(estimator: str) -> None:
    task = {"estimator": estimator, "bins": 8}
    found = trained(churn_study(classification=task), churn_frame(4000))
    before = found.card.importances
    middle = sorted(before.values())[1]
    after = trained(
        churn_study(classification=task | {"l1": middle * 1.01}), churn_frame(4000)
    ).card.importances
    expected = {name: max(0.0, value - middle * 1.01) for name, value in before.items()}
    assert after == pytest.approx(expected, abs=0.02)
    assert sum(value == 0 for value in after.values()) == 2


def test_none_changes_nothing_and_all_of_it_leaves_the_intercept() -> None:
    study, frame = churn_study(), churn_frame(3000)
    fitted = trained(study, frame).classifier.fitted
    assert sparse(fitted, 0.0) is fitted
    empty = sparse(fitted, 10.0)
    codes = customers(study, frame).codes
    points = empty.model.points(codes)
    assert len(np.unique(points)) == 1
    # What is left is the mean of what the whole model says, up to noise on the cells' sizes.
    rows = codes[Target.of(study).labels(codes) >= 0]
    assert points[0, 0] == pytest.approx(fitted.model.points(rows).mean(), abs=0.05 * LOGIT)
