"""A node's life without a network: joining, waiting, its memory, its supervisor."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from kesit_client.deployment import flower_internals as flower
from kesit_client.deployment import node_loop, supervise
from kesit_client.deployment.memory import Memory
from kesit_client.deployment.node_loop import Event, Link
from kesit_client.deployment.stopping import Interrupted, Stop
from kesit_client.errors import AdmissionError, LinkError
from kesit_privacy.errors import KesitError, StudyError
from kit import broken


@dataclass
class Server:
    """A SuperLink as a node sees it. `known`: the id of the node's key; None if not admitted."""

    known: int | None = 7
    online: bool = False
    failures: list[type[Exception]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    told: Stop | None = None

    def connection(self) -> flower.FleetConnection:
        server = self

        class Connection(flower.FleetConnection):
            def activate(self) -> int:
                server.take("activate")
                if server.known is None or server.online:
                    raise flower.ActivationRefusedError
                server.online = True
                self.node_id = server.known
                return self.node_id

            def heartbeat(self) -> None:
                server.take("heartbeat")
                if self.node_id != server.known:
                    raise flower.UnknownNodeError
                server.online = True

            def receive(self) -> None:
                server.take("receive")
                if server.told and server.asked.count("receive") == 2:
                    server.told.requested = True

        # No client: none of the calls that are left goes to one.
        return Connection(None, b"", flower._Bell())  # type: ignore[arg-type]

    def take(self, call: str) -> None:
        self.asked.append(call)
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory"


def join(
    server: Server, path: Path, seconds: float = 0.0, stop: Stop | None = None
) -> tuple[bool, list[Event]]:
    """One start of a node."""
    events: list[Event] = []
    with Memory.open(path) as memory:
        return loop_of(server, path, events, stop or Stop()).join(memory, seconds), events


def loop_of(server: Server, path: Path, events: list[Event], stop: Stop) -> node_loop._Loop:
    """A node's loop without a key or an app: nothing is signed here, and no message comes."""
    link = Link("server:1", b"", None, path)  # type: ignore[arg-type]  (no key)
    connection = server.connection()
    return node_loop._Loop(link, connection, None, events.append, stop)  # type: ignore[arg-type]  (no app)


def test_the_first_start_activates_and_the_next_ones_resume(path: Path) -> None:
    server = Server()
    assert join(server, path)[0]
    assert join(server, path)[0]  # online still, as after a crash
    assert server.asked == ["activate", "heartbeat"]


def test_an_unknown_key_is_refused_at_once_and_leaves_no_trace(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(flower.UnknownNodeError):
            join(Server(known=None), path, 1000.0)
    assert join(Server(), path)[0]


def test_a_revoked_key_is_refused_at_once(path: Path) -> None:
    server = Server()
    join(server, path)
    server.known = None
    with pytest.raises(flower.UnknownNodeError):
        join(server, path, 1000.0)


def test_a_new_server_gives_a_new_id(path: Path) -> None:
    join(Server(), path)
    server = Server(known=8)
    assert join(server, path)[0]
    assert server.asked == ["heartbeat", "activate"]
    assert path.read_bytes().strip() == b"8"


def test_an_activation_whose_answer_was_lost_is_waited_for(path: Path) -> None:
    path.write_bytes(b"trying")
    server = Server(online=True)
    with pytest.raises(flower.UnknownNodeError):
        join(server, path, 0.0)
    path.write_bytes(b"trying")
    calls = iter([True, True, False])
    server = Server()
    server.take = lambda call: setattr(server, "online", next(calls))  # type: ignore[method-assign]
    joined, events = join(server, path, 1000.0)
    assert joined
    assert [event.kind for event in events] == ["waiting", "waiting", "connected"]


def test_a_server_that_is_away_is_waited_for(path: Path) -> None:
    server = Server(failures=[flower.UnreachableError, flower.UnavailableError])
    joined, events = join(server, path, 0.0)
    assert joined
    assert [event.kind for event in events] == ["waiting", "waiting", "connected"]


def test_a_node_that_comes_back_is_online_before_it_says_so(path: Path) -> None:
    """Else a run that begins right then would leave it out."""
    stop = Stop()
    server, events = Server(failures=[flower.UnavailableError], told=stop), list[Event]()
    loop = loop_of(server, path, events, stop)
    loop.connection.node_id = 7
    loop.attend()
    assert server.asked == ["receive", "heartbeat", "receive"]
    assert [event.kind for event in events] == ["waiting", "connected"]


def test_a_node_that_is_stopped_before_it_joined(path: Path) -> None:
    assert not join(Server(), path, stop=Stop(requested=True))[0]
    server = Server(failures=[Interrupted])  # type: ignore[list-item]
    assert not join(server, path)[0]


def test_one_process_at_a_time(path: Path) -> None:
    with (
        Memory.open(path),
        pytest.raises(LinkError, match="runs already") as error,
        Memory.open(path),
    ):
        pass
    broken(error)
    with pytest.raises(LinkError, match="cannot be written"), Memory.open(path / "below"):
        pass


def test_backoffs_double_up_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Stop, "pause", lambda self, seconds: pauses.append(seconds))
    backoff = node_loop._Backoff(Stop())
    for _ in range(12):
        backoff.pause()
    assert 0.125 <= pauses[0] <= 0.25
    assert all(5.0 <= pause <= 10.0 for pause in pauses[-4:])
    assert len(set(pauses)) == 12  # by chance, so that nodes do not come back all at once


def test_certificates_and_addresses_that_are_none(path: Path) -> None:
    key = None
    with pytest.raises(LinkError, match="no PEM certificates") as error:
        node_loop.run_node(Link("server:1", b"rubbish", key, path), stop=Stop())  # type: ignore[arg-type]
    broken(error)


def test_a_signal_asks_to_stop_and_breaks_off_a_wait() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = Stop.on_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        stop = Stop.on_signals()
        with pytest.raises(Interrupted):
            _wait_and_be_told(stop)
        assert stop.requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_and_be_told(stop: Stop) -> None:
    with stop.interrupting():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def _dies(path: Path, times: int, how: Callable[[], None]) -> None:
    """A child that dies the first `times` times."""
    with path.open("a") as file:
        file.write("x")
    if len(path.read_text()) <= times:
        how()


def _by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _by_exit() -> None:
    sys.exit(5)


def _by_error() -> None:
    raise AdmissionError("Not admitted.", remedy="Ask.")


def _by_study_error() -> None:
    raise StudyError("field", "cause.", remedy="Mend it.")


@pytest.mark.parametrize(("how", "told"), [(_by_signal, "by signal 9"), (_by_exit, "with code 5")])
def test_a_child_that_dies_is_started_again(path: Path, how: Callable[[], None], told: str) -> None:
    events: list[Event] = []
    supervise.supervise(partial(_dies, path, 2, how), on_message=events.append, stop=Stop())
    assert path.read_text() == "xxx"
    assert [event.kind for event in events] == ["restarting"] * 2
    assert told in events[0].text
    assert "again in 1 s" in events[0].text
    assert "again in 2 s" in events[1].text


@pytest.mark.parametrize(
    ("how", "kind"), [(_by_error, AdmissionError), (_by_study_error, StudyError)]
)
def test_a_clear_error_is_passed_on_and_nothing_is_started_again(
    path: Path, how: Callable[[], None], kind: type[KesitError]
) -> None:
    with pytest.raises(kind) as error:
        supervise.supervise(partial(_dies, path, 9, how), stop=Stop())
    assert path.read_text() == "x"
    assert error.value.remedy in ("Ask.", "Mend it.")
    broken(error)
