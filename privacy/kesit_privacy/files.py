"""Files that are whole or absent: the one way in which Kesit replaces a file."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def slug(name: str) -> str:
    """A study's name as part of a file's or a folder's name."""
    parts = unicodedata.normalize("NFKD", name.lower().replace("ı", "i"))
    plain = "".join(letter for letter in parts if not unicodedata.combining(letter))
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "study"


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write; it takes `path`'s place when the block ends, on the disk and at once.

    If the block raises, or the machine stops, `path` stays as it was.

    Args:
        private: readable and writable by its owner alone.

    Raises:
        OSError: the place is missing or not writable, or the disk is full.
    """
    # In a folder that others may write to, a name that can be guessed could be theirs already.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    mode = 0o600 if private else 0o666  # the latter less the process's umask, as ever
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, private to its owner; it appears as `path` when the block ends, or never.

    Raises:
        FileExistsError: `path` is something else than an empty folder.
        OSError: the place is missing or not writable, or the disk is full.
    """
    if path.is_symlink() or (path.exists() and (not path.is_dir() or any(path.iterdir()))):
        raise FileExistsError(errno.EEXIST, "is not an empty folder", str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.mkdir(parents=True, mode=0o700)
    try:
        yield partial
        if path.exists():
            path.rmdir()
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
