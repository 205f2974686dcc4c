"""The gates around the SuperLink and the bells, without Flower and without sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kesit_privacy.wire import COMPLETE, MARK, SEEN
from kesit_server.deployment.bell import Bell, Event, Receive, Scope, Send, held
from kesit_server.deployment.gate import MAX_REQUEST_BYTES, RING, TOKEN, FleetGate, LoopbackGate


class App:
    """An application that records what reaches it."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[bytes] = []
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive()).get("body", b""))
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


def scope_of(path: str, *, raw: bytes | None = None, **more: Any) -> Scope:
    headers = {"content-length": "0", **more.pop("headers", {})}
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode() if raw is None else raw,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 5),
        **more,
    }


async def call(app: Any, scope: Scope, *events: Event, forever: bool = True) -> list[Event]:
    """What `app` sends for a request."""
    sent: list[Event] = []
    coming = list(events or [{"type": "http.request", "body": b"body"}])

    async def receive() -> Event:
        if coming:
            return coming.pop(0)
        if forever:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(event: Event) -> None:
        sent.append(event)

    await app(scope, receive, send)
    return sent


def bells() -> tuple[Bell, Bell]:
    return Bell(0.2), Bell(0.2)


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (scope_of("/v1/fleet/push-object"), 200),
        (scope_of("/v1/fleet/pull-messages"), 200),
        (scope_of("/v1/control/list-nodes"), 404),
        (scope_of("/v1/runtime/acquire-task"), 404),
        (scope_of(RING), 404),
        (scope_of("//v1/fleet/push-object"), 404),
        (scope_of("/v1/fleet/../control/list-nodes"), 404),
        (scope_of("/v1/fleet/push-object", raw=b"/v1/fleet/push%2dobject"), 404),
        (scope_of("/v1/control/x", raw=b"/v1/fleet/push-object"), 404),
        (scope_of("/v1/fleet/push-object", raw=b""), 404),
        (scope_of("/v1/fleet/push-object\n"), 404),
        (scope_of("/v1/fleet/push-object", method="GET"), 404),
        (scope_of("/v1/fleet/push-object", headers={"content-length": "-1"}), 411),
        (scope_of("/v1/fleet/x", headers={"content-length": str(MAX_REQUEST_BYTES + 1)}), 413),
    ],
)
def test_what_passes_the_public_gate(scope: Scope, status: int) -> None:
    app = App()
    sent = asyncio.run(call(FleetGate(app, *bells()), scope))
    assert sent[0]["status"] == status
    assert bool(app.bodies) == (status == 200)
    if status != 200:
        assert sent[1]["body"] == b""


def test_websockets_and_lifespans_reach_nothing() -> None:
    app = App()
    socket = {**scope_of("/v1/fleet/push-object"), "type": "websocket"}
    assert asyncio.run(call(FleetGate(app, *bells()), socket))[0]["type"] == "websocket.close"
    door = LoopbackGate(app, "t", *bells())
    assert asyncio.run(call(door, socket))[0]["type"] == "websocket.close"
    assert asyncio.run(call(FleetGate(app, *bells()), {"type": "lifespan"})) == []
    assert app.bodies == []


@pytest.mark.parametrize(
    ("token", "peer", "status"),
    [
        ("secret", "127.0.0.1", 200),
        ("secreT", "127.0.0.1", 404),
        ("", "127.0.0.1", 404),
        ("secret", "10.0.0.1", 404),
        ("secret", None, 404),
    ],
)
def test_what_passes_the_loopback_gate(token: str, peer: str | None, status: int) -> None:
    app = App()
    scope = scope_of(
        "/v1/control/list-nodes",
        headers={TOKEN.decode(): token},
        client=(peer, 1) if peer else None,
    )
    sent = asyncio.run(call(LoopbackGate(app, "secret", *bells()), scope))
    assert sent[0]["status"] == status
    assert bool(app.bodies) == (status == 200)


def test_the_coordinator_rings_for_nodes_and_a_whole_reply_for_the_coordinator() -> None:
    messages, replies = bells()
    before = messages.mark, replies.mark
    ring = scope_of(RING, headers={TOKEN.decode(): "secret"})
    asyncio.run(call(LoopbackGate(App(), "secret", messages, replies), ring))
    assert messages.mark != before[0]
    for status, headers, rings in [(401, {COMPLETE: "1"}, False), (200, {}, False)]:
        gate = FleetGate(App(status), messages, replies)
        asyncio.run(call(gate, scope_of("/v1/fleet/push-object", headers=headers)))
        assert (replies.mark != before[1]) == rings
    gate = FleetGate(App(), messages, replies)
    asyncio.run(call(gate, scope_of("/v1/fleet/push-object", headers={COMPLETE: "1"})))
    assert replies.mark != before[1]


def waiting(bell: Bell, seen: bytes | None = None) -> Scope:
    return scope_of("/v1/fleet/pull-messages", headers={SEEN: (seen or bell.mark).decode()})


def test_a_request_is_held_until_the_bell_rings() -> None:
    async def run() -> None:
        bell, app = Bell(30.0), App()
        old = bell.mark
        parts = ({"type": "http.request", "body": b"whole", "more_body": False},)
        task = asyncio.create_task(call(lambda *a: held(app, bell, *a), waiting(bell), *parts))
        await asyncio.sleep(0.05)
        assert app.bodies == []
        bell.ring()
        sent = await asyncio.wait_for(task, 5)
        assert app.bodies == [b"whole"]
        assert (MARK.encode(), bell.mark) in sent[0]["headers"]
        assert bell.mark != old
        again = await call(lambda *a: held(app, bell, *a), waiting(bell, old))
        assert again[0]["status"] == 200  # there was news in between: no waiting

    asyncio.run(run())


def test_a_peer_that_left_gets_no_message() -> None:
    async def run() -> None:
        bell, app = Bell(30.0), App()
        sent = await call(lambda *a: held(app, bell, *a), waiting(bell), forever=False)
        assert (sent, app.bodies) == ([], [])

    asyncio.run(run())


def test_nobody_is_held_for_ever_or_after_closing() -> None:
    async def run() -> None:
        bell, app = Bell(0.05), App()
        assert await call(lambda *a: held(app, bell, *a), waiting(bell))
        bell = Bell(30.0)
        bell.close()
        assert await call(lambda *a: held(app, bell, *a), waiting(bell))

    asyncio.run(run())


def test_peers_that_know_no_bell_are_answered_at_once() -> None:
    async def run() -> None:
        bell, app = Bell(30.0), App()
        sent = await call(lambda *a: held(app, bell, *a), scope_of("/v1/fleet/pull-messages"))
        assert sent[0]["headers"] == []

    asyncio.run(run())
