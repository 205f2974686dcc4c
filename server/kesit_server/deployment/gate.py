"""Two thin gates around the SuperLink's one application.

Flower serves nodes (`/v1/fleet`), operators (`/v1/control`) and executors (`/v1/runtime`) on one
port and authenticates only the first. So strangers are let through to the first alone, and the
rest is for processes of this machine that can read the door file.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import MutableMapping
from typing import Any

from kesit_privacy.wire import COMPLETE
from kesit_server.deployment.bell import Application, Bell, Receive, Scope, Send, header, held

FLEET = re.compile(rb"/v1/fleet/[a-z]+(-[a-z]+)*")
"""All that is served in public: one plain word after the prefix, as it came over the wire."""

MAX_REQUEST_BYTES = 16 * 2**20
"""A request is read whole before its sender is known, so it has a limit."""

RING = "/kesit/ring"
"""Where the coordinator tells that messages have arrived whole."""

TOKEN = b"kesit-door-token"
"""The header by which a process of this machine shows that it can read the door file."""


class FleetGate:
    """Serves `/v1/fleet/...` by POST; anything else is an empty 404.

    The path is compared as it came, before any decoding: a percent sign, a dot or a double slash
    matches nothing, so no two layers can disagree about what a path means.

    A node that waits for messages is held until `messages` rings; `replies` is rung when a node's
    reply has arrived whole.
    """

    def __init__(self, app: Application, messages: Bell, replies: Bell) -> None:
        self._app = app
        self._messages = messages
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        status = self._refusal(scope)
        if status:
            await _answer(send, status)
        elif scope["path"] == "/v1/fleet/pull-messages":
            await held(self._app, self._messages, scope, receive, send)
        else:
            await self._passed(scope, receive, send)

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        statuses: list[int] = []

        async def noted(event: MutableMapping[str, Any]) -> None:
            if event["type"] == "http.response.start":
                statuses.append(event["status"])
            await send(event)

        await self._app(scope, receive, noted)
        if statuses == [200] and header(scope, COMPLETE) is not None:  # so it was authenticated
            self._replies.ring()

    @staticmethod
    def _refusal(scope: Scope) -> int:
        """The status of a refusal, 0 for none."""
        raw = scope.get("raw_path") or b""
        path = str(scope["path"]).encode("utf-8", "surrogateescape")
        if scope["method"] != "POST" or raw != path or not FLEET.fullmatch(raw):
            return 404
        length = header(scope, "content-length") or b""
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        if chunked or not length.isdigit():
            return 411
        return 413 if int(length) > MAX_REQUEST_BYTES else 0


class LoopbackGate:
    """Serves everything, to peers on loopback that show the door's token."""

    def __init__(self, app: Application, token: str, messages: Bell, replies: Bell) -> None:
        self._app = app
        self._token = token.encode()
        self._messages = messages
        self._replies = replies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        peer = scope.get("client") or ("", 0)
        known = hmac.compare_digest(header(scope, TOKEN.decode()) or b"", self._token)
        if peer[0] != "127.0.0.1" or not known:
            await _answer(send, 404)
        elif scope["path"] == RING:
            self._messages.ring()
            await _answer(send, 204)
        elif scope["path"] == "/v1/runtime/pull-messages":
            await held(self._app, self._replies, scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _answer(send: Send, status: int) -> None:
    headers = [] if status == 204 else [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
