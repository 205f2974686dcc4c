"""Federations of real processes for tests: small studies, both sides' books, and broken members.

`python -m federationkit mortal HOME MARK` is a member's node that kills itself once.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from deploykit import ROOT, SOURCES, eventually
from kesit_client.deployment import start as starting
from kesit_client.deployment.supervise import supervise
from kesit_client.home import BOOKS
from kesit_client.ledger.books import Charge
from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_client.owner import approvals
from kesit_privacy.spending import Spending, read_log
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study
from kesit_server import run_book
from kesit_server.deployment.home import RESULTS, RUNS
from kesit_server.deployment.registration import member_nodes
from kesit_server.deployment.studies import Watch
from kesit_simulations.deployed import Deployed

NAMES = ("Ankara", "İzmir", "Şişli", "Bursa")
CUSTOMERS = 1200

STUDY = """\
name = "{name}"
purpose = "customer-segmentation"
legal_basis = "contract"
epsilon = 2.0
delta = 1e-4
declared_customers = 1000

[segmentation]
k = 3

[roster]
min_size = 3

[[features]]
kind = "numeric"
name = "age"
lower = 18
upper = 90

[[features]]
kind = "numeric"
name = "balance"
lower = 0
upper = 1000
"""


def study_file(folder: Path, name: str) -> Path:
    """A study file of that name; another name makes another study."""
    path = folder / f"{name}.toml"
    path.write_text(STUDY.format(name=name), encoding="utf-8")
    return path


def tables(names: tuple[str, ...] = NAMES) -> dict[str, pl.DataFrame]:
    """Customers of three clear kinds, divided among the members."""
    rng = np.random.default_rng(3)
    kind = np.arange(CUSTOMERS) % 3
    frame = pl.DataFrame(
        {
            "no": [f"c{number}" for number in range(CUSTOMERS)],
            "age": 28 + 22 * kind + rng.integers(0, 8, CUSTOMERS),
            "balance": 120.0 + 320 * kind + rng.integers(0, 90, CUSTOMERS),
        }
    )
    return {name: frame[place :: len(names)] for place, name in enumerate(names)}


@contextmanager
def deployed(folder: Path, names: tuple[str, ...] = NAMES) -> Iterator[Deployed]:
    """A federation in folders, with nothing started; its processes end with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Deployed.make(folder, study_file(folder, "enrolling"), tables(names), "no")
    try:
        yield place
    finally:
        for name in list(place.processes):
            place.kill(name)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Deployed]:
    """A federation for all tests of a module."""
    with deployed(tmp_path_factory.mktemp(request.module.__name__) / "federation") as started:
        yield started


@pytest.fixture
def place(whole: Deployed) -> Deployed:
    """The module's federation with everyone online, whatever the test before has left."""
    all_online(whole)
    return whole


def all_online(place: Deployed) -> None:
    """Start what does not run, and wait until every member is online."""
    ended = [name for name, process in place.processes.items() if process.poll() is not None]
    for name in ended:
        place.kill(name)
    if "server" not in place.processes:
        place.start_server()
    for name in place.names:
        if name not in place.processes:
            place.start_member(name, wait=False)
    eventually(lambda: place.online() >= set(place.names))


def agreed(place: Deployed, name: str) -> Path:
    """The file of a new study that every member has approved."""
    path = study_file(place.folder, name)
    study = load_study(path)
    for member in place.names:
        approvals.approve(place.home(member), path, study.hash)
    return path


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One call of `kesit` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "kesit_cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


