"""A model as ONNX says what Kesit says: cells and networks to the bit, lines within a point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from classifierkit import churn_frame, churn_study, three_tables, trained
from kesit_client.results import scoring
from kesit_privacy import model_file
from kesit_privacy.embedding import Embedding
from kesit_privacy.errors import ModelError
from kesit_privacy.features import GRID, Feature, Numeric
from kesit_privacy.model_file import MODEL, ScoringModel
from kesit_privacy.network import LARGEST_WEIGHT, WEIGHT, Inputs, Network, size
from kesit_privacy.scorecard import LOGIT, Line, Scorecard
from kesit_privacy.study_file import study_from_tables
from kesit_privacy.target import Target
from kesit_server.classification.telling.onnx_export import lower_ends, onnx_model

reference = pytest.importorskip("onnx.reference", reason="the extra `onnx` is not installed")


def _inputs(model: ScoringModel, frame: pl.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for feature in model.features:
        column = frame[feature.name]
        if isinstance(feature, Numeric):
            values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        else:
            values = column.fill_null("").to_numpy().astype(object)
        found[feature.name] = values[:, None]
    return found


def _run(model: ScoringModel, frame: pl.DataFrame) -> Any:
    return reference.ReferenceEvaluator(onnx_model(model)).run(None, _inputs(model, frame))[0]


def _edges(frame: pl.DataFrame, model: ScoringModel) -> pl.DataFrame:
    """The frame with numbers at, and one step of double precision before, each cell's end."""
    tenure = next(f for f in model.features if f.name == "tenure")
    assert isinstance(tenure, Numeric)
    ends = lower_ends(tenure, 8)
    values = np.concatenate([ends, np.nextafter(ends, -np.inf), [-1e300, 1e300, np.nan]])
    return frame.head(len(values)).with_columns(pl.Series("tenure", values))


@pytest.mark.parametrize("three", [False, True])
def test_cells_agree(tmp_path: Path, three: bool) -> None:
    study = study_from_tables(three_tables()) if three else churn_study()
    result = trained(study, churn_frame(3000))
    (tmp_path / MODEL).write_bytes(result.files[MODEL])
    model = model_file.read(tmp_path)
    fresh = churn_frame(400, seed=5)
    odd = fresh.head(3).with_columns(pl.Series("channel", ["fax", None, "web"]))
    frame = pl.concat([fresh, odd, _edges(fresh, model)], how="vertical_relaxed")
    frame = frame.with_columns(pl.Series("id", [f"n{i}" for i in range(len(frame))]))
    told = scoring.score(model, frame, "id").drop("id").to_numpy()
    found = _run(model, frame)
    found = found if three else found[:, 1:]
    np.testing.assert_allclose(found, told, atol=2 / 2**14)  # chances are rounded down to 2^-14


def _renamed(model: ScoringModel, names: list[str]) -> ScoringModel:
    features = tuple(replace(f, name=n) for f, n in zip(model.features, names, strict=True))
    parts = model.model.parts
    card = Scorecard(Embedding(features, (0, 1, 2)), model.model.intercept, parts)
    return replace(model, features=features, model=card)


@pytest.mark.parametrize(
    "names",
    [
        ["intercept", "zero", "n1"],
        ["f0.ends", "f1.points", "n0"],
        ["kesit.n0", "kesit._zero", "kesit.__n3"],
    ],
)
def test_a_feature_may_have_any_name(tmp_path: Path, names: list[str]) -> None:
    """Also one that the graph would have used inside."""
    result = trained(churn_study(), churn_frame(3000))
    (tmp_path / MODEL).write_bytes(result.files[MODEL])
    model = model_file.read(tmp_path)
    frame = churn_frame(50, seed=5)
    told = scoring.score(model, frame, "id")["chance: yes"].to_numpy()
    other = _renamed(model, names)
    frame = frame.rename(dict(zip([f.name for f in model.features], names, strict=True)))
    np.testing.assert_allclose(_run(other, frame)[:, 1], told, atol=2 / 2**14)
    with pytest.raises(ModelError, match="as the output of the ONNX graph is"):
        onnx_model(_renamed(model, [*names[:2], "chances"]))


