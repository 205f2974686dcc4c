"""What long work has done so far, in one SQLite file that a kill at any moment leaves sound.

Each record is committed by itself, under a key that can stand there once. SQLite's own exclusive
lock is held while a process works on the folder: it ends with the process, however that ends.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from kesit_server.errors import ResultError

JOURNAL: Final = "journal.sqlite"

_BEGIN: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",  # in exclusive mode no shared memory: also on a network disk
    "PRAGMA synchronous = FULL",  # on the disk when it is committed: power may fail, too
    "BEGIN EXCLUSIVE",
    "CREATE TABLE IF NOT EXISTS done (key TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
    "COMMIT",
)


class Journal:
    """The journal in `folder`, which must exist; locked until `close`.

    Args:
        busy_seconds: how long to wait for another process that holds it.

    Raises:
        ResultError: another process works on the folder, or the file is no journal.
    """

    def __init__(self, folder: Path, busy_seconds: float = 0.0) -> None:
        self._path = folder / JOURNAL
        try:
            self._books = sqlite3.connect(self._path, timeout=busy_seconds, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        try:
            for statement in _BEGIN:
                self._books.execute(statement)
        except sqlite3.Error as error:
            self._books.close()
            raise self._unusable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def records(self) -> dict[str, dict[str, Any]]:
        """All records by key.

        Raises:
            ResultError: the file is damaged.
        """
        try:
            rows = self._books.execute("SELECT key, record FROM done").fetchall()
            found = {key: json.loads(record) for key, record in rows}
            if not all(isinstance(record, dict) for record in found.values()):
                raise ValueError("a record is no table")
            return found
        except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
            raise self._unusable(error) from error

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Keep a record; it is on the disk when this returns.

        Raises:
            ResultError: the disk refuses, or the key is there already.
        """
        text = json.dumps(record, allow_nan=False, ensure_ascii=False)
        try:
            self._books.execute("INSERT INTO done VALUES (?, ?)", (key, text))
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Let others work on the folder."""
        self._books.close()

    def _unusable(self, error: Exception) -> ResultError:
        if "locked" in str(error):
            return ResultError(
                f"{self._path.parent}: another process is at work here.",
                remedy="Wait until it is done, or stop it; or work in another folder.",
            )
        return ResultError(
            f"{self._path}: cannot be used ({error}).",
            remedy="Check the room on the disk; if the file is damaged, begin anew in another"
            " folder.",
        )