class Background:
    """A `kesit` command that goes on while a test acts; it is killed when the block ends."""

    def __init__(
        self, log: Path, *arguments: object, module: str = "kesit_cli", inside: str | None = None
    ) -> None:
        self.log = log
        namespace = ["ip", "netns", "exec", inside] if inside else []
        paths = os.pathsep.join(str(ROOT / name) for name in (*SOURCES, "cli"))
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [*namespace, sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8")

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has printed this so often."""
        eventually(
            lambda: self.text.count(text) >= times or self.process.poll() is not None, seconds=120
        )
        assert self.text.count(text) >= times, self.text

    def wait(self, seconds: float = 240.0) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it, and its children, as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


class Acting:
    """What a person who watches a run does when a sum is asked for: `acts[n]` at the n-th ask."""

    def __init__(self, acts: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.told: list[str] = []
        self._acts = dict(acts or {})
        self._asks = 0

    @property
    def watch(self) -> Watch:
        """To give to a run."""
        return Watch(on_event=self._hear)

    def _hear(self, text: str) -> None:
        self.told.append(text)
        if text.endswith("members are asked"):
            self._asks += 1
            self._acts.pop(self._asks, lambda: None)()


def charges(home: Path, run: str | None = None) -> list[Charge]:
    """A member's charges, of one run or of all."""
    with closing(Store.open(home / BOOKS)) as store, store.transaction() as books:
        if run is not None:
            return books.charges(run)
        runs = {row[0] for row in books.rows("SELECT DISTINCT run FROM charge")}
        return [charge for each in sorted(runs) for charge in books.charges(each)]


def refusals(home: Path) -> list[tuple[str, int, str]]:
    """(run, code, cause) of all that a member refused."""
    with closing(Store.open(home / BOOKS)) as store, store.transaction() as books:
        return books.refusals()


def holds_key(home: Path, run: str) -> bool:
    """Whether a member still holds its private key of a run."""
    with closing(Store.open(home / BOOKS)) as store, store.transaction() as books:
        known = books.run(run)
    assert known is not None
    return known.ephemeral is not None


def log_of(place: Deployed, run: str) -> tuple[Spending, ...]:
    """The coordinator's signed log of a run, as a member would read it."""
    path = place.coordinator.home / RUNS / run / run_book.LOG
    return read_log(path, frozenset({place.coordinator.members.coordinator}))


def books_agree(place: Deployed, run: str, missed: Mapping[str, int] | None = None) -> None:
    """Each member was charged once for each attempt that the coordinator's signed log says, with
    the same instruction and the same cost; a member may have missed so many of the attempts."""
    entries, missed = log_of(place, run), missed or {}
    members = {member.name: member.identity for member in place.coordinator.members.members}
    for name in place.names:
        logged = {
            (entry.step, entry.attempt): (entry.instruction, entry.units)
            for entry in entries
            if members[name] in entry.roster
        }
        own = charges(place.home(name), run)
        booked = {(c.step, c.attempt): (c.instruction.hex(), c.units) for c in own}
        assert len(booked) == len(own)
        assert booked.items() <= logged.items(), name
        assert len(logged) - len(booked) == missed.get(name, 0), name


def node_ids(place: Deployed) -> dict[int, str]:
    """The identity that is enrolled at each Flower node."""
    coordinator = place.coordinator
    door = place._door()
    assert door is not None
    return {n.node_id: n.member.identity for n in member_nodes(coordinator.members, door)}


def runs_of(place: Deployed, study: Study | None = None) -> list[str]:
    """Ids of the runs on the coordinator's disk, of one study or of all."""
    folders = [path for path in (place.coordinator.home / RUNS).iterdir() if path.is_dir()]
    return [
        path.name
        for path in folders
        if study is None or load_study(path / "study.toml").hash == study.hash
    ]


def kept(place: Deployed, run: str) -> dict[str, Any]:
    """All that the book of a run holds, by key. Nobody may be at work on it."""
    path = place.coordinator.home / RUNS / run / "journal.sqlite"
    with closing(sqlite3.connect(path)) as book:
        rows = book.execute("SELECT key, record FROM done").fetchall()
    return {key: json.loads(record) for key, record in rows}


def result(place: Deployed, run: str) -> dict[str, Any]:
    """The privacy statement in the result folder of a run."""
    (folder,) = (place.coordinator.home / RESULTS).glob(f"*-{run[:8]}")
    found: dict[str, Any] = json.loads((folder / "privacy.json").read_text(encoding="utf-8"))
    return found


def signal_all(place: Deployed, name: str, number: int) -> None:
    """Signal a process and its children."""
    os.killpg(place.processes[name].pid, number)


def _mortal(home: str, mark: str) -> None:
    """A node that is killed between its first charge and its answer, once."""
    compute = Node._noisy_vector

    def dying(self: Node, *arguments: Any) -> Any:
        if not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(self, *arguments)

    Node._noisy_vector = dying  # type: ignore[method-assign]
    starting.serve(Path(home), None)


def _start_mortal(home: str, mark: str) -> None:
    supervise(partial(_mortal, home, mark), on_message=starting.tell)


if __name__ == "__main__":
    {"mortal": _start_mortal}[sys.argv[1]](*sys.argv[2:])
