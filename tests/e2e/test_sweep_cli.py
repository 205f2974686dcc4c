"""`kesit simulate new`, `sweep` and `plot`: what people type, see and get wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from clikit import Kesit, edit, files
from kesit_cli import exits
from kesit_server.journal import Journal
from kesit_simulations.sweeps import engine, grid, table
from sweepkit import SWEEP, write_blobs


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a study and a sweep of eight cells."""
    write_blobs(tmp_path)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path


def run(kesit: Kesit, *more: str) -> list[str]:
    """Run the sweep in this process, and give the lines of its output."""
    done = kesit("simulate", "sweep", "sweep.toml", "--out", "out", "--processes", "1", *more)
    assert done.code == exits.OK, done.err
    return done.out.splitlines()


def test_a_sweep_says_what_came_out_and_where(kesit: Kesit, place: Path) -> None:
    lines = run(kesit)
    assert lines[1].split() == [
        "method",
        "epsilon",
        "ratio",
        "ratio",
        "10",
        "ratio",
        "90",
        "failed",
    ]
    kesit_row, *others = (line.split() for line in lines[2:6])
    assert kesit_row[:2] == ["kesit", "0.5"]
    assert 0.99 < float(kesit_row[2]) < 1.5
    assert [row[0] for row in others] == ["kesit", "dplloyd", "dplloyd"]
    text = "\n".join(lines)
    assert "8, of which 0 failed" in text
    assert "kesit simulate plot out" in text
    assert files(place / "out") == {"journal.sqlite", "results.parquet", "sweep.json"}
    assert len(table.read(place / "out")) == 8


def test_progress_counts_cells_and_failures_on_stderr(kesit: Kesit, place: Path) -> None:
    edit(place / "sweep.toml", "epsilon = [0.5, 2.0]", "epsilon = [0.001, 2.0]")
    done = kesit("simulate", "sweep", "sweep.toml", "--out", "out", "--processes", "1")
    assert done.code == exits.OK
    lines = done.err.splitlines()
    assert "0 of 8 cells, 0 failed" in lines
    assert lines[-1] == "8 of 8 cells, 2 failed"
    said = " ".join(done.out.split())
    assert "8, of which 2 failed" in said
    assert "2 times: epsilon = 0.001 is too small for k = 2" in said


def test_the_same_command_goes_on_and_another_sweep_is_refused(kesit: Kesit, place: Path) -> None:
    first = run(kesit)
    assert run(kesit) == first
    before = files(place)
    edit(place / "sweep.toml", "seeds = 2", "seeds = 3")
    refused = kesit("simulate", "sweep", "sweep.toml", "--out", "out")
    assert refused.code == exits.RESULT
    assert "out: holds another sweep" in refused.said
    assert files(place) == before


def test_scripts_read_one_json_object(kesit: Kesit, place: Path) -> None:
    edit(place / "sweep.toml", "epsilon = [0.5, 2.0]", "epsilon = [0.001, 2.0]")
    (line,) = run(kesit, "--json")
    read = json.loads(line)
    assert (read["folder"], read["cells"], read["failed"]) == ("out", 8, 2)
    assert list(read["reasons"].values()) == [2]
    assert [(row["method"], row["epsilon"]) for row in read["medians"]] == [
        ("kesit", 0.001),
        ("kesit", 2.0),
        ("dplloyd", 0.001),
        ("dplloyd", 2.0),
    ]
    assert read["medians"][0]["ratio"] is None


def test_figures_come_as_png_and_svg(kesit: Kesit, place: Path) -> None:
    run(kesit)
    done = kesit("simulate", "plot", "out")
    assert done.code == exits.OK, done.err
    assert "utility.png, .svg" in done.out
    drawn = {f"{name}.{kind}" for name in ("utility", "cost") for kind in ("png", "svg")}
    assert drawn < files(place / "out")
    assert kesit("simulate", "plot", "out", "--out", "figures").code == exits.OK
    assert files(place / "figures") == drawn


