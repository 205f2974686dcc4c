"""Two thin gates around the SuperLink's one application.

Flower serves nodes (`/v1/fleet`), operators (`/v1/control`) and executors (`/v1/runtime`) on one
port and authenticates only the first. So strangers are let through to the first alone, and the
rest is for processes of this machine that can read the door file.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

FLEET = re.compile(rb"/v1/fleet/[a-z]+(-[a-z]+)*")
"""All that is served in public: one plain word after the prefix, as it came over the wire."""

MAX_REQUEST_BYTES = 16 * 2**20
"""A request is read whole before its sender is known, so it has a limit."""

TOKEN = b"kesit-door-token"
"""The header by which a process of this machine shows that it can read the door file."""


class FleetGate:
    """Serves `/v1/fleet/...` by POST; anything else is an empty 404.

    The path is compared as it came, before any decoding: a percent sign, a dot or a double slash
    matches nothing, so no two layers can disagree about what a path means.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            return
        status = self._refusal(scope)
        if status:
            await _answer(send, status)
        else:
            await self._app(scope, receive, send)

    @staticmethod
    def _refusal(scope: Scope) -> int:
        """The status of a refusal, 0 for none."""
        raw = scope.get("raw_path") or b""
        path = str(scope["path"]).encode("utf-8", "surrogateescape")
        if scope["method"] != "POST" or raw != path or not FLEET.fullmatch(raw):
            return 404
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(lengths) != 1 or not lengths[0].isdigit():
            return 411
        return 413 if int(lengths[0]) > MAX_REQUEST_BYTES else 0


class LoopbackGate:
    """Serves everything, to peers on loopback that show the door's token."""

    def __init__(self, app: Application, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        peer = scope.get("client") or ("", 0)
        shown = [value for name, value in scope["headers"] if name == TOKEN]
        known = len(shown) == 1 and hmac.compare_digest(shown[0], self._token)
        if peer[0] != "127.0.0.1" or not known:
            await _answer(send, 404)
        else:
            await self._app(scope, receive, send)


async def _answer(send: Send, status: int) -> None:
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})
