"""Sweeps: what a file may say, which cells it means, and what a folder remembers of them."""

from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kesit_privacy.errors import KesitError, StudyError
from kesit_server.errors import ResultError
from kesit_server.journal import JOURNAL, Journal
from kesit_simulations.errors import SimulationError
from kesit_simulations.plan import SimulationPlan
from kesit_simulations.sweeps import engine, grid, spec, table, work
from kesit_simulations.sweeps.grid import Division
from kesit_simulations.sweeps.work import CellRun, PooledFit, Worker
from kit import broken
from sweepkit import SWEEP, sweep_of, write_blobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the study of two blobs."""
    write_blobs(tmp_path)
    return tmp_path


def sweep_text(**axes: Any) -> str:
    """A sweep file of the two blobs with these fields in its [sweep] table."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in axes.items()]
    return "\n".join(['study = "blobs.toml"', "[sweep]", *lines])


# What a file may say.


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"methods": ["kesit", "nonsense"]}, "sweep.methods: there is no method 'nonsense'"),
        ({"methods": []}, "sweep.methods"),
        ({"epsilon": []}, "sweep.epsilon"),
        ({"epsilon": [0.5, -1.0]}, "sweep.epsilon.1"),
        ({"epsilon": [0.5, 0.5]}, "sweep.epsilon: a value stands twice"),
        ({"epsilon": ["much"]}, "sweep.epsilon.0"),
        ({"k": [1]}, "sweep.k.0"),
        ({"k": [2.5]}, "sweep.k.0"),
        ({"clients": [1]}, "sweep.clients.0"),
        ({"partition": ["even"]}, "sweep.partition.0"),
        ({"partition": ["quantity"], "alpha": [0.0]}, "sweep.alpha.0"),
        ({"silence": [1.0]}, "sweep.silence.0"),
        ({"seeds": 0}, "sweep.seeds: a number of seeds is 1 to"),
        ({"seeds": []}, "sweep.seeds"),
        ({"seeds": [3, 3]}, "sweep.seeds: a value stands twice"),
        ({"seeds": True}, "sweep.seeds"),
        ({"noise": "loud"}, "sweep.noise"),
        ({"epsilons": [1.0]}, "sweep.epsilons: is not a field"),
        ({"alpha": [1.0]}, "sweep.alpha: no partition of this sweep has a skew"),
        ({"partition": ["column"], "clients": [3]}, "sweep.clients: has no meaning"),
        ({"methods": ["dplloyd"], "silence": [0.1]}, "sweep.silence: is for the method 'kesit'"),
        ({"methods": ["central"], "epsilon": [1.0]}, "sweep.epsilon: no method"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_field_that_is_wrong_is_named(folder: Path, axes: dict[str, Any], said: str) -> None:
    with pytest.raises(KesitError) as caught:
        sweep_of(folder, sweep_text(**axes))
    broken(caught)
    assert caught.value.cause.startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sweep]\n", "study: "),
        ('study = "blobs.toml"\n', "sweep: "),
        ('study = "nowhere"\n[sweep]\n', "study: there is no packaged study 'nowhere'"),
        ('study = ["s1", "s1"]\n[sweep]\n', "study: a study stands twice"),
        ("study = []\n[sweep]\n", "study: "),
    ],
)
def test_a_sweep_names_its_studies(folder: Path, text: str, said: str) -> None:
    with pytest.raises(KesitError) as caught:
        sweep_of(folder, text)
    broken(caught)
    assert caught.value.cause.startswith(said)
    with pytest.raises(StudyError, match=r"gone\.toml: cannot be read"):
        sweep_of(folder, 'study = "gone.toml"\n[sweep]\n')


def test_a_single_value_is_a_list_of_one(folder: Path) -> None:
    one = sweep_of(folder, sweep_text(methods="kesit", epsilon=1, k=2, clients=3, seeds=[5]))
    listed = sweep_of(
        folder, sweep_text(methods=["kesit"], epsilon=[1.0], k=[2], clients=[3], seeds=[5])
    )
    assert one.axes == listed.axes
    assert sweep_of(folder, sweep_text(seeds=3)).axes.seeds == (0, 1, 2)


def test_packaged_sweeps_are_valid_and_small_enough() -> None:
    assert spec.names() == ("clients", "digits", "s1", "skew")
    for name in spec.names():
        cells = grid.grid(spec.example_sweep(name))
        assert 100 <= len(cells) <= 500
        assert len({cell.seed for cell in cells}) == 10
    with pytest.raises(SimulationError, match="no example sweep called 's2'"):
        spec.text("s2")


# Which cells it means.


