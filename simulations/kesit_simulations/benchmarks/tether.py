"""A tether: processes that end with this one, however it ends.

A benchmark starts processes that start others in sessions of their own. All of them inherit an
environment variable. When the tether is let go, or this process dies, a small guard process (it
waits for the end of its input) kills everything that carries the mark. It reads `/proc`; where
there is none, only those end that were stopped in the ordinary way.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "KESIT_TETHER"
"""The environment variable."""

SWEEPS, PAUSE_SECONDS = 20, 0.1
"""How often the guard looks for survivors: one may be about to start another."""


@contextlib.contextmanager
def tethered() -> Iterator[None]:
    """Everything that is started inside the block ends with it, or with this process."""
    mark = secrets.token_hex(16)
    guard = subprocess.Popen(  # noqa: S603  (our own module)
        [sys.executable, __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C must not end it first
    )
    os.environ[MARK] = mark
    try:
        yield
    finally:
        del os.environ[MARK]
        guard.communicate()


def marked(mark: str) -> list[int]:
    """Ids of the living processes that inherited the mark, this one excepted."""
    entry = f"{MARK}={mark}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is somebody else's
            carries = entry in (place / "environ").read_bytes().split(b"\0")
            if carries and int(place.name) != os.getpid():
                found.append(int(place.name))
    return found


def kill(mark: str) -> None:
    """End all that carry the mark, and what they start meanwhile."""
    for _ in range(SWEEPS):
        found = marked(mark)
        if not found:
            return
        for number in found:
            with contextlib.suppress(OSError):
                os.kill(number, signal.SIGKILL)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    kill(sys.argv[1])