def test_lines_agree_within_a_point() -> None:
    features: tuple[Feature, ...] = tuple(churn_study().features[:2])
    space = Embedding(features, (0, 1))
    card = Scorecard(
        space,
        (-300,),
        (Line((2000,), (-1500,), (77,)), Line((-900,), (2100,), (-5,))),
    )
    model = ScoringModel(
        "p", "explicit-consent", "left", ("no", "yes"), features, card, np.zeros((2, 1))
    )
    frame = churn_frame(500, seed=6)
    codes, _ = scoring.encode_features(frame, features, "id", 2)
    logits = card.points(codes)[:, 0] / LOGIT
    found = _run(model, frame)[:, 1]
    np.testing.assert_allclose(np.log(found / (1 - found)), logits, atol=4 / LOGIT)


def _network(three: bool, largest: int) -> ScoringModel:
    """A network of random weights, with inputs as histograms would scale them."""
    study = study_from_tables(three_tables()) if three else churn_study()
    space, logits = Embedding.of(study), Target.of(study).logits
    inputs = Inputs(space, (3000, 9001), (700, 1100))
    length = size(inputs, 6, logits)
    weights = np.random.default_rng(5).integers(-largest, largest + 1, length)
    model = Network(inputs, 6, logits, tuple(weights.tolist()))
    classes = Target.of(study).classes
    return ScoringModel(
        "p",
        "explicit-consent",
        "left",
        classes,
        tuple(space.features),
        model,
        np.zeros((3, logits)),
    )


def _at_thresholds(frame: pl.DataFrame, features: tuple[Feature, ...]) -> pl.DataFrame:
    """Each number at, and just before, thresholds of its grid, the first and last among them."""
    steps = [0, 1, 2, 8190, 8191, 8192, GRID - 2, GRID - 1]
    odd = [-1e300, 1e300, np.nan, np.inf, -np.inf, 0.0, -0.0]
    found = []
    for feature in features:
        if isinstance(feature, Numeric):
            ends = np.array([feature.decode(step + 0.5) for step in steps])
            values = np.concatenate([ends, np.nextafter(ends, -np.inf), odd])
            found.append(frame.head(len(values)).with_columns(pl.Series(feature.name, values)))
    return pl.concat(found, how="vertical_relaxed")


@pytest.mark.parametrize("three", [False, True])
@pytest.mark.parametrize("largest", [WEIGHT // 4, WEIGHT, LARGEST_WEIGHT])
def test_networks_agree(three: bool, largest: int) -> None:
    """Points are the same whole numbers; a chance is one of them rounded down to 2^-14."""
    model = _network(three, largest)
    fresh = churn_frame(300, seed=5)
    odd = fresh.head(3).with_columns(pl.Series("channel", ["fax", None, "web"]))
    frame = pl.concat([fresh, odd, _at_thresholds(fresh, model.features)], how="vertical_relaxed")
    frame = frame.with_columns(pl.Series("id", [f"n{i}" for i in range(len(frame))]))
    codes, _ = scoring.encode_features(frame, model.features, "id", 3)
    made = onnx_model(model)
    made.graph.output.append(made.graph.output[0].__class__(name=_points(made)))
    found, logits = reference.ReferenceEvaluator(made).run(None, _inputs(model, frame))
    assert (logits * LOGIT == model.model.points(codes)).all()
    told = scoring.score(model, frame, "id").drop("id").to_numpy()
    np.testing.assert_allclose(found if three else found[:, 1:], told, atol=2 / 2**14)


def _points(made: Any) -> str:
    """Name of the logits in a network's graph: the last quotient."""
    return str([node.output[0] for node in made.graph.node if node.op_type == "Div"][-1])
