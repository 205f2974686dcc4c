"""The same study on Flower's own simulation engine, which runs clients in Ray's processes.

Ray runs each message in whichever process is free, so a node cannot live in one of them. What must
survive between messages travels in `Context.state`, which the engine hands to the next process: the
books as SQLite's own image of them (they hold the run's private key, too), the state of seeded
noise, and how many messages came. The node itself is the production one; it is put together from
that state for each message, as it would be after a restart. Files for the books would do as well,
but with several commits to a disk for each message, which says nothing of the engine.

Rows lie in a memory-mapped file that all processes share. What touches Flower's and Ray's internals
stands in this module.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import pickle
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict  # isort: skip
from flwr.clientapp import ClientApp  # isort: skip
from flwr.serverapp import Grid, ServerApp  # isort: skip
from flwr.supercore.run import Run  # isort: skip

from kesit_client.app import make_app
from kesit_client.ledger.migrations import migrate
from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_privacy.errors import KesitError
from kesit_privacy.features import CodeArray
from kesit_privacy.study import Study
from kesit_server.courier import Patience
from kesit_simulations.errors import SimulationError
from kesit_simulations.members import Members, misses
from kesit_simulations.plan import SimulationPlan

PATIENCE = Patience(seconds=3600.0, asks=1, poll_seconds=0.1, pause_seconds=math.inf)
"""An hour is a last resort: a client that fails or dies is answered for by the engine at once. The
grid is looked at as often as Flower's own loop would."""

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # as Flower's own command sets it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the coming default; without it Ray warns
}

STATE = "kesit"
ROWS = "rows.npy"
LONGEST_FOLDER = 24
"""Characters. Below Ray's folder lie sockets, whose paths may have about a hundred."""


def require_ray() -> None:
    """Refuse, before anything is started, where Ray cannot run.

    Raises:
        SimulationError: Ray is not installed, or runs in this process already.
    """
    if importlib.util.find_spec("ray") is None:
        raise SimulationError(
            "The ray backend needs Ray, which is not installed.",
            remedy="Run pip install 'kesit[simulation]', or use --backend in-process.",
        )
    import ray

    if ray.is_initialized():
        raise SimulationError(
            "Ray runs in this process already, and the simulation would end it.",
            remedy="Call ray.shutdown() first, or use the in-process backend.",
        )


def preload() -> None:
    """Import now what a run would import first, for whoever takes its time.

    Raises:
        SimulationError: as `require_ray`.
    """
    require_ray()
    importlib.import_module("flwr.server.superlink.fleet.vce.backend.raybackend")


def run(
    app: ServerApp,
    study: Study,
    plan: SimulationPlan,
    server: str,
    rows: Sequence[CodeArray],
    on_event: Callable[[str], None],
) -> None:
    """Run a ServerApp over the clients of a simulation, one Ray process for each processor.

    Args:
        server: the server's public key.
        rows: the coded customers of each client.
        on_event: is told what the engine reports as an error.

    Raises:
        KesitError: what the ServerApp raised, or the engine failed.
    """
    require_ray()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(_short_folder()))
        np.save(folder / ROWS, np.concatenate(rows))
        team = Team(study, plan, server, tuple(map(len, rows)), str(folder / ROWS))
        stack.enter_context(_environment())
        stack.enter_context(_engine_log(on_event))
        _engine(app, StatefulApp(team), folder)


def _engine(app: ServerApp, clients: StatefulApp, folder: Path) -> None:
    from flwr.simulation import run_simulation

    count = len(clients.team.sizes)
    stopped, ended = threading.Event(), threading.Event()
    failures: list[KesitError] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            app(PatientGrid(grid, count, stopped), context)
        except KesitError as error:
            failures.append(error)
        finally:
            ended.set()

    config = {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "_temp_dir": str(folder / "ray"),
        },
    }
    try:
        # Flower types the configuration narrower than the nested tables that Ray takes.
        run_simulation(server, clients, count, backend_config=config)  # type: ignore[arg-type]
    except RuntimeError as error:
        failures.append(
            SimulationError(
                f"Flower's simulation engine failed ({error.__cause__ or error}).",
                remedy="Use --backend in-process, which computes the same.",
            )
        )
    finally:
        stopped.set()  # the ServerApp's thread must not wait for an engine that is gone
        ended.wait(timeout=2 * PATIENCE.poll_seconds + 5)
    if failures:
        raise failures[-1]


