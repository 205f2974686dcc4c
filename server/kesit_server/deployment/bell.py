"""Bells: a request that asks whether there is news is held until there is.

Flower's peers poll. A poll costs the SuperLink some five milliseconds of its one core, so many
nodes that poll often keep it from its work, and few that poll seldom are slow. Peers that know
the bell send the mark they have `SEEN`; while it is still the bell's mark there is no news and
their request waits. The answer carries the `MARK` as it was before the question was put, so nothing
can slip between. Flower's own peers send no mark and are answered at once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kesit_privacy.wire import MARK, SEEN

Event = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Bell:
    """Rings when there is news. For one event loop.

    Args:
        seconds: longest time for which a request is held.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._mark = secrets.randbits(62)  # a restarted server must not repeat marks
        self._rung = asyncio.Event()
        self._closed = False

    @property
    def mark(self) -> bytes:
        """Changes whenever the bell rings."""
        return str(self._mark).encode()

    def ring(self) -> None:
        """There is news: let all go that wait."""
        self._mark += 1
        self._rung.set()
        self._rung = asyncio.Event()

    def close(self) -> None:
        """Ring, and hold nobody any more."""
        self._closed = True
        self.ring()

    async def wait(self, seen: bytes, receive: Receive) -> bool:
        """Wait for news after `seen`, or for the time; False if the peer went away meanwhile."""
        if seen != self.mark or self._closed:
            return True
        rung = asyncio.ensure_future(self._rung.wait())
        left = asyncio.ensure_future(receive())
        try:
            await asyncio.wait(
                (rung, left), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
            return not left.done()
        finally:
            rung.cancel()
            left.cancel()


async def held(app: Application, bell: Bell, scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request to `app` when the bell has rung since the mark that it carries.

    A request whose peer is gone is dropped: the answer could be a message that is given out once.
    """
    seen = header(scope, SEEN)
    if seen is None:
        await app(scope, receive, send)
        return
    parts = [await receive()]
    while parts[-1]["type"] == "http.request" and parts[-1].get("more_body"):
        parts.append(await receive())
    if parts[-1]["type"] != "http.request" or not await bell.wait(seen, receive):
        return
    mark = bell.mark

    async def replayed() -> Event:
        return parts.pop(0) if parts else await receive()

    async def marked(event: Event) -> None:
        # Whoever is refused learns no mark, so no stranger is held and let go when a round begins.
        if event["type"] == "http.response.start" and event["status"] == 200:
            event = {**event, "headers": [*event["headers"], (MARK.encode(), mark)]}
        await send(event)

    await app(scope, replayed, marked)


def header(scope: Scope, name: str) -> bytes | None:
    """A header's value; None if it is missing or given more than once."""
    values: list[bytes] = [value for key, value in scope["headers"] if key == name.encode()]
    return values[0] if len(values) == 1 else None
