"""Within the deadline the same bytes are asked for again; only a real outage starts an attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Error, Message, Metadata  # isort: skip
from flwr.app.message import make_message  # isort: skip
from flwr.common.constant import ErrorCode  # isort: skip

from kesit_client.app import make_app
from kesit_client.ledger.books import Charge
from kesit_client.node import Node
from kesit_privacy.embedding import Embedding
from kesit_privacy.instruction import SCALE_BITS
from kesit_privacy.noise import SeededNoise
from kesit_privacy.queries import Marginals
from kesit_privacy.wire import HELLO, SUM
from kesit_server.courier import Courier, Patience
from kesit_server.federation import Federation
from kesit_simulations.grid import SERVER_NODE, InProcessGrid
from kit import SERVER, mixed_study, random_codes, small_nodes

STUDY = mixed_study()
CODES = random_codes(STUDY, 50)
QUERY = Marginals(Embedding.of(STUDY), 16, SCALE_BITS)


class Run:
    """A federation in which `silent(kind, nth)` says whether node 3 misses its nth such message."""

    def __init__(self, silent: Callable[[str, int], bool], asks: int = 3) -> None:
        self.nodes = small_nodes(STUDY, CODES, clients=4, noise="off")
        self.heard: list[tuple[int, bytes]] = []
        asked: dict[str, int] = {}

        def misses(node: int, kind: str) -> bool:
            if node != 3:
                return False
            asked[kind] = asked.get(kind, 0) + 1
            return silent(kind, asked[kind])

        for place, node in enumerate(self.nodes):
            self._listen(place, node)
        self.app = make_app(
            lambda context: self.nodes[int(str(context.node_config["partition-id"]))]
        )
        grid = InProcessGrid(self.app, [2, 3, 4, 5], silent=misses)
        courier = Courier(grid, Patience(seconds=0, asks=asks))
        self.federation = Federation(courier, STUDY, SERVER, simulated=True)

    def _listen(self, place: int, node: Node) -> None:
        answer = node.answer

        def noted(request: bytes, transcript: bytes) -> bytes:
            self.heard.append((place, request))
            return answer(request, transcript)

        node.answer = noted  # type: ignore[method-assign]

    def charges(self, place: int) -> list[Charge]:
        with self.nodes[place].store.transaction() as books:
            return books.charges(self.federation.run)


def lattice(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 2.0**SCALE_BITS).astype(np.int64)


@pytest.mark.parametrize("kind", [HELLO, SUM])
@pytest.mark.parametrize("missed", [0, 1, 2])
def test_a_member_that_misses_a_message_is_asked_again(kind: str, missed: int) -> None:
    """It gets the same bytes, answers, and the first attempt opens with one charge for each."""
    run = Run(lambda what, nth: what == kind and nth <= missed)
    run.federation.hello()
    assert run.federation.members == 4
    opened = run.federation.sum("marginals", QUERY)
    assert (opened.attempt, opened.roster) == (1, 4)
    np.testing.assert_array_equal(lattice(opened.values), QUERY.sum(CODES))
    assert len({request for _, request in run.heard}) == 1
    assert sorted(place for place, _ in run.heard) == [0, 1, 2, 3]
    assert [len(run.charges(place)) for place in range(4)] == [1, 1, 1, 1]


def test_an_outage_starts_an_attempt_on_those_who_are_left() -> None:
    """After three silences: other bytes, a strictly smaller roster, and a second charge."""
    run = Run(lambda what, nth: what == SUM)
    run.federation.hello()
    opened = run.federation.sum("marginals", QUERY)
    assert (opened.attempt, opened.roster) == (2, 3)
    left = np.array_split(CODES, 4)
    present = np.concatenate([left[0], left[2], left[3]])
    np.testing.assert_array_equal(lattice(opened.values), QUERY.sum(present))
    first, second = run.federation.orders
    assert set(second.roster) < set(first.roster)
    assert len({request for _, request in run.heard}) == 2
    assert [len(run.charges(place)) for place in range(4)] == [2, 0, 2, 2]


class LosingGrid(InProcessGrid):
    """Loses the first reply of node 3 to each type of message, after the node answered."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.lost: set[str] = set()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            kind = message.metadata.message_type
            if message.metadata.src_node_id == 3 and kind not in self.lost:
                self.lost.add(kind)
            else:
                yield message


