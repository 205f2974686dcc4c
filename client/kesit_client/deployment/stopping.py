"""A wish to stop that arrives by a signal, and pauses that end when it does."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SLICE_SECONDS = 0.1


class Interrupted(BaseException):
    """The wish to stop arrived while waiting. Not an `Exception`: nobody else may handle it."""


@dataclass
class Stop:
    """Whether to stop. Plain flags: a lock could be held when a signal's handler wants it."""

    requested: bool = False
    _waiting: bool = False

    @classmethod
    def on_signals(cls) -> Stop:
        """Requested by the first SIGTERM or SIGINT; the second one ends the process as usual.

        Only in a process's main thread.
        """
        stop = cls()

        def request(number: int, frame: FrameType | None) -> None:
            stop.requested = True
            signal.signal(number, signal.SIG_DFL)
            if stop._waiting:
                raise Interrupted

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, request)
        return stop

    def pause(self, seconds: float) -> None:
        """Sleep, but not longer than a tenth of a second after a request to stop."""
        until = time.monotonic() + seconds
        while not self.requested and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """A wait in which nothing is lost: a signal breaks it off with `Interrupted`."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
