"""A released model where the customers are: chances, reasons, files, and who may be scored."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from classifierkit import churn_frame, churn_study, log_odds, three_tables, trained
from kesit_client.errors import SourceError
from kesit_client.results import given_out, scoring
from kesit_privacy import model_file
from kesit_privacy.errors import ModelError
from kesit_privacy.model_file import MODEL, ScoringModel
from kesit_privacy.scorecard import LOGIT
from kesit_privacy.study_file import study_from_tables


def _model(folder: Path, three: bool = False) -> ScoringModel:
    study = study_from_tables(three_tables()) if three else churn_study()
    result = trained(study, churn_frame(4000))
    folder.mkdir(exist_ok=True)
    (folder / MODEL).write_bytes(result.files[MODEL])
    return model_file.read(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("result")
    _model(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> ScoringModel:
    return model_file.read(folder)


def test_chances_follow_the_true_model(model: ScoringModel) -> None:
    fresh = churn_frame(2000, seed=7)
    found = scoring.score(model, fresh, "id")
    assert found.columns == ["id", "chance: yes"]
    truth = 1 / (1 + np.exp(-log_odds(fresh)))
    assert np.corrcoef(found["chance: yes"].to_numpy(), truth)[0, 1] > 0.9


def test_values_that_no_study_knows_have_a_chance_like_any_other(model: ScoringModel) -> None:
    odd = pl.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "tenure": ["", "1e9", "-5", "soon"],
            "spending": ["nan", "inf", "12", "0"],
            "channel": ["fax", "", "web", "WEB"],
        }
    )
    chances = scoring.score(model, odd, "id")["chance: yes"]
    assert chances.is_between(0, 1).all()
    assert chances.is_not_nan().all()


def test_the_table_of_chunks_is_that_of_the_whole(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = churn_frame(1000, seed=8)
    whole = scoring.score(model, fresh, "id")
    monkeypatch.setattr(scoring, "CHUNK", 97)
    assert scoring.score(model, fresh, "id").equals(whole)


def test_an_id_that_is_called_like_a_score_is_told(model: ScoringModel) -> None:
    frame = churn_frame(5).rename({"id": "chance: yes"})
    with pytest.raises(SourceError, match="another name"):
        scoring.score(model, frame, "chance: yes")


def test_more_classes_have_a_column_each_and_add_up_to_one(tmp_path: Path) -> None:
    model = _model(tmp_path / "three", three=True)
    found = scoring.score(model, churn_frame(500, seed=9), "id")
    assert found.columns == ["id", "chance: small", "chance: medium", "chance: large"]
    total = found.select(pl.sum_horizontal(pl.exclude("id"))).to_series()
    assert total.is_between(0.999, 1.0).all()  # each is rounded down


def test_reasons_add_up_to_the_log_odds(model: ScoringModel) -> None:
    fresh = churn_frame(50, seed=10)
    found = scoring.explain(model, fresh, "id", "c17")
    chance = scoring.score(model, fresh, "id").filter(pl.col("id") == "c17")["chance: yes"][0]
    usual = float(model.usual.sum()) + model.model.intercept[0] / LOGIT
    told = usual + sum(part for _, _, part in found.parts)
    assert told == pytest.approx(np.log(chance / (1 - chance)), abs=0.01)
    assert found.kind == "yes"
    sizes = [abs(part) for _, _, part in found.parts]
    assert sizes == sorted(sizes, reverse=True)


def test_money_is_told_in_whole_units_with_thousands(model: ScoringModel) -> None:
    fresh = churn_frame(50, seed=10).with_columns(spending=pl.lit(15_432.0))
    values = {name: value for name, value, _ in scoring.explain(model, fresh, "id", "c17").parts}
    assert values["spending"].replace(",", "").isdigit()
    assert values["spending"].startswith("15,4")


def test_a_stranger_has_no_reasons(model: ScoringModel) -> None:
    with pytest.raises(SourceError, match="no customer 'x'"):
        scoring.explain(model, churn_frame(5), "id", "x")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_scores_are_written_for_their_owner_alone(
    model: ScoringModel, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"scores{suffix}"
    scored = scoring.score(model, churn_frame(20), "id")
    given_out.write(scored, path)
    read = pl.read_csv(path) if suffix == ".csv" else pl.read_parquet(path)
    assert read.equals(scored)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SourceError, match="unknown format"):
        given_out.write(scored, tmp_path / "scores.xlsx")


BREAKS = {
    "no JSON": lambda plain: "{",
    "another format": lambda plain: json.dumps(plain | {"kesit_model": 99}),
    "a part is missing": lambda plain: json.dumps(
        plain | {"model": {**plain["model"], "parts": plain["model"]["parts"][:-1]}}
    ),
    "points beyond all sense": lambda plain: json.dumps(
        plain | {"model": {**plain["model"], "intercept": [10**12]}}
    ),
    "customers of other cells": lambda plain: json.dumps(plain | {"cell_customers": [[1.0]] * 3}),
    "one class": lambda plain: json.dumps(plain | {"classes": ["yes"]}),
    "a feature without bounds": lambda plain: json.dumps(
        plain | {"features": [{"kind": "numeric", "name": "tenure"}, *plain["features"][1:]]}
    ),
    "a list": lambda plain: "[]",
    "a class twice": lambda plain: json.dumps(plain | {"classes": ["yes", "yes"]}),
    "a class that steers a terminal": lambda plain: json.dumps(
        plain | {"classes": ["no", "yes\x1b[2J"]}
    ),
    "a purpose of two lines": lambda plain: json.dumps(plain | {"purpose": "churn\nall is well"}),
    "a ground that no law knows": lambda plain: json.dumps(plain | {"legal_basis": "because"}),
    "a feature twice": lambda plain: json.dumps(
        plain | {"features": [plain["features"][0], *plain["features"][::2]]}
    ),
    "endless customers": lambda plain: json.dumps(
        plain | {"cell_customers": [[math.inf] * len(c) for c in plain["cell_customers"]]}
    ),
    "customers that are no number": lambda plain: json.dumps(
        plain | {"cell_customers": [[math.nan] * len(c) for c in plain["cell_customers"]]}
    ),
    "customers beyond doubles": lambda plain: json.dumps(
        plain | {"cell_customers": [[10**400] * len(c) for c in plain["cell_customers"]]}
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_model_is_refused_with_one_error(folder: Path, tmp_path: Path, kind: str) -> None:
    plain = json.loads((folder / MODEL).read_bytes())
    (tmp_path / MODEL).write_text(BREAKS[kind](plain))
    with pytest.raises(ModelError, match="broken"):
        model_file.read(tmp_path)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        model_file.read(tmp_path)


def test_the_file_scores_as_the_model_that_was_trained(tmp_path: Path) -> None:
    result = trained(churn_study(), churn_frame(3000))
    model = ScoringModel.from_dict(json.loads(result.files[MODEL]))
    assert not model.releasable
    fresh = churn_frame(300, seed=3)
    names = [feature.name for feature in model.features]
    codes, _ = scoring.encode_features(fresh, model.features, "id", len(names))
    np.testing.assert_array_equal(
        model.model.points(codes), result.classifier.fitted.model.points(codes)
    )
