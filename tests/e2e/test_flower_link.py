"""Real processes on loopback: a SuperLink with TLS, nodes, and runs of this very process."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import kesit_privacy.quiet  # noqa: F401  (before Flower)

from flwr.app import Message  # isort: skip
from flwr.common.constant import ErrorCode  # isort: skip
from flwr.proto.control_pb2 import ListRunsRequest  # isort: skip
from flwr.serverapp import Grid  # isort: skip

from deploykit import (
    MEMBERS,
    Authority,
    Federation,
    ask,
    data_of,
    eventually,
    federation,
)
from kesit_client.deployment.flower_internals import FAILED
from kesit_privacy.bundle import POINTER, POINTER_HASH, pack
from kesit_privacy.wire import RefusalCode
from kesit_server.app import Coordination, coordinate
from kesit_server.courier import Patience
from kesit_server.deployment import flower_internals, nodes
from kesit_server.deployment.door import Door
from kesit_server.deployment.runs import POLL_SECONDS, on_superlink
from kesit_server.errors import DeploymentError
from kesit_server.federation import Federation as Federated
from kesit_server.segmentation.segmenter import Segmentation
from kit import SERVER, small_study


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path) as made:
        yield made


def online(place: Federation, *names: str) -> None:
    eventually(lambda: place.online() == set(names))


def run(place: Federation, data: bytes = b"abc") -> list[Message]:
    """One run that asks every node once."""
    return on_superlink(place.home, lambda grid: ask(grid, data, list(grid.get_node_ids())))


def works(place: Federation, *names: str) -> None:
    """A run reaches exactly these nodes."""
    online(place, *names)
    assert [data_of(reply) for reply in run(place)] == [b"cba"] * len(names)


def test_a_run_goes_round_and_ends_where_everybody_sees_it(place: Federation) -> None:
    server = place.superlink()
    place.admit("a")
    place.admit("b")
    children = [place.node("a"), place.node("b")]
    works(place, "a", "b")

    def failing(grid: Grid) -> None:
        raise KeyError("the work failed")

    with pytest.raises(KeyError, match="the work failed"):
        on_superlink(place.home, failing)
    with flower_internals.control_client(place.door) as control:
        runs = control.ListRuns(ListRunsRequest()).run_dict.values()
        ended = sorted((run.status.status, run.status.sub_status) for run in runs)
    assert ended == [("finished", "completed"), ("finished", "failed")]
    with sqlite3.connect(place.home / "superlink.sqlite") as database:  # nothing stays behind
        for table in ("objects", "message_ins", "message_res"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    database.close()
    assert {(node.name, node.status) for node in nodes.nodes(place.door)} == {
        ("a", "online"),
        ("b", "online"),
    }
    assert [child.stop() for child in children] == [0, 0]
    assert place.online() == set()
    assert server.stop() == 0
    with pytest.raises(DeploymentError, match="no server runs"):
        _ = place.door


def test_the_installed_app_answers_and_no_text_of_an_exception_leaves(place: Federation) -> None:
    place.superlink()
    place.admit("kesit")
    place.node("kesit", app="installed")
    online(place, "kesit")
    (reply,) = run(place)  # this node has no folder, so its app raises a KeyError
    assert data_of(reply) == bytes([RefusalCode.INTERNAL])


def test_messages_that_wait_together_are_fetched_one_after_the_other(place: Federation) -> None:
    """The server gives out one at a time, and rings once for all: no ring may be waited for."""
    place.superlink(holding=3600.0)
    node = place.admit("a")
    place.node("a")
    online(place, "a")
    replies = on_superlink(place.home, lambda grid: ask(grid, b"abc", [node] * 3, 40.0))
    assert [data_of(reply) for reply in replies] == [b"cba"] * 3


def test_an_app_that_raises_sends_an_error_of_fixed_text(place: Federation) -> None:
    place.superlink()
    place.admit("a")
    node = place.node("a")
    online(place, "a")
    (reply,) = run(place, b"raise")
    assert (reply.error.code, reply.error.reason) == (FAILED.code, FAILED.reason)
    assert "4711" not in node.text
    works(place, "a")


@pytest.mark.slow
def test_a_whole_study_over_the_wire(place: Federation) -> None:
    place.superlink()
    names = [f"member-{number}" for number in range(MEMBERS)]
    for name in names:
        place.admit(name)
        place.node(name, app=name)
    online(place, *names)
    ended: list[tuple[Federated, Segmentation]] = []
    plan = Coordination(
        study=small_study(),
        identity=SERVER,
        finish=lambda *result: ended.append(result),
        patience=Patience(seconds=60.0, asks=3, poll_seconds=POLL_SECONDS),
        simulated=True,
        seed=1,
    )
    on_superlink(place.home, lambda grid: coordinate(grid, plan))
    ((federated, _),) = ended
    assert [len(opened.roster) for opened in federated.orders] == [MEMBERS] * len(federated.orders)


TRICKS = [
    "/v1/control/list-nodes",
    "/v1/runtime/acquire-task",
    "//v1/control/list-nodes",
    "/v1/fleet/../control/list-nodes",
    "/v1/fleet/../runtime/acquire-task",
    "/v1/fleet/%2e%2e/control/list-nodes",
    "/v1/fleet%2f..%2fcontrol/list-nodes",
    "/%76%31/control/list-nodes",
    "/v1/%66leet/pull-messages",
    "/v1/fleet/pull-messages/",
    "/v1/fleet//pull-messages",
    "/v1/fleet/pull-messages%00",
    "/v1/fleet/pull-messages;x",
    "/v1/fleet/",
    "/V1/FLEET/PULL-MESSAGES",
    "https://127.0.0.1/v1/control/list-nodes",
    "/kesit/ring",
    "/docs",
    "/openapi.json",
    "/health",
    "/",
]


def exchange(place: Federation, request: bytes) -> bytes:
    """The answer to raw bytes on the public port."""
    context = ssl.create_default_context(cafile=str(place.authority.root_file))
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    with (
        socket.create_connection(("127.0.0.1", place.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (part := secure.recv(65536)):
            answer += part
        return answer


def post(path: str, extra: str = "") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n{extra}\r\n"
    ).encode()


def test_only_fleet_is_reachable_from_outside(place: Federation) -> None:
    place.superlink()
    for path in TRICKS:
        answer = exchange(place, post(path))
        assert answer.split()[1] in (b"404", b"400"), (path, answer)
        assert b"content-length: 0\r\n" in answer or answer.split()[1] == b"400", (path, answer)
    for method in ("GET", "PUT", "OPTIONS", "CONNECT"):
        request = post("/v1/fleet/pull-messages").replace(b"POST", method.encode(), 1)
        assert exchange(place, request).split()[1] in (b"404", b"400"), method
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YWJj\r\n"
    request = post("/v1/control/list-nodes", upgrade).replace(b"POST", b"GET", 1)
    request = request.replace(b"Connection: close", b"Connection: Upgrade, close")
    assert exchange(place, request).split()[1] in (b"404", b"400")
    answered = exchange(place, post("/v1/fleet/pull-messages"))
    assert answered.split()[1] not in (b"404", b"200")  # Flower itself refuses an empty body
    huge = post("/v1/fleet/pull-messages").replace(b"Length: 0", b"Length: 99999999")
    assert exchange(place, huge).split()[1] == b"413"


def test_the_loopback_port_is_for_those_who_can_read_the_door_file(place: Federation) -> None:
    place.superlink()
    assert (place.home / "door.json").stat().st_mode & 0o077 == 0
    assert place.home.stat().st_mode & 0o077 == 0
    door = place.door
    with socket.create_connection(("127.0.0.1", door.port), timeout=10) as plain:
        plain.sendall(post("/v1/control/list-nodes"))
        assert plain.recv(4096).split()[1] == b"404"
    with pytest.raises(DeploymentError, match="refuses"):
        nodes.nodes(Door(door.port, "a" * 43))
    assert nodes.nodes(door) == []


def test_nodes_that_cannot_be_let_in_end_with_one_clear_error(place: Federation) -> None:
    place.superlink()
    stranger = place.node("stranger")
    other = Authority.new(place.folder / "other")
    misled = place.node("misled", root=other.root_file)
    assert stranger.wait() == 3
    assert "error AdmissionError" in stranger.text
    assert misled.wait() == 3
    assert "error CertificateError" in misled.text
    assert "not trusted" in misled.text
    again = place.node("stranger")  # an earlier refusal leaves no trace
    assert again.wait() == 3
    assert "error AdmissionError" in again.text


def test_an_expired_certificate_is_named(place: Federation) -> None:
    place.superlink(place.authority.leaf(days=-0.5))
    node = place.node("a")
    assert node.wait() == 3
    assert "error CertificateError" in node.text
    assert "has expired" in node.text


def test_keys_that_cannot_be_admitted(place: Federation) -> None:
    place.superlink()
    node = place.admit("a")
    with pytest.raises(DeploymentError, match="refuses"):
        place.admit("a")
    with pytest.raises(DeploymentError, match="P-384"):
        nodes.admit(place.door, b"ssh-ed25519 AAAA", "b")
    with pytest.raises(DeploymentError, match="refuses"):
        nodes.revoke(place.door, node + 1)
    nodes.revoke(place.door, node)
    with pytest.raises(DeploymentError, match="refuses"):
        place.admit("a")  # never again


def test_a_bundle_that_is_not_pinned_is_refused_before_any_import(place: Federation) -> None:
    place.superlink()
    place.admit("a")
    node = place.node("a")
    online(place, "a")
    marker = place.folder / "imported"
    shadow = f"open({str(marker)!r}, 'w').close()\n".encode()
    project = POINTER[POINTER.index(b"[project]") : POINTER.index(b"PK", 40)]
    at = POINTER.index(b"PK\x01\x02") + 4  # the version of the tool that made the archive
    for bundle in (
        POINTER[:at] + bytes([POINTER[at] ^ 1]) + POINTER[at + 1 :],
        pack(
            {
                "pyproject.toml": project,
                "kesit_privacy/__init__.py": shadow,
                "kesit_client/__init__.py": shadow,
                "kesit_client/app.py": shadow,
            }
        ),
    ):
        digest = hashlib.sha256(bundle).hexdigest()
        assert digest != POINTER_HASH
        (reply,) = on_superlink(
            place.home,
            lambda grid: ask(grid, b"abc", list(grid.get_node_ids())),
            bundle=bundle,
            bundle_hash=digest,
        )
        assert reply.error.code == ErrorCode.INVALID_FAB
    assert node.says("refused") == 2
    assert not marker.exists()
    works(place, "a")
    assert not marker.exists()


def test_a_revoked_node_ends(place: Federation) -> None:
    place.superlink()
    node_id = place.admit("a")
    node = place.node("a")
    online(place, "a")
    nodes.revoke(place.door, node_id)
    assert node.wait() == 3
    assert "error AdmissionError" in node.text
    again = place.node("a")
    assert again.wait() == 3
    assert "error AdmissionError" in again.text


@pytest.mark.slow
def test_a_superlink_that_was_killed_comes_back_to_its_nodes(place: Federation) -> None:
    leaf = place.authority.leaf()
    server = place.superlink(leaf)
    place.admit("a")
    node = place.node("a")
    works(place, "a")
    with pytest.raises(DeploymentError, match="went away"):
        on_superlink(place.home, lambda grid: (server.kill(), list(grid.get_node_ids())))
    eventually(lambda: node.says("waiting") > 0)
    place.superlink(leaf)
    eventually(lambda: node.says("connected") == 2)
    works(place, "a")


def test_a_run_whose_coordinator_died_is_ended_by_the_next(place: Federation) -> None:
    place.superlink()
    place.admit("a")
    place.node("a")
    with flower_internals.control_client(place.door) as control:
        flower_internals.start_run(control, POINTER, POINTER_HASH)
    works(place, "a")


def test_a_node_waits_for_a_server_that_is_not_there_yet(place: Federation) -> None:
    leaf = place.authority.leaf()
    server = place.superlink(leaf)
    place.admit("a")
    server.stop()
    node = place.node("a")
    eventually(lambda: node.says("waiting") > 0)
    place.superlink(leaf)
    works(place, "a")


def test_no_node_is_answered_before_the_server_is_prepared(place: Federation) -> None:
    """Until the members' keys are registered, a node that waits would be turned away for good."""
    leaf = place.authority.leaf()
    node = place.node("a")
    eventually(lambda: node.says("waiting") > 0)
    server = place.superlink(leaf, preparing=4.0)
    time.sleep(3.0)  # the node has come by meanwhile, whose pauses are that short at first
    assert "ready" not in server.text
    place.admit("a")
    works(place, "a")