def test_cells_are_every_combination_once(folder: Path) -> None:
    sweep = sweep_of(
        folder,
        sweep_text(
            methods=["kesit", "dplloyd", "alone"],
            epsilon=[0.5, 1.0],
            k=[2, 3],
            clients=[3, 5],
            partition=["iid", "quantity", "column"],
            alpha=[0.1, 1.0],
            silence=[0.0, 0.1],
            seeds=[7, 9],
        ),
    )
    cells = grid.grid(sweep)
    # kesit: 2 ε x 2 silences; dplloyd: 2 ε; alone: 1. Divisions: iid 2, quantity 2 x 2, column 1.
    assert len(cells) == grid.count(sweep) == 2 * 2 * (2 + 4 + 1) * (4 + 2 + 1)
    assert len({(c.method, c.epsilon, c.k, c.division, c.silence, c.seed) for c in cells}) == len(
        cells
    )
    assert [cell.place for cell in cells] == list(range(len(cells)))
    assert {c.division for c in cells} == {
        Division("iid", None, 3),
        Division("iid", None, 5),
        *(Division("quantity", alpha, clients) for alpha in (0.1, 1.0) for clients in (3, 5)),
        Division("column", None, None),
    }
    assert {(c.epsilon, c.silence) for c in cells if c.method == "alone"} == {(None, None)}
    assert {c.silence for c in cells if c.method == "dplloyd"} == {None}
    half = len(cells) // 2
    assert {c.seed for c in cells[:half]} == {7}  # one seed after the other
    assert grid.grid(sweep) == cells


def test_what_is_left_out_is_the_studys_own(folder: Path) -> None:
    sweep = sweep_of(folder, sweep_text(methods=["kesit"], seeds=1, masks=False, noise="off"))
    (cell,) = grid.grid(sweep)
    assert (cell.epsilon, cell.k, cell.silence) == (1.0, 2, 0.0)
    assert cell.division == Division("iid", None, 4)
    plan = grid.plan_of(sweep.sources[0], cell)
    assert plan == SimulationPlan(
        "blobs.csv", "id", 4, column="shop", noise="off", masks=False, seed=0
    )


def test_a_cells_study_and_plan_are_its_own(folder: Path) -> None:
    text = sweep_text(epsilon=[0.25], k=[3], partition=["quantity"], alpha=[0.5], seeds=[8])
    sweep = sweep_of(folder, text)
    (cell,) = grid.grid(sweep)
    study, plan = (of(sweep.sources[0], cell) for of in (grid.study_of, grid.plan_of))
    assert (study.epsilon, study.segmenting.k, study.delta) == (0.25, 3, 1e-4)
    assert study.plan == sweep.sources[0].study.plan
    assert (plan.partition, plan.alpha, plan.clients, plan.seed) == ("quantity", 0.5, 4, 8)


def test_many_cells_must_be_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = sweep_of(folder, sweep_text(seeds=100_000, epsilon=[0.5, 1.0]))
    with pytest.raises(SimulationError, match="has 200,000 cells") as caught:
        grid.grid(sweep)
    assert "--yes" in caught.value.remedy
    monkeypatch.setattr(grid, "MOST_CELLS", 150_000)
    with pytest.raises(SimulationError, match="150,000 at most"):
        grid.grid(sweep, many=True)


# What one cell gives.


def test_a_row_holds_what_was_run_and_what_came_out(folder: Path) -> None:
    sweep = sweep_of(folder, sweep_text(methods=["kesit", "dplloyd", "alone"], seeds=1))
    rows = {row["method"]: row for row in engine.run(sweep, folder / "out").to_dicts()}
    own = rows["kesit"]
    assert (own["study"], own["data"], own["k"]) == ("Two blobs", "blobs.csv", 2)
    assert (own["epsilon"], own["delta"], own["epsilon_spent"]) == (1.0, 1e-4, pytest.approx(1.0))
    assert (own["clients"], own["partition"], own["alpha"], own["seed"]) == (4, "iid", None, 0)
    assert (own["rows"], own["dimensions"]) == (600, 2)
    assert own["messages"] == int(own["messages"]) >= 3
    assert own["bytes"] > 1000
    assert own["ratio"] == own["inertia"] / own["inertia_pooled"]
    assert 0.999 < own["ratio"] < 1.2
    assert rows["dplloyd"]["messages"] is rows["dplloyd"]["silence"] is None
    assert rows["alone"]["epsilon"] is rows["alone"]["epsilon_spent"] is None
    assert rows["alone"]["delta"] is None
    assert len({row["inertia_pooled"] for row in rows.values()}) == 1
    assert all(row["error"] is None and row["seconds"] > 0 for row in rows.values())


