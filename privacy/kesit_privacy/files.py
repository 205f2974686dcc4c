"""Files that are whole or absent: the one way in which Kesit replaces a file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write; it takes `path`'s place when the block ends, on the disk and at once.

    If the block raises, or the machine stops, `path` stays as it was.

    Raises:
        OSError: the place is missing or not writable, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def sole_user(path: Path) -> Iterator[BinaryIO]:
    """`path`, open for reading and writing and locked against every other process that asks so.

    The lock goes with the process, however it ends.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
