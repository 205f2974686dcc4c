"""What Ray leaves behind in the process that ran it."""

from __future__ import annotations

import gc
import subprocess
import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def tidy() -> Iterator[None]:
    """Collect, while its warnings are ignored, what Ray leaves to the garbage collector."""
    yield
    gc.collect()
    until = time.monotonic() + 60
    # Only these private names tell whether a child of Ray is still to be waited for.
    while (running := subprocess._active) and time.monotonic() < until:  # type: ignore[attr-defined]
        subprocess._cleanup()  # type: ignore[attr-defined]
        time.sleep(0.1)
    assert not running