class PatientGrid(Grid):
    """Flower's grid as the ServerApp sees it: all nodes are there, and a dead engine is an error.

    The engine starts the ServerApp before it has registered the nodes.
    """

    def __init__(self, grid: Grid, count: int, stopped: threading.Event) -> None:
        self._grid = grid
        self._count = count
        self._stopped = stopped

    def set_run(self, run: Run) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        while len(nodes := list(self._grid.get_node_ids())) < self._count:
            self._require_engine()
            time.sleep(0.01)
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._require_engine()
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self._grid.send_and_receive(messages, timeout=timeout)

    def _require_engine(self) -> None:
        if self._stopped.is_set():
            raise SimulationError("The simulation was stopped.", remedy="Run it again.")


@dataclass(frozen=True)
class Team:
    """All clients of a simulation, small enough to travel with each message.

    Attributes:
        sizes: customers of each client, whose rows follow each other in the file `rows`.
    """

    study: Study
    plan: SimulationPlan
    server: str
    sizes: tuple[int, ...]
    rows: str


class StatefulApp(ClientApp):
    """The ClientApp of all nodes, each put together from its `Context` and put back into it."""

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team = team

    def __reduce__(self) -> tuple[type[StatefulApp], tuple[Team]]:
        return StatefulApp, (self.team,)

    def __call__(self, message: Message, context: Context) -> Message:
        place = int(str(context.node_config["partition-id"]))
        state = context.state.config_records.setdefault(STATE, ConfigRecord({"messages": 0}))
        number = int(str(state["messages"]))
        state["messages"] = number + 1
        if misses(self.team.plan, place, number):
            return Message(Error(code=0, reason="silent"), reply_to=message)
        with closing(_open_books(state.get("books"))) as books:
            node = _nodes(self.team).at(place, Store(books, None))
            if "books" not in state:
                node.approve(self.team.study)
            if isinstance(noise := state.get("noise"), bytes):
                node.noise = pickle.loads(noise)  # noqa: S301  (this simulation wrote it)
            reply = make_app(lambda context: node)(message, context)
            state["books"] = books.serialize()
        state["noise"] = pickle.dumps(node.noise)
        return reply


class _Nodes:
    """The nodes that this process has put together so far; their state is another matter."""

    def __init__(self, team: Team) -> None:
        self._members = Members.of(team.study, team.plan, len(team.sizes), team.server)
        self._rows: CodeArray = np.load(team.rows, mmap_mode="r")
        self._starts = np.cumsum([0, *team.sizes])
        self._known: dict[int, Node] = {}

    def at(self, place: int, store: Store) -> Node:
        if place not in self._known:
            rows = self._rows[self._starts[place] : self._starts[place + 1]]
            self._known[place] = self._members.node(place, rows, store)
        self._known[place].store = store
        return self._known[place]


@lru_cache(maxsize=1)
def _nodes(team: Team) -> _Nodes:
    return _Nodes(team)


def _open_books(image: object) -> sqlite3.Connection:
    """Books in memory: those of SQLite's image of them, or new ones."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    if isinstance(image, bytes):
        connection.deserialize(image)
    migrate(connection)
    return connection


@contextmanager
def _short_folder() -> Iterator[str]:
    """A temporary folder with a path short enough for Ray, gone with what Ray leaves in it."""
    usual = tempfile.gettempdir()
    # The directory in it is new and its owner's alone, so /tmp being shared does no harm.
    root = usual if len(usual) <= LONGEST_FOLDER else min(usual, "/tmp", key=len)  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="kesit-", dir=root, ignore_cleanup_errors=True) as name:
        yield name


@contextmanager
def _environment() -> Iterator[None]:
    """Environment and handlers as Ray is to find them, and afterwards as they were.

    Ray would join another cluster if RAY_ADDRESS named one; Flower writes into PYTHONPATH.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    before = dict(os.environ)
    os.environ.update(SETTINGS)
    os.environ.pop("RAY_ADDRESS", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if in_main:
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _engine_log(on_event: Callable[[str], None]) -> Iterator[None]:
    """Flower's own log, off the terminal; the first line of a new error goes to `on_event`."""
    logger = logging.getLogger("flwr")
    handler = _FirstLines(on_event)
    kept, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = kept, propagate


class _FirstLines(logging.Handler):
    def __init__(self, on_event: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._on_event = on_event
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage().strip().partition("\n")[0]
        if text and not text.startswith("Traceback") and text not in self._told:
            self._told.add(text)
            self._on_event(f"Flower's engine: {text}")
