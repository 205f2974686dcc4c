"""A federation of real processes on this machine: a coordinator, its members, TLS on loopback.

Everything is what the commands `kesit server` and `kesit client` would do, with one person in all
roles, so fingerprints are compared with themselves. For demonstrations, tests and measurements.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from kesit_client import home
from kesit_client.owner import approvals, onboarding, pins
from kesit_privacy.enrolment import read_request
from kesit_privacy.errors import KesitError
from kesit_privacy.identity import fingerprint
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study
from kesit_server.deployment import home as server_home
from kesit_server.deployment import members as membership
from kesit_server.deployment.door import Door
from kesit_server.deployment.home import Coordinator, open_coordinator
from kesit_server.deployment.registration import member_nodes
from kesit_server.errors import DeploymentError
from kesit_simulations.errors import SimulationError

COORDINATOR = "coordinator"
"""The coordinator's folder."""

LOOPBACK = "127.0.0.1"
STARTING_SECONDS = 120.0
STOPPING_SECONDS = 20.0
POLL_SECONDS = 0.1

POLICY = """\
# Written for a federation on one machine, by one person in all roles.
purposes = {purposes}
features = {features}
queries = {queries}
min_roster = {min_roster}
servers = []

[peers]

[lifetime]
neural_epsilon = 100
epsilon = 20.0
delta = {delta!r}
"""


@dataclass
class Deployed:
    """The folders and the processes of a federation.

    Attributes:
        folder: holds `coordinator/`, a folder a member, and their logs.
        names: the members.
    """

    folder: Path
    names: tuple[str, ...]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _connected: dict[str, int] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        folder: Path,
        study_file: Path,
        tables: Mapping[str, pl.DataFrame],
        id_column: str,
        *,
        port: int | None = None,
    ) -> Deployed:
        """Enrol members who hold these tables, pin them all, and approve the study.

        Raises:
            KesitError: a folder cannot be made, or the study does not fit.
        """
        made = cls(folder, tuple(tables))
        coordinator = folder / COORDINATOR
        server_home.create(coordinator, [LOOPBACK], port=port or free_port())
        study = load_study(study_file)
        for name, table in tables.items():
            made._enrol(name, table, id_column, study)
        for name in tables:
            made._join(name, study_file, study)
        return made

    @property
    def coordinator(self) -> Coordinator:
        """The coordinator's folder, opened."""
        return open_coordinator(self.folder / COORDINATOR)

    def home(self, name: str) -> Path:
        """A member's folder."""
        return self.folder / name

    def log(self, name: str) -> str:
        """What a member's process, or the server's ("server"), has printed."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def start_server(self) -> None:
        """Start the server process, and wait until it listens.

        Raises:
            SimulationError: it ends, or does not listen in time.
        """
        self._spawn("server", "server", "start", "--home", str(self.coordinator.home), *_HOST)
        self._await("server", self._listens)

    def start_member(self, name: str, *, wait: bool = True) -> None:
        """Start a member's node, and wait until it is online.

        Raises:
            SimulationError: it ends, or is not online in time.
        """
        self._connected[name] = self._connections(name)
        self._spawn(name, "client", "start", "--home", str(self.home(name)))
        if wait:
            self._await(name, partial(self._is_online, name))

    def start(self) -> None:
        """Start all, and wait until all are online."""
        self.start_server()
        for name in self.names:
            self.start_member(name, wait=False)
        for name in self.names:
            self._await(name, partial(self._is_online, name))

    def online(self) -> frozenset[str]:
        """Members whose node is online, as the server sees it."""
        door = self._door()
        if door is None:
            return frozenset()
        try:
            known = member_nodes(self.coordinator.members, door)
        except DeploymentError:
            return frozenset()
        return frozenset(node.member.name for node in known if node.status == "online")

    def _listens(self) -> bool:
        door = self._door()  # a server that was killed has left its door behind
        try:
            return door is not None and member_nodes(self.coordinator.members, door) is not None
        except DeploymentError:
            return False

    def _is_online(self, name: str) -> bool:
        """Also by the node's own word: the server takes twenty seconds to miss one that died."""
        return self._connections(name) > self._connected.get(name, 0) and name in self.online()

    def _connections(self, name: str) -> int:
        return self.log(name).count(" connected: ")

    def kill(self, name: str) -> None:
        """End a process at once, as a power cut would. Its children end with it."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):  # it has ended, and its children with it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Stop all processes: members first."""
        for name in sorted(self.processes, key=lambda name: name == "server"):
            process = self.processes.pop(name)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOPPING_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _enrol(self, name: str, table: pl.DataFrame, id_column: str, study: Study) -> None:
        place = self.home(name)
        onboarding.create_client(place, name)
        (place / home.POLICY).write_text(_policy(study), encoding="utf-8")
        (place / home.SOURCE).write_text(
            f'path = "customers.parquet"\nid_column = {json.dumps(id_column)}\n', encoding="utf-8"
        )
        table.write_parquet(place / "customers.parquet")
        request = read_request(place / home.REQUEST)
        membership.admit(self.coordinator.home, request, fingerprint(request.identity))

    def _join(self, name: str, study_file: Path, study: Study) -> None:
        place, members = self.home(name), self.coordinator.members
        listed = self.coordinator.home / server_home.MEMBERS
        onboarding.join(place, listed, fingerprint(members.coordinator))
        pins.pin(place, pins.COORDINATOR, fingerprint(members.coordinator))
        for member in members.active:
            if member.name != name:
                pins.pin(place, member.name, fingerprint(member.identity))
        approvals.approve(place, study_file, study.hash)

    def _door(self) -> Door | None:
        try:
            return Door.read(self.coordinator.superlink)
        except KesitError:
            return None

    def _spawn(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-m", "kesit_cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for whoever started them
            )

    def _await(self, name: str, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + STARTING_SECONDS
        while not ready():
            ended = self.processes[name].poll() is not None
            if ended or time.monotonic() > until:
                what = "ended" if ended else f"is not ready after {STARTING_SECONDS:.0f} s"
                raise SimulationError(
                    f"The process of {name!r} {what}: {self.log(name).strip()[-400:]}",
                    remedy=f"{self.folder / name}.log says more.",
                )
            time.sleep(POLL_SECONDS)


_HOST = ("--host", LOOPBACK)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server((LOOPBACK, 0)) as place:
        return int(place.getsockname()[1])


def _policy(study: Study) -> str:
    return POLICY.format(
        purposes=json.dumps([study.purpose], ensure_ascii=False),
        features=json.dumps([feature.name for feature in study.features], ensure_ascii=False),
        queries=json.dumps(sorted({step.query for step in study.plan})),
        min_roster=study.roster.min_size,
        delta=study.delta,
    )