def test_a_node_that_was_killed_is_back_at_once(place: Federation) -> None:
    place.superlink()
    place.admit("a")
    node = place.node("a")
    works(place, "a")
    node.kill()
    back = place.node("a")
    eventually(lambda: back.says("connected") == 1)
    assert back.says("waiting") == 0
    works(place, "a")
    twice = place.node("a")
    assert twice.wait() == 3
    assert "runs already" in twice.text


@pytest.mark.slow
def test_a_killed_node_that_lost_its_memory_gets_in_again(place: Federation) -> None:
    place.superlink()
    place.admit("a")
    node = place.node("a")
    works(place, "a")
    node.kill()
    (place.folder / "a.memory").write_bytes(b"trying")  # as if killed before the answer came
    back = place.node("a")
    eventually(lambda: back.says("connected") == 1)
    assert back.says("waiting") > 0
    works(place, "a")


@pytest.mark.slow
def test_a_crashed_node_is_started_again_by_its_supervisor(place: Federation) -> None:
    place.superlink()
    place.admit("a")
    node = place.node("a", supervised=True)
    online(place, "a")

    def crash(grid: Grid) -> None:
        with pytest.raises(AssertionError, match="0 of 1"):
            ask(grid, b"crash", list(grid.get_node_ids()), 3.0)

    on_superlink(place.home, crash)
    eventually(lambda: node.says("connected") == 2)
    assert node.says("restarting") == 1
    works(place, "a")
    assert node.stop() == 0
    assert place.online() == set()
    node = place.node("a", supervised=True)
    online(place, "a")
    node.kill()  # the supervisor alone; its node must not run on unseen
    online(place)
    stranger = place.node("stranger", supervised=True)
    assert stranger.wait() == 3
    assert stranger.says("restarting") == 0
    assert stranger.text.count("error AdmissionError") == 1
