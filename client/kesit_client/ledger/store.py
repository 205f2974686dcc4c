"""The books: one SQLite file beside the data, and the witness that it was not rolled back.

Every charge is committed with `synchronous=EXTRA` before anything is computed. The file holds
masked answers, never noise and never an unmasked sum. Approvals, runs (with their ephemeral keys,
deleted when a run ends), charges, answers and refusals live here (`books`).

A file restored from a backup would have forgotten charges. Two signs betray it: it is another file
(another inode than the one written inside), or it knows fewer charges and answers than the
*witness*, a small file beside it that counts them. Then the node refuses everything until its owner
merges the server's signed log (`merge`). Whoever restores the file, in place, together with its
witness leaves no sign on this machine: only comparing with the server's log can tell.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from kesit_client.errors import StoreError
from kesit_client.ledger.books import Books, merge_entry
from kesit_client.ledger.migrations import migrate
from kesit_privacy.files import replacing
from kesit_privacy.spending import Spending

BUSY_SECONDS = 30.0
RUN_DAYS = 30
"""Ephemeral keys of runs older than this are deleted, ended or not."""


class Store:
    """A client's books. Open with `Store.open(path)`, or `Store.in_memory()` for simulations."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._db = connection
        self._path = path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open or create the books at `path`, migrating an older file.

        Raises:
            StoreError: not SQLite, read-only, locked, or written by a newer Kesit.
        """
        with ExitStack() as undo:
            try:
                if not path.exists():
                    path.touch(mode=0o600)
                connection = _connect(str(path))
                undo.callback(connection.close)
                migrate(connection)
                store = cls(connection, path)
                store.witness()
                store.forget_old_runs()
            except (sqlite3.Error, OSError) as error:
                raise StoreError(
                    f"{path}: the books cannot be opened ({error}).",
                    remedy="Check that the file is writable, that no other program holds it,"
                    " and that the disk has room.",
                ) from error
            undo.pop_all()
        return store

    @classmethod
    def in_memory(cls) -> Store:
        """Books that vanish with the process."""
        connection = _connect(":memory:")
        migrate(connection)
        return cls(connection, None)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[Books]:
        """`BEGIN IMMEDIATE` .. `COMMIT`: what is read inside stays true until it is committed.

        Threads take turns: on one connection, one could end the transaction of another.
        """
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield Books(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite rolls back by itself when the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def witness(self) -> None:
        """Compare the books with their witness: note a restoration, or bring the witness up.

        Called when the books are opened, before each request and after each committed charge. The
        transaction keeps two processes from writing the witness out of turn.
        """
        if self._path is None:
            return
        with self.transaction() as books:
            head, inode = books.head(), str(self._path.stat().st_ino)
            if head == 0 and books.get("inode") is None:
                books.set("inode", inode)
            if books.get("restored") is not None:
                return
            seen = self._seen(self._path)
            if books.get("inode") != inode:
                books.set("restored", "the file is a copy of the one the books were begun in")
            elif seen is None and head:
                books.set("restored", "the witness beside the books is gone")
            elif seen is not None and seen > head:
                books.set("restored", f"the books hold {head} entries, their witness saw {seen}")
            elif seen != head:
                self._write_witness(self._path, books)

    @property
    def restored(self) -> str | None:
        """Why these books look restored from a backup, or None."""
        self.witness()
        return Books(self._db).get("restored")

    def merge(self, log: Sequence[Spending], me: str, former: Collection[str] = ()) -> int:
        """Add what the server's log knows and these books forgot; answers are allowed again.

        Unfinished runs are closed: what they already answered may be among the forgotten. The
        books stay refused while a charge that the witness saw is not known (another log is
        missing), and where there is no witness and the log names no run of this client.

        Args:
            me: this client's identity. former: those that it had before.

        Returns:
            Number of charges added.
        """
        with self.transaction() as books:
            mine = {me, *former}
            own = [entry for entry in log if mine & set(entry.roster)]
            added = sum(merge_entry(books, entry) for entry in own)
            books.end_all_runs()
            missing = self._unknown(books)
            if missing is None and not own and books.get("restored") is not None:
                return added
            if missing:
                books.set(
                    "restored",
                    f"{missing} charges that the witness saw are not known yet; ask the coordinator"
                    " for the other logs and merge them",
                )
                return added
            books.set("restored", None)
            if self._path is not None:
                books.set("inode", str(self._path.stat().st_ino))
                self._write_witness(self._path, books)
        return added

    def forget_old_runs(self) -> None:
        """Delete the keys of runs that began more than `RUN_DAYS` ago, ended or not."""
        with self.transaction() as books:
            books.end_runs_before(time.time() - RUN_DAYS * 86_400)

    @classmethod
    def _seen(cls, path: Path) -> int | None:
        """Charges that the witness saw; None without a witness, more than any if unreadable."""
        try:
            return int(json.loads(cls._witness_path(path).read_text())["head"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OverflowError):
            return sys.maxsize

    def _unknown(self, books: Books) -> int | None:
        """How many charges the witness saw that are not in the books; None if it is gone.

        It names each by its instruction and its cost on each side, and each training by what it
        cost: a charge that was never made here (of an attempt that this client refused, say), a
        cheaper one, or one of other customers cannot stand in for one that was.
        """
        if self._path is None:
            return 0
        try:
            witness, known = json.loads(self._witness_path(self._path).read_text()), books.costs()
            if "costs" not in witness:  # of an earlier version, which counted charges
                return max(0, int(witness["charges"]) - books.charged())
            trained = books.trained()
            return sum(
                any(have < cost for have, cost in zip(known.get(name, _NOTHING), seen, strict=True))
                for name, seen in map(_both_sides, witness["costs"].items())
            ) + sum(
                any(event not in trained.get(name, []) for event in seen)
                for name, seen in witness.get("trained", {}).items()
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _write_witness(cls, path: Path, books: Books) -> None:
        with replacing(cls._witness_path(path)) as file:
            seen = {"head": books.head(), "costs": books.costs(), "trained": books.trained()}
            file.write(json.dumps(seen).encode())

    @staticmethod
    def _witness_path(path: Path) -> Path:
        return path.with_name(path.name + ".witness")


_NOTHING = (-1, -1)
"""Costs of an instruction that the books do not know: less than a training's, which are 0."""


def _connect(target: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        target, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = EXTRA")  # FULL, and the journal's removal too
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _both_sides(cost: tuple[str, Any]) -> tuple[str, list[int]]:
    """An instruction and its costs by side; an earlier version's witness has one cost for all."""
    name, units = cost
    return name, [int(u) for u in (units if isinstance(units, list) else (units, units))]
