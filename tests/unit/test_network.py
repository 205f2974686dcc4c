"""The network in whole numbers: exact, a function of one row, and read with every range checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from classifierkit import churn_study, three_tables
from kesit_privacy.additive_view import view
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import GRID, Categorical, CodeArray
from kesit_privacy.models import read_model
from kesit_privacy.network import LARGEST_WEIGHT, WEIGHT, Inputs, Network, size
from kesit_privacy.queries import ResidualSums
from kesit_privacy.queries.labels import WEIGHT as SUM_WEIGHT
from kesit_privacy.scorecard import LARGEST, Scorecard
from kesit_privacy.study import Study
from kesit_privacy.study_file import study_from_tables
from trainingkit import coded, network, neural_study

STUDIES: dict[str, Study] = {
    "two classes": neural_study(),
    "three classes": study_from_tables(
        three_tables(classification={"estimator": "neural", "training": {"hidden": 5}})
    ),
}


def plainly(model: Network, row: CodeArray) -> list[int]:
    """Points of one row, in Python's whole numbers."""
    inputs: list[int] = []
    numbers = iter(zip(model.inputs.centres, model.inputs.scales, strict=True))
    for feature, column in zip(model.space.features, model.space.columns, strict=True):
        code = int(row[column])
        if isinstance(feature, Categorical):
            inputs += [GRID if code == level else 0 for level in range(feature.cells)]
            continue
        centre, scale = next(numbers)
        moved = max(-4 * GRID, min(4 * GRID, (code - centre) * scale >> 8))
        inputs += [0, GRID] if code < 0 else [moved, 0]
    first, bias, second, last = ([int(x) for x in layer.ravel()] for layer in model.layers)
    width = len(inputs)
    hidden = [
        sum(w * x for w, x in zip(first[unit * width : (unit + 1) * width], inputs, strict=True))
        + bias[unit] * GRID
        for unit in range(model.hidden)
    ]
    hidden = [max(0, min(64 * GRID, value // WEIGHT)) for value in hidden]
    found = []
    for logit in range(model.logits):
        row_of = second[logit * model.hidden : (logit + 1) * model.hidden]
        total = sum(v * h for v, h in zip(row_of, hidden, strict=True)) + last[logit] * GRID
        found.append(max(-LARGEST, min(LARGEST, total // (WEIGHT * GRID // 1024))))
    return found


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("largest", [100, WEIGHT, LARGEST_WEIGHT])
def test_points_are_exact_and_of_one_row(name: str, largest: int) -> None:
    study = STUDIES[name]
    model, codes = network(study, largest=largest), coded(study, 60)
    points = model.points(codes)
    assert points.tolist() == [plainly(model, row) for row in codes]
    assert (points == np.concatenate([model.points(row[None]) for row in codes])).all()


def test_largest_weights_stay_exact() -> None:
    study = STUDIES["two classes"]
    inputs = Inputs(Embedding.of(study), (GRID, 0), (64 << 8, 64 << 8))
    length = size(inputs, 256, 1)
    model = Network(inputs, 256, 1, (LARGEST_WEIGHT,) * length)
    codes = coded(study, 20)
    assert model.points(codes).tolist() == [plainly(model, row) for row in codes]
    assert (model.chances(codes) >= 0).all()


def test_read_back() -> None:
    study = STUDIES["three classes"]
    model = network(study)
    assert read_model(model.space, model.logits, model.params()) == model
    additive = Scorecard(model.space, (0,), ())
    assert not isinstance(additive, Network)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [math.nan]},
        {"weights": [0.5]},
        {"weights": [True]},
        {"weights": [LARGEST_WEIGHT + 1]},
        {"weights": []},
        {"hidden": 0},
        {"hidden": 4},
        {"hidden": 257},
        {"scales": [0, 1]},
        {"scales": [1]},
        {"centres": [-1, 0]},
        {"steps": 100},
    ],
)
def test_no_other_numbers_are_read(change: dict[str, Any]) -> None:
    study = STUDIES["two classes"]
    model = network(study)
    params = model.params() | change
    if len(params["weights"]) == 1:
        params["weights"] = params["weights"] + model.params()["weights"][1:]
    with pytest.raises(ProtocolError):
        read_model(model.space, model.logits, params)


def test_residuals_of_a_network() -> None:
    """A network goes where a scorecard does: no row adds more than Δ to a sum of residuals."""
    study = STUDIES["two classes"]
    model = network(study)
    features = len(model.space.features)
    weights = [int(SUM_WEIGHT / math.sqrt(features))] * features
    params = {"held": [0, 200], "model": model.params(), "bins": 8, "weights": weights}
    query = ResidualSums.bind(study, params, 28)
    for row in coded(study, 50):
        assert int((query.sum(row[None]) ** 2).sum()) <= query.delta_sq


def test_view_of_a_network_is_what_one_feature_changes() -> None:
    study = churn_study()
    inputs = Inputs.even(Embedding.of(study))
    flat = np.zeros(size(inputs, 2, 1), dtype=np.int64)
    flat[0] = WEIGHT  # the first unit sees tenure alone, the second nothing
    flat[2 * inputs.count] = 2 * WEIGHT
    flat[2 * inputs.count + 2] = WEIGHT
    model = Network(inputs, 2, 1, tuple(flat.tolist()))
    seen = view(model, [np.ones(9), np.ones(9), np.arange(5.0)])
    tenure, spending, channel = seen.parts
    assert np.ptp(tenure.array[:8]) > 1000  # type: ignore[union-attr]
    assert not spending.array.any()  # type: ignore[union-attr]
    assert not channel.array.any()  # type: ignore[union-attr]
