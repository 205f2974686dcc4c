"""Sweeps in real processes: killed, interrupted, started twice, and resumed to the same rows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from kesit_cli import exits
from kesit_server.journal import JOURNAL, Journal
from kesit_simulations.sweeps import engine, table
from sweepkit import sweep_of, write_blobs

SWEEP = """
study = "blobs.toml"

[sweep]
methods = ["kesit", "dplloyd"]
epsilon = [0.001, 1.0]
seeds = 25
"""
CELLS = 100
FRAME = 4096 + 24
"""Bytes of one page in SQLite's write-ahead log; a commit writes one at least."""

RUN = "from kesit_cli.main import run; run()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study and a sweep."""
    place = tmp_path_factory.mktemp("sweep")
    write_blobs(place)
    (place / "sweep.toml").write_text(SWEEP)
    return place


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> pl.DataFrame:
    """The rows of the same sweep in one go, in this process."""
    return engine.run(sweep_of(folder, SWEEP), folder / "unbroken").drop("seconds")


class Running:
    """A sweep in a process group of its own, as on a terminal."""

    def __init__(self, folder: Path, out: str) -> None:
        self.out = folder / out
        arguments = ("simulate", "sweep", "sweep.toml", "--out", out, "--processes", "2")
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until something happened; two minutes are a hang."""
        until = time.monotonic() + 120
        while not happened():
            assert time.monotonic() < until, f"{what}: {self.process.poll()}"
            time.sleep(0.02)

    def wait_for_commits(self, number: int) -> None:
        """Wait until the journal has grown by about so many commits."""
        log = self.out / f"{JOURNAL}-wal"
        self.wait_for(lambda: log.exists() and log.stat().st_size > number * FRAME, "no commits")
        assert self.process.poll() is None, self.process.communicate()

    def members(self) -> list[int]:
        """Process ids of its group that still run."""
        found = []
        for place in Path("/proc").iterdir():
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except (OSError, ValueError):
                continue  # no process, or one that has just ended
            if int(fields[2]) == self.process.pid and fields[0] != "Z":
                found.append(int(place.name))
        return found

    def finish(self) -> tuple[int, str]:
        """Wait for its end: exit code and stderr."""
        _, err = self.process.communicate(timeout=300)
        return self.process.returncode, err


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[str], Running]]:
    """Start the sweep into a folder; whatever still runs after the test is killed."""
    started: list[Running] = []

    def begin(out: str) -> Running:
        started.append(Running(folder, out))
        return started[-1]

    yield begin
    for running in started:
        for member in running.members():
            os.kill(member, signal.SIGKILL)
        running.process.communicate()


def records(out: Path) -> dict[str, dict[str, object]]:
    """What the journal holds."""
    with Journal(out) as journal:
        return journal.records()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_sweep_that_is_killed_twice_goes_on_to_the_same_rows(
    folder: Path, unbroken: pl.DataFrame, start: Callable[[str], Running]
) -> None:
    running = start("killed")
    running.wait_for((folder / "killed" / engine.IDENTITY).exists, "no sweep.json")
    running.process.kill()
    running.finish()
    running.wait_for(lambda: not running.members(), "processes outlive their killed parent")
    first = records(folder / "killed")

    running = start("killed")
    running.wait_for_commits(25)
    running.process.kill()
    running.finish()
    running.wait_for(lambda: not running.members(), "processes outlive their killed parent")
    second = records(folder / "killed")
    assert len(first) < len(second) < CELLS + 1
    assert not (folder / "killed" / table.RESULTS).exists()

    code, err = start("killed").finish()
    assert code == exits.OK, err
    last = records(folder / "killed")
    assert len(last) == CELLS + 1  # and the pooled fit
    assert {key: last[key] for key in second} == second  # seconds, too: nothing was done again
    resumed = table.read(folder / "killed")
    assert resumed.drop("seconds").equals(unbroken)
    assert resumed["error"].count() == 25  # ε = 0.001 for kesit
    assert f"{CELLS:,} of {CELLS:,} cells, 25 failed" in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_stops_at_once_and_a_second_process_is_refused(
    folder: Path, unbroken: pl.DataFrame, start: Callable[[str], Running]
) -> None:
    running = start("stopped")
    running.wait_for_commits(10)
    os.killpg(running.process.pid, signal.SIGSTOP)  # so that it is not done too soon
    code, err = start("stopped").finish()
    assert code == exits.RESULT
    assert "another process is at work" in err
    os.killpg(running.process.pid, signal.SIGINT)  # a terminal tells the whole group
    os.killpg(running.process.pid, signal.SIGCONT)
    code, err = running.finish()
    assert code == exits.INTERRUPTED, err
    assert "cells done; the same command goes on from there" in " ".join(err.split())
    assert "Traceback" not in err
    running.wait_for(lambda: not running.members(), "processes outlive their interrupted parent")
    done = records(folder / "stopped")
    assert 0 < len(done) < CELLS + 1
    assert not (folder / "stopped" / table.RESULTS).exists()
    code, err = start("stopped").finish()
    assert code == exits.OK, err
    assert table.read(folder / "stopped").drop("seconds").equals(unbroken)
