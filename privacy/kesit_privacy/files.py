"""Files that are whole or absent: the one way in which Kesit replaces a file."""

from __future__ import annotations

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
