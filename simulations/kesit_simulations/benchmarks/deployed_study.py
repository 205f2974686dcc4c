"""Kesit's side of the deployment benchmark: whole studies over real processes, and empty rounds."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Message  # isort: skip
from flwr.serverapp import Grid  # isort: skip
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects  # isort: skip

from kesit_client.owner import approvals
from kesit_privacy.study_file import load_study
from kesit_privacy.wire import HELLO, REQUEST
from kesit_server.courier import Courier, Patience
from kesit_server.deployment import studies
from kesit_server.deployment.flower_internals import RunGrid
from kesit_server.deployment.runs import POLL_SECONDS, on_superlink
from kesit_simulations import retail_bank
from kesit_simulations import studies as examples
from kesit_simulations.benchmarks.report import Tell
from kesit_simulations.deployed import Deployed
from kesit_simulations.errors import SimulationError

PAUSE_SECONDS = 0.3
"""Between two empty rounds, so that each finds the nodes waiting."""

ANSWER_SECONDS = 60.0
"""Longest wait for the answers of one round."""


@dataclass(frozen=True)
class StudyRun:
    """What one study took.

    Attributes:
        rounds: seconds of each message to all members and their answers, in order.
        messages_seconds: from the first message to the last answer, with what the server and the
            members compute meanwhile.
        portrait_seconds: what the server computes afterwards, without any message.
        lengths: numbers in each sum.
        sent, received: bytes of all messages, as Flower writes them.
    """

    rounds: tuple[float, ...]
    messages_seconds: float
    portrait_seconds: float
    lengths: tuple[int, ...]
    sent: int
    received: int


@dataclass(frozen=True)
class KesitTimes:
    """What Kesit's side took: its studies, and seconds of each round of an empty message."""

    studies: tuple[StudyRun, ...]
    empty: tuple[float, ...]

    @property
    def messages(self) -> int:
        """Messages a client of one study."""
        return len(self.studies[0].rounds)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers in each sum of one study."""
        return self.studies[0].lengths

    @property
    def seconds(self) -> float:
        """Of a study's messages: the median."""
        return statistics.median(run.messages_seconds for run in self.studies)


def measure(
    folder: Path, nodes: int, customers: int, repeats: int, empty: int, tell: Tell
) -> KesitTimes:
    """Run studies of `customers` over `nodes` members, and `empty` rounds of an empty message.

    Raises:
        KesitError: a process does not start, or a study fails.
    """
    folder.mkdir(parents=True)
    files = _write_studies(folder, customers, repeats)
    tell(f"deployment: starting Kesit's server and {nodes} members")
    with Deployed.make(
        folder / "federation", files[0], _tables(nodes, customers), "customer_id"
    ) as place:
        for file in files[1:]:  # a study's budget can be spent once
            for name in place.names:
                approvals.approve(place.home(name), file, load_study(file).hash)
        place.start()
        runs = []
        for turn, file in enumerate(files):
            tell(f"deployment: Kesit's study {turn + 1} of {repeats}")
            runs.append(_study(place, file))
        tell(f"deployment: {empty} empty rounds over Kesit's nodes")
        rounds = on_superlink(
            place.coordinator.superlink, lambda grid: _empty_rounds(grid, nodes, empty)
        )
    return KesitTimes(tuple(runs), tuple(rounds))


def _write_studies(folder: Path, customers: int, repeats: int) -> list[Path]:
    """The invented bank's study for so many customers, under a name of its own each time."""
    files = []
    for turn in range(repeats):
        text = examples.text(examples.DEMO)
        fields = {"declared_customers": str(customers), "name": f'"bench {turn + 1}"'}
        for key, value in fields.items():
            text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1)
        files.append(folder / f"study-{turn + 1}.toml")
        files[-1].write_text(text, encoding="utf-8")
    return files


def _tables(nodes: int, customers: int) -> Mapping[str, pl.DataFrame]:
    """Customers of the bank's largest units, with one unit a member."""
    units = sorted(retail_bank.UNITS, key=lambda name: -retail_bank.UNITS[name].share)[:nodes]
    rows = retail_bank.generate(2 * customers).filter(pl.col("unit").is_in(units))
    kept = rows.head(customers)
    return {unit: kept.filter(pl.col("unit") == unit) for unit in units}


@dataclass
class _Watched:
    """What passed a courier and a grid: (begin, end) of each round, and the messages."""

    asks: list[tuple[float, float]] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)
    received: list[Message] = field(default_factory=list)


@contextmanager
def _watched() -> Iterator[_Watched]:
    seen = _Watched()
    ask, push, pull = Courier.ask, RunGrid.push_messages, RunGrid.pull_messages

    def asked(courier: Courier, *arguments: Any) -> Any:
        begun = time.monotonic()
        replies = ask(courier, *arguments)
        seen.asks.append((begun, time.monotonic()))
        return replies

    def pushed(grid: RunGrid, messages: Iterable[Message]) -> Iterable[str]:
        out = list(messages)
        seen.sent += out
        return push(grid, out)

    def pulled(grid: RunGrid, names: Iterable[str]) -> Iterable[Message]:
        found = list(pull(grid, names))
        seen.received += found
        return found

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Courier, "ask", asked))
        stack.enter_context(mock.patch.object(RunGrid, "push_messages", pushed))
        stack.enter_context(mock.patch.object(RunGrid, "pull_messages", pulled))
        yield seen


def _study(place: Deployed, file: Path) -> StudyRun:
    with _watched() as seen:
        ran = studies.start(place.coordinator, file)
        ended = time.monotonic()
    first, last = seen.asks[0][0], seen.asks[-1][1]
    return StudyRun(
        rounds=tuple(end - begin for begin, end in seen.asks),
        messages_seconds=last - first,
        portrait_seconds=ended - last,
        lengths=tuple(len(one.values) + len(one.canaries) for one in ran.federation.sums),
        sent=sum(map(_bytes, seen.sent)),
        received=sum(map(_bytes, seen.received)),
    )


def _empty_rounds(grid: Grid, nodes: int, count: int) -> list[float]:
    """Seconds of each round of an empty hello, which every member refuses; the first, in which
    the nodes look up the run, is left out."""
    courier = Courier(grid, Patience(seconds=ANSWER_SECONDS, poll_seconds=POLL_SECONDS))
    known = sorted(grid.get_node_ids())
    spent = []
    for _ in range(count + 1):
        begun = time.monotonic()
        replies = courier.ask(HELLO, {REQUEST: b""}, known)
        spent.append(time.monotonic() - begun)
        if len(replies) != nodes:
            raise SimulationError(
                f"{len(replies)} of {nodes} nodes answered an empty message.",
                remedy="Run it again; if it persists, report it as a bug in Kesit.",
            )
        time.sleep(PAUSE_SECONDS)
    return spent[1:]


def _bytes(message: Message) -> int:
    return sum(len(part.deflate()) for part in get_all_nested_objects(message).values())
