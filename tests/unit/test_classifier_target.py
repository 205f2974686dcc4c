"""What a classifier's study may say of its threshold and of the arms of an A/B evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier_cases import CLASSIFIER_STUDIES, classifier_study, levels, numeric
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import StudyError
from kesit_privacy.target import Arms
from kit import broken

FEATURES = [numeric("a"), levels("p", 3), levels("t", 2), levels("arm", 2)]


def test_the_arms_are_no_feature_of_the_model() -> None:
    study = CLASSIFIER_STUDIES["arms"]
    assert [feature.name for feature in Embedding.of(study).features] == ["a"]
    arms = Arms.of(study)
    assert arms is not None
    assert arms.levels == ("arm0", "arm1", "arm2")
    codes = np.array([[0, 0, code, 0] for code in range(5)], dtype=np.int16)
    assert arms.known(codes).tolist() == [True, True, True, False, False]
    assert Arms.of(CLASSIFIER_STUDIES["churn"]) is None


@pytest.mark.parametrize(
    ("field", "target", "table"),
    [
        ("classification.arms", "t", {"arms": "nothing"}),
        ("classification.arms", "t", {"arms": "a"}),
        ("classification.arms", "t", {"arms": "t"}),
        ("classification.arms", "t", {"arms": "p", "features": ["a", "p"]}),
        ("classification.arms", "p", {"arms": "arm"}),
        ("classification.threshold", "p", {"threshold": 0.5}),
    ],
)
def test_what_makes_no_sense_is_refused(field: str, target: str, table: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as error:
        classifier_study(FEATURES, target, **table)
    broken(error)
    assert field in str(error.value)


def test_arms_and_a_threshold_are_under_the_hash() -> None:
    plain = classifier_study(FEATURES, "t")
    assert classifier_study(FEATURES, "t", threshold=0.3).hash != plain.hash
    assert classifier_study(FEATURES, "t", arms="arm").hash != plain.hash