def test_new_writes_a_sweep_that_can_be_read(kesit: Kesit, place: Path) -> None:
    printed = kesit("simulate", "new")
    assert printed.code == exits.OK
    written = kesit("simulate", "new", "skew.toml", "--example", "skew")
    assert "Next: kesit simulate sweep skew.toml" in written.out
    assert "dirichlet" in (place / "skew.toml").read_text()
    assert 'study = "s1"' in printed.out
    again = kesit("simulate", "new", "skew.toml")
    assert again.code == exits.RESULT
    assert "exists already" in again.said
    unknown = kesit("simulate", "new", "--example", "nonsense")
    assert unknown.code == exits.SETTINGS
    assert "clients, digits, s1, skew" in unknown.said


def test_bad_input_is_one_clear_error_and_writes_nothing(
    kesit: Kesit, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(code: int, cause: str, *arguments: str) -> None:
        before = files(place)
        done = kesit("simulate", *arguments)
        assert done.code == code, done.err
        assert cause in " ".join(done.err.split())
        assert "Traceback" not in done.err
        assert files(place) == before

    out = ("--out", "out")
    refused(exits.USAGE, "--out", "sweep", "sweep.toml")
    refused(exits.USAGE, "one of the two", "sweep", *out)
    refused(exits.USAGE, "one of the two", "sweep", "sweep.toml", "--example", "s1", *out)
    refused(exits.USAGE, "--processes", "sweep", "sweep.toml", "--processes", "0", *out)
    refused(exits.SETTINGS, "nowhere.toml: cannot be read", "sweep", "nowhere.toml", *out)
    refused(exits.SETTINGS, "no example sweep called 's9'", "sweep", "--example", "s9", *out)
    edit(place / "sweep.toml", '"dplloyd"', '"nonsense"')
    refused(exits.SETTINGS, "there is no method 'nonsense'", "sweep", "sweep.toml", *out)
    edit(place / "sweep.toml", '"nonsense"', '"diffprivlib"')
    monkeypatch.setattr(engine, "find_spec", lambda package: None)
    refused(exits.SETTINGS, "pip install 'kesit[simulation]'", "sweep", "sweep.toml", *out)
    edit(place / "sweep.toml", '"diffprivlib"', '"dplloyd"')
    edit(place / "blobs.csv", "c7,", "c8,")
    refused(exits.DATA, "stand in several rows", "sweep", "sweep.toml", *out)
    (place / "blobs.csv").unlink()
    refused(exits.DATA, "blobs.csv", "sweep", "sweep.toml", *out)
    write_blobs(place)
    monkeypatch.setattr(grid, "MANY_CELLS", 7)
    refused(exits.SETTINGS, "8 cells. What to do: Shorten", "sweep", "sweep.toml", *out)
    run(kesit, "--yes")
    (place / "file").write_text("")
    refused(exits.RESULT, "is not an empty folder", "sweep", "sweep.toml", "--yes", "--out", "file")
    with Journal(place / "out"):
        refused(exits.RESULT, "another process is at work", "sweep", "sweep.toml", "--yes", *out)


def test_plot_without_a_finished_sweep_or_variation(
    kesit: Kesit, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = kesit("simulate", "plot", "out")
    assert missing.code == exits.RESULT
    assert "holds no finished sweep" in missing.said
    edit(place / "sweep.toml", "epsilon = [0.5, 2.0]", "epsilon = [0.5]")
    run(kesit)
    before = files(place)
    nothing = kesit("simulate", "plot", "out")
    assert nothing.code == exits.SETTINGS
    assert "there is nothing to draw" in nothing.said
    edit(place / "sweep.toml", "epsilon = [0.5]", "clients = [3, 4]")
    assert kesit("simulate", "sweep", "sweep.toml", "--out", "o2", "--processes", "1").code == 0
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    absent = kesit("simulate", "plot", "o2")
    assert absent.code == exits.SETTINGS
    assert "pip install 'kesit[report]'" in absent.said
    assert {path for path in files(place) if not path.startswith("o2")} == before


def test_a_sweep_of_failures_is_an_error_that_shows_them(kesit: Kesit, place: Path) -> None:
    edit(place / "sweep.toml", '["kesit", "dplloyd"]', '["kesit"]')
    edit(place / "sweep.toml", "epsilon = [0.5, 2.0]", "epsilon = [0.001]")
    done = kesit("simulate", "sweep", "sweep.toml", "--out", "out", "--processes", "1")
    assert done.code == exits.SETTINGS
    assert "All 2 cells failed" in done.said
    assert "epsilon = 0.001 is too small" in done.out