def test_without_noise_nothing_was_spent(folder: Path) -> None:
    sweep = sweep_of(folder, sweep_text(methods=["kesit"], seeds=1, noise="off"))
    (row,) = engine.run(sweep, folder / "out").to_dicts()
    assert row["epsilon_spent"] is None
    assert row["ratio"] == pytest.approx(1.0, abs=0.02)


def test_a_cell_that_fails_is_a_row_with_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("never\nmind")

    monkeypatch.setattr(work, "_run_baseline", fail)
    text = sweep_text(methods=["kesit", "dplloyd"], epsilon=[0.001, 1.0], k=[2, 13], seeds=1)
    sweep, told = sweep_of(folder, text), list[engine.Tally]()
    found = engine.run(sweep, folder / "out", on_progress=told.append)
    errors = {(r["method"], r["epsilon"], r["k"]): r["error"] for r in found.to_dicts()}
    assert errors["kesit", 1.0, 2] is None
    assert "epsilon = 0.001 is too small" in errors["kesit", 0.001, 2]
    assert "segments of at least 50 do not fit" in errors["kesit", 1.0, 13]
    assert errors["dplloyd", 1.0, 2] == (
        "ZeroDivisionError: never mind (a bug in Kesit, or in this method)"
    )
    assert told[0] == engine.Tally(0, 8, 0)
    assert told[-1] == engine.Tally(8, 8, 7)
    failed = found.filter(pl.col("error").is_not_null())
    assert failed["ratio"].null_count() == failed["inertia"].null_count() == 7
    assert failed["rows"].to_list() == [600] * 7


