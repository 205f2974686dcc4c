"""A federation of Flower's own processes on this machine, with nothing of Kesit in it.

`flower-superlink` with a SQLite database, and `flower-supernode` processes that authenticate with
keys, over TLS on loopback; apps are submitted with `flwr run`. Like for like with a federation of
`deployed`, whose way of making certificates it shares.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from kesit_privacy.quiet import SWITCHES
from kesit_server.deployment import home as server_home
from kesit_simulations.deployed import LOOPBACK, STARTING_SECONDS, STOPPING_SECONDS, free_port
from kesit_simulations.errors import SimulationError

POLL_SECONDS = 0.1
COMMAND_SECONDS = 120.0
"""Longest wait for one of Flower's commands."""

LOG_CHARACTERS = 1500
"""How much of a log's end an error shows."""

PROJECT = """\
[project]
name = "{title}"
version = "1.0.0"
description = "Measured by Kesit."
license = "Apache-2.0"
dependencies = ["flwr"]

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "{name}:server"
clientapp = "{name}:client"

[tool.flwr.app.config]
nodes = 0
rounds = 0
length = 0
result = ""
"""


@dataclass
class StockFlower:
    """The folder and the processes of a federation of plain Flower.

    Attributes:
        folder: holds certificates, keys, the database and logs.
        nodes: how many SuperNodes there are.
    """

    folder: Path
    nodes: int
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self) -> None:
        """Start all processes, and wait until the server listens.

        Raises:
            SimulationError: a process ends, or a command fails.
        """
        self.folder.mkdir(parents=True)
        server_home.create(self._tls, [LOOPBACK], port=self.port)
        self._configure()
        self._spawn(
            "superlink",
            "flower-superlink",
            *("--ssl-certfile", str(self._tls / server_home.LEAF)),
            *("--ssl-keyfile", str(self._tls / server_home.LEAF_KEY)),
            *("--ssl-ca-certfile", str(self._tls / server_home.CA)),
            *("--database", str(self.folder / "superlink.sqlite")),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
            *("--host", LOOPBACK, "--port", str(self.port)),
        )
        self._await(lambda: "Uvicorn running on" in self.log("superlink"))
        for number in range(self.nodes):
            self._add(f"supernode-{number}")

    def run(self, app: ModuleType, rounds: int, seconds: float, length: int = 0) -> dict[str, Any]:
        """Submit an app with `flwr run`; what it left as its result.

        Args:
            app: a module with `server` and `client`, and imports of Flower alone.
            rounds, length: for the app.
            seconds: longest wait for its result.

        Raises:
            SimulationError: the app failed, or did not end in time.
        """
        name = app.__name__.rpartition(".")[2]
        result = self.folder / f"{name}.json"
        result.unlink(missing_ok=True)
        place = self._bundle(app, name)
        settings = {"nodes": self.nodes, "rounds": rounds, "length": length, "result": str(result)}
        pairs = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        self._command("flwr", "run", str(place), "local", "--run-config", pairs)
        self._await(result.exists, seconds)
        told: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        if "error" in told:
            raise SimulationError(
                f"The app {name!r} failed: {told['error']}", remedy=self._where("superlink")
            )
        return told

    def log(self, name: str) -> str:
        """What a process has printed."""
        path = self.folder / f"{name}.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def stop(self) -> None:
        """Stop all processes: nodes first."""
        for name in sorted(self.processes, key=lambda name: name == "superlink"):
            self.processes[name].send_signal(signal.SIGTERM)
            if name != "superlink":
                continue
            for process in self.processes.values():
                try:
                    process.wait(STOPPING_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _tls(self) -> Path:
        return self.folder / "tls"

    def _configure(self) -> None:
        """Flower's own home folder, so that the user's is left alone."""
        home = self.folder / "flwr"
        home.mkdir()
        (home / "config.toml").write_text(
            '[superlink]\ndefault = "local"\n\n[superlink.local]\n'
            f'address = "{LOOPBACK}:{self.port}"\n'
            f"root-certificates = {json.dumps(str(self._tls / server_home.CA))}\n",
            encoding="utf-8",
        )

    def _add(self, name: str) -> None:
        """Make a key, register it, and start its node."""
        key = ec.generate_private_key(ec.SECP384R1())
        private, public = self.folder / name, self.folder / f"{name}.pub"
        private.touch(0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        public.write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        self._command("flwr", "supernode", "register", str(public), "local", "--name", name)
        self._spawn(
            name,
            "flower-supernode",
            *("--root-certificates", str(self._tls / server_home.CA)),
            *("--superlink", f"{LOOPBACK}:{self.port}"),
            *("--auth-supernode-private-key", str(private)),
            *("--host", LOOPBACK, "--port", str(free_port())),
        )

    def _bundle(self, app: ModuleType, name: str) -> Path:
        place = self.folder / "apps" / name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(app.__file__), place / f"{name}.py")
        (place / "pyproject.toml").write_text(
            PROJECT.format(name=name, title=name.replace("_", "-")), encoding="utf-8"
        )
        return place

    @property
    def _environment(self) -> dict[str, str]:
        tools = str(Path(sys.executable).parent)  # Flower starts its tools by name
        path = os.pathsep.join([tools, os.environ.get("PATH", "")])
        own = {"PATH": path, "FLWR_HOME": str(self.folder / "flwr")}
        return {**os.environ, **SWITCHES, **own, "PYTHONUNBUFFERED": "1"}

    def _spawn(self, name: str, tool: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(  # noqa: S603  (Flower's own command)
                [_tool(tool), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for whoever started them
            )

    def _command(self, tool: str, *arguments: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603  (Flower's own command)
                [_tool(tool), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=self._environment,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SimulationError(
                f"`{tool} {arguments[0]}` took more than {COMMAND_SECONDS:.0f} s.",
                remedy=self._where("superlink"),
            ) from error
        if done.returncode != 0:
            raise SimulationError(
                f"`{tool} {arguments[0]}` failed: {(done.stdout + done.stderr)[-LOG_CHARACTERS:]}",
                remedy=self._where("superlink"),
            )

    def _await(self, ready: Callable[[], bool], seconds: float = STARTING_SECONDS) -> None:
        until = time.monotonic() + seconds
        while not ready():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended:
                raise SimulationError(
                    f"Flower's process {ended[0]!r} ended.", remedy=self._where(ended[0])
                )
            if time.monotonic() > until:
                raise SimulationError(
                    f"Plain Flower did not come to its end in {seconds:.0f} s.",
                    remedy=self._where("superlink"),
                )
            time.sleep(POLL_SECONDS)

    def _where(self, name: str) -> str:
        return f"The end of its log:\n{self.log(name).strip()[-LOG_CHARACTERS:]}"


def _tool(name: str) -> str:
    """The path of one of Flower's commands, beside this Python.

    Raises:
        SimulationError: it is not installed.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise SimulationError(
            f"Flower's command {name!r} is not installed beside this Python.",
            remedy="Install Kesit into a virtual environment, with `pip install kesit`.",
        )
    return str(path)