def test_a_reply_that_was_lost_comes_again_and_costs_nothing() -> None:
    """With noise on, so that a second computation would open as something else."""
    run = Run(lambda what, nth: False)
    for place, node in enumerate(run.nodes):
        node.noise = SeededNoise(place)
    run.federation.courier.grid = LosingGrid(run.app, [2, 3, 4, 5])
    run.federation.hello()
    opened = run.federation.sum("marginals", QUERY)
    assert opened.attempt == 1
    assert sorted(place for place, _ in run.heard) == [0, 1, 1, 2, 3]
    assert len({request for _, request in run.heard}) == 1
    assert [len(run.charges(place)) for place in range(4)] == [1, 1, 1, 1]
    noise = (opened.values - QUERY.sum(CODES) / 2.0**SCALE_BITS) / opened.sigma
    assert 0 < np.abs(noise).max() < 10


class LeavingGrid(InProcessGrid):
    """Node 3 goes away as the SuperLink tells it: in an error of its own that does not name the
    node, or, once the node is unregistered, by not taking the message."""

    def __init__(self, *parts: Any, unregistered: bool) -> None:
        super().__init__(*parts)
        self.unregistered, self.gone = unregistered, set[str]()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        every = list(messages)
        names = list(super().push_messages(every))
        left = [m.metadata.dst_node_id == 3 and m.metadata.message_type == SUM for m in every]
        self.gone |= {name for name, away in zip(names, left, strict=True) if away}
        away = self.gone if self.unregistered else set()
        return ["" if name in away else name for name in names]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        for message in super().pull_messages(message_ids):
            asked = message.metadata.reply_to_message_id
            if asked in self.gone:
                error = Error(ErrorCode.NODE_UNAVAILABLE, "gone")
                parts = {**message.metadata.__dict__, "_src_node_id": SERVER_NODE}
                told = Metadata.__new__(Metadata)
                told.__dict__.update(parts)
                yield make_message(told, error=error)
            else:
                yield message


@pytest.mark.parametrize("unregistered", [False, True])
def test_a_node_that_goes_away_costs_an_attempt_and_not_the_run(unregistered: bool) -> None:
    run = Run(lambda what, nth: False)
    grid = LeavingGrid(run.app, [2, 3, 4, 5], unregistered=unregistered)
    run.federation.courier.grid = grid
    run.federation.hello()
    opened = run.federation.sum("marginals", QUERY)
    assert (opened.attempt, opened.roster) == (2, 3)
    assert grid.gone


@pytest.mark.parametrize(
    "broken",
    [b"", b"\x00", b"\x00" + bytes(8), b"\x63", b"\x08customer 4711", b"\x00" + bytes(8 * 10**5)],
)
def test_a_reply_that_breaks_the_format_counts_as_an_outage(broken: bytes) -> None:
    run = Run(lambda what, nth: False)
    run.nodes[1].answer = lambda request, transcript: broken  # type: ignore[method-assign]
    run.federation.hello()
    opened = run.federation.sum("marginals", QUERY)
    assert (opened.attempt, opened.roster) == (2, 3)
    assert run.nodes[1].me not in run.federation.orders[1].roster


@pytest.mark.parametrize("broken", [b"", b"\x00", b"\x00{}", b"\x00[1]", b"\x63", b"\x08text"])
def test_a_hello_that_breaks_the_format_is_left_out(broken: bytes) -> None:
    run = Run(lambda what, nth: False)
    run.nodes[1].hello = lambda request: broken  # type: ignore[method-assign]
    run.federation.hello()
    assert run.federation.members == 3
    assert run.federation.sum("marginals", QUERY).attempt == 1
