"""A wish to stop that arrives by a signal, and pauses that end when it does."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from types import FrameType

_SLICE_SECONDS = 0.1


@dataclass
class Stop:
    """Whether to stop. A plain flag: a lock could be held when a signal's handler wants it."""

    requested: bool = False

    @classmethod
    def on_signals(cls) -> Stop:
        """Requested by the first SIGTERM or SIGINT; the second one ends the process as usual.

        Only in a process's main thread.
        """
        stop = cls()

        def request(number: int, frame: FrameType | None) -> None:
            stop.requested = True
            signal.signal(number, signal.SIG_DFL)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, request)
        return stop

    def pause(self, seconds: float) -> None:
        """Sleep, but not longer than a tenth of a second after a request to stop."""
        until = time.monotonic() + seconds
        while not self.requested and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE_SECONDS))
