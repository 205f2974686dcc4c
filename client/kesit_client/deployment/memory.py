"""What a node remembers of its server: the id that it was given. One process at a time.

With its id a node is online again at once, even after a crash; activation by key would be refused
until the server has noticed that the earlier session is over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kesit_client.errors import LinkError
from kesit_privacy.files import sole_user

_TRYING = b"trying"
_SIZE = 32


@dataclass
class Memory:
    """The remembered id, if there is one.

    Attributes:
        tried_before: an activation was asked for, and its outcome is not known.
    """

    _file: BinaryIO
    node_id: int | None
    tried_before: bool

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Memory]:
        """Read the memory and lock it for as long as the block runs.

        Raises:
            LinkError: another process holds it, or the file cannot be used.
        """
        with ExitStack() as stack:
            try:
                file = stack.enter_context(sole_user(path))
            except BlockingIOError as error:
                raise LinkError(
                    f"{path}: this node runs already.", remedy="Stop the other process first."
                ) from error
            except OSError as error:
                raise LinkError(
                    f"{path}: cannot be written ({error.strerror}).",
                    remedy="Give the node a folder of its own.",
                ) from error
            text = file.read().strip()
            yield cls(file, int(text) if text.isdigit() else None, text == _TRYING)

    def note_attempt(self) -> None:
        """An activation is about to be asked for: a crash before its answer must not look like a
        node that was never online."""
        if not self.tried_before:
            self._write(_TRYING)

    def remember(self, node_id: int) -> None:
        """Keep the id that the server gave."""
        self.node_id = node_id
        self._write(str(node_id).encode())

    def forget(self) -> None:
        """The server knows nothing of this node."""
        self.node_id = None
        self.tried_before = False
        self._write(b"")

    def _write(self, data: bytes) -> None:
        """One write of one size, so that a crash leaves the old bytes or the new."""
        self._file.seek(0)
        self._file.write(data.ljust(_SIZE))
        self._file.flush()
        os.fsync(self._file.fileno())
