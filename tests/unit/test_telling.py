"""segments.json read back: what was written is told, and nothing else is taken for it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kesit_privacy.features import GRID
from kesit_privacy.segment_file import SEGMENTS
from kesit_server.app import result_files
from kesit_server.errors import ResultError
from kesit_server.portrait import telling
from kesit_server.segmentation.choice import Choice
from kesit_server.statement import caveats
from kesit_server.wording import NOT_RELEASABLE
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.runner import Customers, SimulationResult, simulate
from kit import broken, small_study, study_tables


@pytest.fixture(scope="module")
def result() -> SimulationResult:
    """A small simulated study with k left open and a Turkish label."""
    tables = study_tables(segmentation={"k": 4, "smallest_k": 2})
    tables["features"][0]["label_tr"] = "ilgi ölçüsü"
    study = small_study(**tables)
    rng = np.random.default_rng(0)
    centres = np.array([[0.2, 0.2], [0.8, 0.3], [0.5, 0.8]])[rng.integers(0, 3, 3000)]
    rows = np.clip(centres + rng.normal(0, 0.04, (3000, 2)), 0, 1)
    codes = np.rint(rows * GRID).astype(np.int16)
    parts = tuple(part.astype(np.int64) for part in np.array_split(np.arange(3000), 4))
    return simulate(study, SimulationPlan(data="none", clients=4), Customers(codes, parts))


@pytest.fixture
def folder(result: SimulationResult, tmp_path: Path) -> Path:
    """Its segments.json alone."""
    files = result_files(result.federation, result.portrait, result.identity)
    (tmp_path / SEGMENTS).write_bytes(files[SEGMENTS])
    return tmp_path


def test_what_is_read_is_what_was_written(result: SimulationResult, folder: Path) -> None:
    told = telling.read(folder)
    portrait = result.portrait
    assert [card.as_dict() for card in told.cards] == [card.as_dict() for card in portrait.cards]
    assert told.tree.as_dict() == portrait.tree.as_dict()
    choice, fit = result.segments.choice, result.segments.assessment
    assert choice is not None
    assert fit is not None
    assert told.choice is not None
    assert told.choice.as_dict() == choice.as_dict()
    assert told.fit is not None
    assert {name: figure.as_dict() for name, figure in told.fit.items()} == {
        name: figure.as_dict() for name, figure in fit.figures.items()
    }
    heading = told.heading
    assert not heading.releasable
    assert (heading.study, heading.run) == (result.federation.study.name, result.federation.run)
    assert heading.caveats == caveats(result.federation)


def test_the_text_tells_all_of_it_in_both_languages(folder: Path) -> None:
    told = telling.read(folder)
    assert told.choice is not None
    for language, heads in (
        ("en", ("Choice of k", "Fit (95%", "Dendrogram", "centre: ", "size: ", "stability: ")),
        ("tr", ("k seçimi", "Uyum (", "Dendrogram", "merkez: ", "büyüklük: ", "kararlılık: ")),
    ):
        text = told.text("tr" if language == "tr" else "en")
        assert text.startswith(NOT_RELEASABLE.of("tr" if language == "tr" else "en"))
        for head in heads:
            assert head in text, head
        assert ("ilgi ölçüsü" in text) == (language == "tr")
        assert len([line for line in text.splitlines() if line.endswith("*")]) == 1
        for card in told.cards:
            name = card.name.of("tr" if language == "tr" else "en")
            assert text.count(f"{card.segment}. {name}") == 2  # its card, its leaf
    shown = replace(told.heading, releasable=True)
    plain = replace(told, heading=shown, choice=None, fit=None).text()
    assert NOT_RELEASABLE.en not in plain
    assert "Choice of k" not in plain


def test_the_tree_is_indented_below_its_joins(folder: Path) -> None:
    told = telling.read(folder)
    lines = told.text().split("Dendrogram")[1].splitlines()[1:]
    depths = [(len(line) - len(line.lstrip())) // 2 for line in lines]
    assert depths[0] == 1
    assert len(lines) == 2 * len(told.cards) - 1
    assert all(later <= depth + 1 for depth, later in itertools.pairwise(depths))


@pytest.mark.parametrize("runner_up", [None, 2])
def test_the_choice_in_one_sentence(folder: Path, runner_up: int | None) -> None:
    choice = telling.read(folder).choice
    assert choice is not None
    other = replace(choice, runner_up=runner_up, confidence=0.8)
    assert ("80%" in other.sentence("en")) == (runner_up is not None)
    assert ("%80" in other.sentence("tr")) == (runner_up is not None)


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda plain: plain.pop(name)


def put(value: Any, *way: str | int) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        place: Any = plain
        for part in way[:-1]:
            place = place[part]
        place[way[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        *map(without, ("kesit_segments", "releasable", "segments", "dendrogram", "fit", "labels")),
        put(1, "kesit_segments"),
        put(1e300, "choice_of_k", "curve", 0, "silhouette_sd"),
        put(10**40, "segments", 0, "size"),
        put(5, "study"),
        put({"en": "only"}, "caveats", 0),
        put("no", "releasable"),
        put([], "segments"),
        put(7, "segments", 0, "segment"),
        put("many", "segments", 0, "size"),
        put(float("nan"), "segments", 0, "share"),
        put(None, "dendrogram"),
        put([], "dendrogram", "merges"),
        put(99, "choice_of_k", "k"),
        put([], "choice_of_k", "curve"),
        put({}, "fit"),
        put({"x": "ilgi"}, "labels"),
        put("text", "caveats"),
    ],
)
def test_a_changed_file_is_one_clear_error(
    folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = folder / SEGMENTS
    plain = json.loads(path.read_text(encoding="utf-8"))
    change(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(ResultError) as error:
        telling.read(folder)
    broken(error)
    assert str(path) in error.value.cause


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"kesit_segments": 1}', b"1e999"],
)
def test_no_segments_at_all_are_one_clear_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / SEGMENTS).write_bytes(data)
    with pytest.raises(ResultError) as error:
        telling.read(tmp_path)
    broken(error)


def test_a_folder_without_a_result_is_one_clear_error(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ResultError, match=r"segments\.json: cannot be read") as error:
            telling.read(place)
        broken(error)


@pytest.mark.parametrize("bad", ["\x1b[2J", "\u009b31m", "\u202e", "\u2028", "\x7f"])
def test_texts_that_would_steer_a_terminal_are_refused(folder: Path, bad: str) -> None:
    path = folder / SEGMENTS
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["segments"][0]["name"]["en"] = f"rich{bad}"
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(ResultError, match="control characters"):
        telling.read(folder)


def test_a_choice_must_be_on_its_curve(folder: Path) -> None:
    choice = telling.read(folder).choice
    assert choice is not None
    with pytest.raises(ValueError, match="lacks"):
        Choice.from_dict(choice.as_dict() | {"k": 30})
