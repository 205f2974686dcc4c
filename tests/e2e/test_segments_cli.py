"""`kesit segments`: from a result folder's segments.json to text and pictures."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from clikit import Kesit, edit, files
from kesit_cli import exits

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def result(kesit: Kesit, shop: Path) -> Path:
    """The segments.json of a small run, alone in a folder."""
    edit(shop / "study.toml", 'name = "age"\n', 'name = "age"\nlabel_tr = "yaş"\n')
    done = kesit("simulate", "run", "study.toml", "--no-evaluate", "--out", "whole")
    assert done.code == exits.OK, done.err
    (shop / "result").mkdir()
    shutil.copy(shop / "whole" / "segments.json", shop / "result")
    return shop / "result"


def test_show_prints_every_segment_in_both_languages(kesit: Kesit, result: Path) -> None:
    segments = json.loads((result / "segments.json").read_text(encoding="utf-8"))["segments"]
    for language in ("en", "tr"):
        shown = kesit("segments", "show", "result", "--language", language)
        assert shown.code == exits.OK, shown.err
        for segment in segments:
            assert f"{segment['segment']}. {segment['name'][language]}" in shown.out
        assert ("yaş" in shown.out) == (language == "tr")
    assert kesit("segments", "show", "result").out.startswith("Simulated, not releasable")
    assert files(result) == {"segments.json"}


def test_draw_writes_pictures_beside_the_result_or_elsewhere(kesit: Kesit, result: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need kesit[report]")
    drawn = kesit("segments", "draw", "result")
    assert drawn.code == exits.OK, drawn.err
    assert files(result) == {"segments.json", "cards-en.png", "dendrogram-en.png"}
    elsewhere = kesit("segments", "draw", "result", "--language", "tr", "--out", "new/pictures")
    assert elsewhere.code == exits.OK, elsewhere.err
    assert elsewhere.out.splitlines() == [
        "new/pictures/cards-tr.png",
        "new/pictures/dendrogram-tr.png",
    ]
    for path in (*result.glob("*.png"), *(result.parent / "new" / "pictures").iterdir()):
        assert path.read_bytes().startswith(PNG)
    assert kesit("segments", "draw", "result").code == exits.OK  # replaced


def test_what_is_no_result_is_one_clear_error(kesit: Kesit, result: Path) -> None:
    (result / "segments.json").write_text('{"segments": []}')
    before = files(result.parent)
    for command in ("show", "draw"):
        for folder in ("result", "none", "study.toml"):
            failed = kesit("segments", command, folder)
            assert failed.code == exits.RESULT, (command, folder)
            assert f"{folder}/segments.json" in failed.said
            assert "What to do:" in failed.said
    assert files(result.parent) == before


def test_pictures_that_cannot_be_written_are_one_clear_error(kesit: Kesit, result: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need kesit[report]")
    failed = kesit("segments", "draw", "result", "--out", "study.toml")
    assert failed.code == exits.RESULT
    assert "cannot be written" in failed.said


def test_without_matplotlib_the_extra_is_named(
    kesit: Kesit, result: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    failed = kesit("segments", "draw", "result")
    assert failed.code == exits.SETTINGS
    assert "pip install 'kesit[report]'" in failed.said
    assert files(result) == {"segments.json"}
    assert kesit("segments", "show", "result").code == exits.OK


def test_another_language_is_wrong_usage(kesit: Kesit, result: Path) -> None:
    assert kesit("segments", "show", "result", "--language", "de").code == exits.USAGE
    assert kesit("segments", "show").code == exits.USAGE