def test_the_pooled_fit_is_made_once_for_each_k(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, fit = [], work.fit_pooled

    def counted(*arguments: Any, **named: Any) -> Any:
        fitted.append(arguments[3])
        return fit(*arguments, **named)

    monkeypatch.setattr(work, "fit_pooled", counted)
    text = sweep_text(methods=["dplloyd"], epsilon=[0.5, 1.0], k=[2, 3], seeds=3)
    engine.run(sweep_of(folder, text), folder / "out")
    assert fitted == [2, 3]


# What a folder remembers.


def test_a_resumed_sweep_does_only_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, run = sweep_of(folder), Worker.run
    whole = engine.run(sweep, folder / "whole")
    done: list[str] = []

    def interrupted(worker: Worker, task: work.Task) -> work.Record:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(task.key)
        return run(worker, task)

    monkeypatch.setattr(Worker, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(sweep, folder / "broken")
    assert not (folder / "broken" / table.RESULTS).exists()
    first, told = list(done), list[engine.Tally]()
    done.clear()
    monkeypatch.setattr(Worker, "run", lambda w, t: (done.append(t.key), run(w, t))[1])
    resumed = engine.run(sweep, folder / "broken", on_progress=told.append)
    assert told[0] == engine.Tally(4, 8, 0)  # and the pooled fit
    assert not set(done) & set(first)
    assert len(done) + len(first) == 9
    assert resumed.drop("seconds").equals(whole.drop("seconds"))
    assert resumed.equals(table.read(folder / "broken"))
    done.clear()
    assert engine.run(sweep, folder / "broken").equals(resumed)  # nothing is left to do
    assert done == []


def test_another_sweeps_folder_is_refused(folder: Path) -> None:
    out = folder / "out"
    engine.run(sweep_of(folder), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def refused(said: str) -> None:
        with pytest.raises(ResultError, match=said) as caught:
            engine.run(sweep_of(folder, text), out)
        broken(caught)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    text = SWEEP.replace("seeds = 2", "seeds = 3")
    refused("holds another sweep")
    text = SWEEP
    study = (folder / "blobs.toml").read_text()
    (folder / "blobs.toml").write_text(study.replace("upper = 1 ", "upper = 2 "))
    refused("holds another sweep")
    (folder / "blobs.toml").write_text(study)
    write_blobs(folder, seed=1)
    refused("over other data")
    write_blobs(folder)
    identity = json.loads((out / engine.IDENTITY).read_text())
    identity["versions"]["numpy"] = "1.0"
    (out / engine.IDENTITY).write_text(json.dumps(identity))
    before[engine.IDENTITY] = (out / engine.IDENTITY).read_bytes()
    refused(r"by other versions \(.*numpy 1\.0.* then")
    (out / engine.IDENTITY).write_text("[]")
    before[engine.IDENTITY] = b"[]"
    refused("cannot be read as a sweep's description")


def test_a_folder_of_something_else_is_refused_and_left_alone(folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(ResultError, match="not an empty folder"):
        engine.run(sweep_of(folder), out)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]
    (folder / "file").write_text("")
    with pytest.raises(ResultError):
        engine.run(sweep_of(folder), folder / "file")


def test_a_journal_whose_sweep_is_unknown_is_not_used(folder: Path) -> None:
    engine.run(sweep_of(folder), folder / "out")
    (folder / "out" / engine.IDENTITY).unlink()
    with pytest.raises(ResultError, match=r"a journal, but no sweep\.json"):
        engine.run(sweep_of(folder), folder / "out")


@pytest.mark.parametrize("moment", ["empty folder", "journal only", "torn journal"])
def test_a_sweep_that_died_while_it_began_begins_again(folder: Path, moment: str) -> None:
    out = folder / "out"
    out.mkdir()
    if moment == "journal only":
        Journal(out).close()
    elif moment == "torn journal":
        (out / JOURNAL).touch()  # SQLite had made its file and written nothing
    assert len(engine.run(sweep_of(folder), out)) == 8


def test_a_torn_record_at_the_end_of_the_journal_is_forgotten(tmp_path: Path) -> None:
    """The write-ahead log of a killed process, cut at every length: whole records, in order."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    with Journal(here) as journal:
        for place in range(4):
            journal.add(f"cell-{place}", {"inertia": place + 0.5})
        names = (JOURNAL, f"{JOURNAL}-wal")
        main, log = ((here / name).read_bytes() for name in names)
    seen = set()
    for length in [*range(0, len(log), 509), len(log)]:
        there.mkdir()
        (there / JOURNAL).write_bytes(main)
        (there / f"{JOURNAL}-wal").write_bytes(log[:length])
        with Journal(there) as journal:
            records = journal.records()
            journal.add("cell-9", {"inertia": 9.5})
            assert journal.records() == records | {"cell-9": {"inertia": 9.5}}
        assert records == {f"cell-{n}": {"inertia": n + 0.5} for n in range(len(records))}
        seen.add(len(records))
        for path in there.iterdir():
            path.unlink()
        there.rmdir()
    assert seen == {0, 1, 2, 3, 4}


def test_a_journal_holds_each_task_once_and_exactly(tmp_path: Path) -> None:
    record = {"inertia": math.pi * 1e-300, "error": "ε = ½\n", "adjusted_rand": None}
    with Journal(tmp_path) as journal:
        journal.add("cell-0", record)
        with pytest.raises(ResultError, match="UNIQUE"):
            journal.add("cell-0", record)
        with pytest.raises(ValueError, match="Out of range"):
            journal.add("cell-1", {"inertia": math.inf})
    with Journal(tmp_path) as journal:
        assert journal.records() == {"cell-0": record}


def test_one_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ResultError, match="another process is at work") as caught:
            Journal(tmp_path)
        broken(caught)
        journal.add("cell-0", {})
        with pytest.raises(ResultError, match="another process"):
            Journal(tmp_path)
    Journal(tmp_path).close()


@pytest.mark.parametrize("damage", ["no database", "another database"])
def test_a_damaged_journal_is_an_error_and_no_fresh_start(tmp_path: Path, damage: str) -> None:
    if damage == "no database":
        (tmp_path / JOURNAL).write_bytes(b"not a database, and longer than a header" * 50)
    else:
        with sqlite3.connect(tmp_path / JOURNAL) as books:
            books.execute("CREATE TABLE done (other TEXT)")
        books.close()
    with pytest.raises(ResultError, match="cannot be used") as caught, Journal(tmp_path) as journal:
        journal.records()
    broken(caught)


def test_a_table_that_is_missing_or_foreign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="holds no finished sweep"):
        table.read(tmp_path)
    (tmp_path / table.RESULTS).write_text("PAR1, but not really")
    with pytest.raises(ResultError, match="is no table of results"):
        table.read(tmp_path)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / table.RESULTS)
    with pytest.raises(ResultError, match="its columns are not those of a sweep"):
        table.read(tmp_path)


def test_the_fingerprint_follows_rows_labels_and_the_dividing_column(folder: Path) -> None:
    def fingerprint() -> str:
        return work.load(sweep_of(folder).sources[0]).fingerprint

    first, csv = fingerprint(), (folder / "blobs.csv").read_text()
    assert fingerprint() == first
    changed = [csv.replace("c5,", "c6000,"), csv.replace(",shop-1", ",shop-9", 1)]
    (folder / "blobs.csv").write_text(changed[0])
    assert fingerprint() == first  # names of customers are no part of what is computed
    (folder / "blobs.csv").write_text(changed[1])
    assert fingerprint() != first


def test_task_keys_are_distinct(folder: Path) -> None:
    cells = grid.grid(sweep_of(folder, sweep_text(k=[2, 3], seeds=3)))
    tasks = [*(PooledFit(s, k) for s in (0, 1) for k in (2, 3)), *map(CellRun, cells)]
    assert len({task.key for task in tasks}) == len(tasks)
