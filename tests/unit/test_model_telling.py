"""model.json read back: what people read of a model, in two languages, and as pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from classifierkit import churn_frame, churn_study, churn_tables, three_tables, trained
from kesit_privacy.model_file import MODEL
from kesit_privacy.segment_file import SEGMENTS
from kesit_privacy.study_file import study_from_tables
from kesit_server.classification.telling import model_telling as telling
from kesit_server.classification.telling import pictures
from kesit_server.classification.telling.model_telling import PER_LOGIT
from kesit_server.errors import ResultError
from kesit_server.portrait import telling as segments
from kesit_server.wording import Language
from kesit_simulations.runner import SimulationResult
from kit import broken


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    return trained(churn_study(), churn_frame(4000))


@pytest.fixture(scope="module")
def folder(result: SimulationResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("result")
    (place / MODEL).write_bytes(result.files[MODEL])
    return place


def test_the_text_says_what_it_is_what_it_goes_by_and_what_it_is_not_for(folder: Path) -> None:
    told = telling.read(folder)
    english, turkish = told.text(), told.text("tr")
    assert english.startswith("Simulated, not releasable")
    assert "Predicts: left (no, yes) · purpose: churn-prediction" in english
    assert "must not decide alone" in english
    assert "Simülasyon, yayımlanamaz" in turkish
    assert "harcama" in turkish
    assert "(eksik)" in turkish
    assert "tek başına karar veremez" in turkish


def test_the_most_important_feature_comes_first(folder: Path) -> None:
    told = telling.read(folder)
    assert told.model.features[told.by_importance[0]].name == "tenure"
    values = [told.importances[told.model.features[k].name] for k in told.by_importance]
    assert values == sorted(values, reverse=True)


def test_a_table_s_rows_hold_all_cells_and_fit(folder: Path) -> None:
    told = telling.read(folder)
    for place, feature in enumerate(told.model.features):
        rows = told.rows(place, most=4)
        assert sum(row.customers for row in rows) == pytest.approx(told.customers[place].sum())
        if feature.kind == "numeric":
            assert len(rows) == 5  # and one for missing values
            ends = [row.ends for row in rows if row.ends is not None]
            assert ends[0][0] == pytest.approx(feature.lower)
            assert ends[-1][1] == pytest.approx(feature.upper)
            assert all(one[1] == pytest.approx(two[0]) for one, two in pairwise(ends))


def test_points_are_those_of_the_model(folder: Path, result: SimulationResult) -> None:
    told = telling.read(folder)
    place = [feature.name for feature in told.model.features].index("channel")
    part = result.classifier.fitted.model.parts[place].params()
    points = [row.points[0] for row in told.rows(place)]
    np.testing.assert_allclose(points, np.array(part)[:, 0] / 1024 * PER_LOGIT)


def test_the_bands_hold_what_other_noise_would_give() -> None:
    """Cells of many customers: their spread over runs is no wider than told, nor far narrower."""
    frame, runs = churn_frame(4000), []
    for seed in range(12):
        fitted = trained(churn_study(), frame, seed=seed).classifier.fitted
        place = 2  # the list: three levels with hundreds of customers each
        points = np.array(fitted.model.parts[place].params())[:3, 0] / 1024
        runs.append((points - points.mean(), fitted.spreads[place][:3, 0]))
    seen = np.std([points for points, _ in runs], axis=0)
    told = np.mean([spread for _, spread in runs], axis=0)
    assert (seen < 1.5 * told).all(), (seen, told)


@pytest.mark.parametrize("language", ["en", "tr"])
def test_pictures_are_drawn(folder: Path, language: str) -> None:
    pytest.importorskip("matplotlib")
    files = pictures.model_pictures(telling.read(folder), "tr" if language == "tr" else "en")
    assert set(files) == {f"shapes-{language}.png", f"importances-{language}.png"}
    assert all(data.startswith(b"\x89PNG") for data in files.values())


def test_more_classes_are_told_and_drawn(tmp_path: Path) -> None:
    result = trained(study_from_tables(three_tables()), churn_frame(4000))
    (tmp_path / MODEL).write_bytes(result.files[MODEL])
    told = telling.read(tmp_path)
    assert "small | medium | large" in told.text()
    pytest.importorskip("matplotlib")
    assert pictures.model_pictures(told)


def test_the_reader_learns_for_which_class_points_speak(folder: Path) -> None:
    told = telling.read(folder)
    assert "Points: yes (20 points double the odds" in told.text()
    turkish = told.text("tr")
    assert "Puanlar: yes (20 puan" in turkish
    assert "yes payı: 0," in turkish
    assert "olasılıktan itibaren öngörülür" in turkish
    assert "-0 ±" not in turkish
    assert "+0 ±" not in turkish


def test_what_left_the_model_has_no_table_and_no_panel(tmp_path: Path) -> None:
    tables = churn_tables()
    tables["classification"] |= {"keep": 1}
    result = trained(study_from_tables(tables), churn_frame(4000))
    (tmp_path / MODEL).write_bytes(result.files[MODEL])
    told = telling.read(tmp_path)
    assert [told.model.features[place].name for place in told.used] == ["tenure"]
    assert result.card.unused == ("spending", "channel")
    assert "not in the model: spending, channel" in told.text()
    assert "modelde olmayan: harcama, channel" in told.text("tr")
    assert "phone" not in told.text()
    pytest.importorskip("matplotlib")
    assert len(pictures.shapes_picture(told).axes) == 2  # and the customers behind the shape


def test_a_picture_says_how_to_read_it(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    told = telling.read(folder)
    assert pictures.shapes_picture(told).get_supxlabel() == (
        "points: yes (20 double the odds); bands: ± 2 standard deviations; grey: customers"
    )
    task = {"estimator": "logistic", "positive": "yes"}
    result = trained(churn_study(classification=task), churn_frame(4000))
    (tmp_path / MODEL).write_bytes(result.files[MODEL])
    caption = pictures.shapes_picture(telling.read(tmp_path), "tr").get_supxlabel()
    assert "gri: müşteriler, ortalama ve varyanslarından çizildi" in caption
    assert "bantlar" not in pictures.shapes_picture(replace(told, spreads=()), "tr").get_supxlabel()


@pytest.mark.parametrize(
    ("value", "english", "turkish"),
    [
        (-999_999.7, "−1M", "−1M"),
        (0, "0", "0"),
        (1_250.0, "1.25k", "1,25B"),
        (999.99, "1k", "1B"),
        (-0.125, "−0.125", "−0,125"),
    ],
)
def test_axes_have_short_numbers(value: float, english: str, turkish: str) -> None:
    assert pictures.short_number(value, "en") == english
    assert pictures.short_number(value, "tr") == turkish


@pytest.mark.parametrize("language", ["en", "tr"])
def test_an_evaluation_by_arms_is_read_back(tmp_path: Path, language: Language) -> None:
    tables = churn_tables()
    tables["classification"] |= {"arms": "channel", "features": ["tenure", "spending"]}
    result = trained(study_from_tables(tables), churn_frame(4000))
    (tmp_path / MODEL).write_bytes(result.files[MODEL])
    judged = result.classifier.judged
    assert judged is not None
    text = telling.read(tmp_path).text(language)
    assert all(found.text(language) in text for found in judged.uplift)
    assert "phone - web" in text


def test_the_command_of_the_other_result_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError) as error:
        segments.read(folder)
    assert f"`kesit model show {folder}`" in error.value.remedy
    (tmp_path / SEGMENTS).write_bytes(b"{}")
    with pytest.raises(ResultError) as error:
        telling.read(tmp_path)
    assert f"`kesit segments show {tmp_path}`" in error.value.remedy


def test_a_broken_file_is_refused_with_one_error(folder: Path, tmp_path: Path) -> None:
    whole = (folder / MODEL).read_bytes()
    for data in (
        b"",
        whole[:-40],
        b"[]",
        b"\xff",
        whole.replace(b'"kesit_model": 1', b'"kesit_model": 2'),
    ):
        (tmp_path / MODEL).write_bytes(data)
        with pytest.raises(ResultError) as error:
            telling.read(tmp_path)
        broken(error)
    plain = json.loads(whole)
    for name in ("study", "importances", "spreads", "labels", "caveats", "not_for"):
        fewer = {key: value for key, value in plain.items() if key != name}
        (tmp_path / MODEL).write_text(json.dumps(fewer))
        with pytest.raises(ResultError, match="broken"):
            telling.read(tmp_path)
    (tmp_path / MODEL).write_text(json.dumps(plain | {"target": "\x1b[2J"}))
    with pytest.raises(ResultError, match="control characters"):
        telling.read(tmp_path)
