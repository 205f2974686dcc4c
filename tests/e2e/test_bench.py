"""`kesit bench` runs to its end, at a thousandth of its size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clikit import Kesit
from kesit_cli import bench, exits
from kesit_privacy.errors import BudgetError
from kesit_simulations import benchmarks
from kesit_simulations.benchmarks import choice, consent, engines, federation, quality, step, sweep
from kesit_simulations.benchmarks.report import Report
from kesit_simulations.errors import SimulationError


def silent(text: str) -> None:
    """Nobody watches."""


def titles(report: Report) -> str:
    """Everything that the report's tables say."""
    return "\n".join(
        "\n".join([table.title, *(" | ".join(row) for row in table.rows)])
        for table in report.tables
    )


def test_the_parts_are_those_that_the_command_names() -> None:
    assert tuple(benchmarks.PARTS) == bench.NAMES


def test_the_step_is_measured_beside_another() -> None:
    report = step.measure(step.Size(3000, 5000, 2), silent)
    assert "ratio (at most 2)" in titles(report)
    assert "memory beyond the map (at most 300 MiB)" in titles(report)
    own, other = report.values["kesit_seconds"], report.values["sklearn_seconds"]
    assert report.values["ratios"] == [own[0] / other[0], own[1] / other[1]]


def test_federations_are_measured_with_and_without_masks() -> None:
    report = federation.measure(federation.Size(((4, False, 2), (4, True, 1))), silent)
    for name in ("4 clients, masks off", "4 clients, masks on", "grid and courier, a message"):
        assert name in titles(report)
    off, on = report.values["federations"]
    assert (len(off["seconds"]), len(on["seconds"])) == (2, 1)
    assert off["messages"] == on["messages"] > 0


@pytest.mark.slow
def test_a_sweep_is_measured_to_its_end() -> None:
    report = sweep.measure(sweep.Size(2), silent)
    assert report.values["studies"] == 2
    assert report.values["seconds"] > 0


def test_consents_are_imported_and_filtered() -> None:
    report = consent.measure(consent.Size(500, 3), silent)
    assert "filter before a sum (median of 3)" in titles(report)
    assert len(report.values["filters"]) == 3
    assert set(report.values["imports"]) == {"c.csv", "c.parquet"}


def test_choice_counts_hits_beside_plain_indices() -> None:
    report = choice.measure(choice.Size((2,), (3,), (), (1.0,), (100,)), silent)
    free, private = report.tables
    assert private.title.startswith("ε = 1:")
    assert free.rows[0][:3] == private.rows[0][:3] == ("2 features", "3", "1")
    kesit = private.rows[0][3]
    assert kesit == "100% / 100%"  # three clusters, five deviations apart
    assert {guess["epsilon"] for guess in report.values["guesses"]} == {None, 1.0}
    problem = choice.mixture(5, 7, 3)
    # A made data set has labels, which the type leaves open.
    assert len(set(problem.customers.labels.tolist())) == 7  # type: ignore[union-attr]


def test_quality_shows_every_method_on_every_set(monkeypatch: pytest.MonkeyPatch) -> None:
    size = quality.Size(("s1", "house"), (1.0,), 2, ("central", "dplloyd"))
    report = quality.measure(size, silent)
    table, costs = report.tables
    assert table.headers == ("", "s1", "house", "geometric mean")
    ratios = {row[0].split(",")[0]: [float(cell) for cell in row[1:]] for row in table.rows}
    assert list(ratios) == ["Kesit", "scikit-learn KMeans", "DPLloyd"]
    # The reference itself, fitted from other seeds, is as good as itself; Kesit is near it.
    assert ratios["scikit-learn KMeans"] == pytest.approx([1, 1, 1], abs=0.05)
    assert 0.95 < ratios["Kesit"][2] < ratios["DPLloyd"][2]
    assert {row[0] for row in costs.rows} == {"s1", "house"}
    assert all(1 < float(row[2]) < 20 for row in costs.rows)
    assert len(report.values["scores"]) == 2 * 2 * 3


def test_a_refused_study_is_shown_as_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise BudgetError("This budget is too small.", remedy="Spend more.")

    monkeypatch.setattr(quality, "simulate", refuse)
    report = quality.measure(quality.Size(("house",), (0.1,), 1, ("central",)), silent)
    assert report.tables[0].rows[0] == ("Kesit", "refused", "-")
    assert report.tables[1].rows == ()
    assert report.notes == ("kesit on house: This budget is too small. Spend more.",)


@pytest.mark.slow
@pytest.mark.usefixtures("tidy")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_engines_are_measured_and_agree() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'kesit[simulation]'")
    report = engines.measure(engines.Size(4, 1), silent)
    assert [run["masks"] for run in report.values["engines"]] == [False, True]
    assert "ratio (at least 10)" in titles(report)
    assert "ratio (at least 4)" in titles(report)
    assert "4 clients, masks off" in titles(report)


Fake = Callable[[bool, Callable[[str], None]], Report]


def pretend(monkeypatch: pytest.MonkeyPatch, **runs: Fake) -> None:
    """Replace what some parts do."""
    for name in bench.NAMES:
        # One expression, whose type is the point of the line.
        nothing: Fake = lambda quick, tell: Report((), {"quick": quick})  # noqa: E731
        part = benchmarks.Part(f"the part {name}", runs.get(name, nothing))
        monkeypatch.setitem(benchmarks.PARTS, name, part)


def test_the_command_prints_tables_and_writes_the_numbers(
    kesit: Kesit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, step=lambda quick, tell: step.measure(step.Size(2000, 2000, 1), tell))
    done = kesit("bench", "step", "sweep", "--quick", "--json", "numbers.json")
    assert done.code == exits.OK, done.err
    assert "step: 2,000 rows" in done.err
    rows = [line for line in done.out.splitlines() if " one run" in line or "largest" in line]
    assert len({line.index("one run") for line in rows[1:]}) == 1  # columns are aligned
    told = json.loads((tmp_path / "numbers.json").read_text())
    assert set(told["parts"]) == {"step", "sweep"}
    assert told["quick"] is True
    assert told["parts"]["sweep"] == {"quick": True}


def test_what_cannot_run_is_left_out_of_all_and_an_error_by_name(
    kesit: Kesit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(quick: bool, tell: Callable[[str], None]) -> Report:
        raise SimulationError("Ray is not installed.", remedy="Install it.")

    pretend(monkeypatch, ray=lacking)
    every = kesit("bench", "--json", "numbers.json")
    assert every.code == exits.OK
    assert "Left out. Ray is not installed. Install it." in every.out
    told = json.loads((tmp_path / "numbers.json").read_text())["parts"]
    assert told["ray"] == {"left_out": "Ray is not installed. Install it."}
    named = kesit("bench", "sweep", "ray", "--json", "other.json")
    assert named.code == exits.SETTINGS
    assert "Ray is not installed" in named.said
    assert not (tmp_path / "other.json").exists()


def test_what_makes_no_sense_is_refused_before_anything_runs(
    kesit: Kesit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(quick: bool, tell: Callable[[str], None]) -> Report:
        raise AssertionError("a part ran")

    pretend(monkeypatch, **dict.fromkeys(bench.NAMES, never))
    assert kesit("bench", "speed").code == exits.USAGE
    assert kesit("bench", "step", "--json", "nowhere/numbers.json").code == exits.RESULT
    assert kesit("bench", "step", "--json", ".").code == exits.RESULT
