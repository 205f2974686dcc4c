"""The books: one SQLite file beside the data, and the witness that it was not rolled back.

Every charge is committed with `synchronous=EXTRA` before anything is computed. The file holds
masked answers, never noise and never an unmasked sum. Approvals, runs (with their ephemeral keys,
deleted when a run ends), charges, answers and refusals live here.

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
from dataclasses import dataclass
from pathlib import Path

from kesit_client.errors import StoreError
from kesit_client.migrations import migrate
from kesit_privacy.files import replacing
from kesit_privacy.spending import Spending
from kesit_privacy.study import Study
from kesit_privacy.training import Event

BUSY_SECONDS = 30.0
RUN_DAYS = 30
"""Ephemeral keys of runs older than this are deleted, ended or not."""


@dataclass(frozen=True)
class Run:
    """A run that this client said hello to.

    `ephemeral` is None once it ended; `last_roster` is packed (see `pack_roster`).
    """

    run: str
    study: str
    server: str
    hello: bytes
    ephemeral: bytes | None
    canary_seed: bytes | None
    transcript: str | None
    last_roster: bytes | None


@dataclass(frozen=True)
class Charge:
    """One committed charge, in units of μ²."""

    run: str
    step: str
    attempt: int
    instruction: bytes
    study: str
    purpose: str
    units: int
    charged_at: float
    origin: str = "own"


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
            added = sum(_merge_entry(books, entry) for entry in own)
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

        It names each by its instruction and its cost: a charge that was never made here (of an
        attempt that this client refused, say) or a cheaper one cannot stand in for one that was.
        """
        if self._path is None:
            return 0
        try:
            witness, known = json.loads(self._witness_path(self._path).read_text()), books.costs()
            if "costs" not in witness:  # of an earlier version, which counted charges
                return max(0, int(witness["charges"]) - books.charged())
            return sum(known.get(name, -1) < int(units) for name, units in witness["costs"].items())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def _write_witness(cls, path: Path, books: Books) -> None:
        with replacing(cls._witness_path(path)) as file:
            seen = {"head": books.head(), "costs": books.costs()}
            file.write(json.dumps(seen).encode())

    @staticmethod
    def _witness_path(path: Path) -> Path:
        return path.with_name(path.name + ".witness")


class Books:
    """Reads and writes inside one transaction of a store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def get(self, key: str) -> str | None:
        """A note about the node, by name."""
        row = self._db.execute("SELECT value FROM node WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set(self, key: str, value: str | None) -> None:
        """Write a note, or delete it with None."""
        if value is None:
            self._db.execute("DELETE FROM node WHERE key = ?", (key,))
        else:
            self._db.execute("INSERT OR REPLACE INTO node VALUES (?, ?)", (key, value))

    def approve(self, study: Study) -> None:
        """Keep this copy of the study as approved by the owner."""
        self._db.execute(
            "INSERT OR IGNORE INTO approval VALUES (?, ?, ?)",
            (study.hash, study.canonical, time.time()),
        )

    def withdraw(self, study: str) -> bool:
        """Take an approval back; whether there was one."""
        return self._db.execute("DELETE FROM approval WHERE study = ?", (study,)).rowcount > 0

    def approvals(self) -> list[tuple[str, float]]:
        """(study, Unix seconds) of all approvals, oldest first."""
        rows = self._db.execute("SELECT study, approved_at FROM approval ORDER BY approved_at")
        return [(study, at) for study, at in rows]

    def approved(self, study: str) -> bool:
        """Whether the owner approved the study of this hash."""
        found = self._db.execute("SELECT 1 FROM approval WHERE study = ?", (study,)).fetchone()
        return found is not None

    def run(self, run: str) -> Run | None:
        """The run of this id, if this client said hello to it."""
        row = self._db.execute(
            "SELECT run, study, server, hello, ephemeral, canary_seed, transcript, last_roster"
            " FROM run WHERE run = ?",
            (run,),
        ).fetchone()
        return None if row is None else Run(*row)

    def add_run(self, run: Run) -> None:
        """Begin a run; a second beginning changes nothing."""
        self._db.execute(
            "INSERT INTO run (run, study, server, hello, ephemeral, canary_seed, started_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                run.run,
                run.study,
                run.server,
                run.hello,
                run.ephemeral,
                run.canary_seed,
                time.time(),
            ),
        )

    def advance(self, run: str, transcript: str, roster: Sequence[str]) -> None:
        """Note the transcript and the roster of the run's latest instruction."""
        self._db.execute(
            "UPDATE run SET transcript = ?, last_roster = ? WHERE run = ?",
            (transcript, pack_roster(roster), run),
        )

    def end_run(self, run: str) -> None:
        """Delete the run's private keys."""
        self._db.execute("UPDATE run SET ephemeral = NULL WHERE run = ?", (run,))

    def end_all_runs(self) -> None:
        """Delete all private keys of runs."""
        self._db.execute("UPDATE run SET ephemeral = NULL")

    def end_runs_before(self, moment: float) -> None:
        """Delete the keys of runs that began before `moment` (Unix seconds)."""
        self._db.execute("UPDATE run SET ephemeral = NULL WHERE started_at < ?", (moment,))

    def charges(self, run: str, step: str | None = None) -> list[Charge]:
        """Charges of a run (and step), oldest first."""
        rows = self._db.execute(
            "SELECT run, step, attempt, instruction, study, purpose, units, charged_at, origin"
            " FROM charge WHERE run = ? AND (? IS NULL OR step = ?) ORDER BY id",
            (run, step, step),
        )
        return [Charge(*row) for row in rows]

    def add_charge(self, charge: Charge, request: bytes | None = None) -> int:
        """Append a charge; 0 if (run, step, attempt) is charged already, else 1.

        Args:
            request: the instruction's bytes, for the owner to read later what was asked.
        """
        cursor = self._db.execute(
            "INSERT INTO charge"
            " (run, step, attempt, instruction, study, purpose, units, charged_at, origin, request)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                charge.run,
                charge.step,
                charge.attempt,
                charge.instruction,
                charge.study,
                charge.purpose,
                charge.units,
                charge.charged_at,
                charge.origin,
                request,
            ),
        )
        return cursor.rowcount

    def spent(
        self, *, study: str | None = None, purpose: str | None = None, since: float | None = None
    ) -> int:
        """Units charged: in all, or of one study, one purpose, or since a moment (Unix seconds)."""
        rows = self._db.execute(
            "SELECT units FROM charge"
            " WHERE (?1 IS NULL OR study = ?1) AND (?2 IS NULL OR purpose = ?2)"
            " AND (?3 IS NULL OR charged_at >= ?3)",
            (study, purpose, since),
        )
        return sum(int(units) for (units,) in rows)  # SQLite's own sum can overflow

    def head(self) -> int:
        """Number of charges and answers ever made."""
        query = "SELECT (SELECT count(*) FROM charge) + (SELECT count(*) FROM answer)"
        return int(self._db.execute(query).fetchone()[0])

    def charged(self) -> int:
        """Number of charges ever made."""
        return int(self._db.execute("SELECT count(*) FROM charge").fetchone()[0])

    def costs(self) -> dict[str, int]:
        """Units that each instruction has cost, by the beginning of its hash (16 hex digits)."""
        rows = self._db.execute("SELECT instruction, units FROM charge")
        costs: dict[str, int] = {}
        for instruction, units in rows:  # a merged charge may stand in two parts
            name = bytes(instruction)[:8].hex()
            costs[name] = costs.get(name, 0) + int(units)
        return costs

    def answer(self, run: str, step: str, attempt: int) -> bytes | None:
        """The stored answer, or None."""
        row = self._db.execute(
            "SELECT reply FROM answer WHERE run = ? AND step = ? AND attempt = ?",
            (run, step, attempt),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def add_answer(self, run: str, step: str, attempt: int, reply: bytes) -> None:
        """Store an answer; the first one stands."""
        self._db.execute(
            "INSERT INTO answer VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (run, step, attempt, reply),
        )

    def add_refusal(self, run: str, code: int, cause: str) -> None:
        """Log a refusal for the owner. `cause` stays here."""
        self._db.execute(
            "INSERT INTO refusal (at, run, code, cause) VALUES (?, ?, ?, ?)",
            (time.time(), run, code, cause),
        )

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """Rows of a reader's own query (see `journal` and `pots`)."""
        return self._db.execute(query, tuple(values)).fetchall()

    def add_training(self, instruction: bytes, study: str, purpose: str, event: Event) -> None:
        """Append what an instruction to train costs (see `pots`); a second time changes nothing."""
        self._db.execute(
            "INSERT INTO training VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (instruction, study, purpose, event.rate, event.noise, event.steps),
        )

    def refusals(self) -> list[tuple[str, int, str]]:
        """(run, code, cause) of all refusals, oldest first."""
        rows = self._db.execute("SELECT run, code, cause FROM refusal ORDER BY id")
        return [(run, code, cause) for run, code, cause in rows]


def _merge_entry(books: Books, entry: Spending) -> int:
    """Add one entry of a server's log; 0 if the books have it.

    If they have *another* instruction at its place, both were answered, and both count.
    """
    digest = bytes.fromhex(entry.instruction)
    of_run = [c for c in books.charges(entry.run) if c.attempt == entry.attempt]
    known = [c.units for c in of_run if c.instruction == digest]
    if entry.trained is not None:
        books.add_training(digest, entry.study, entry.purpose, entry.trained)
    if known and sum(known) >= entry.units:
        return 0
    here = [charge for charge in of_run if charge.step == entry.step]
    other = bool(here) and not known
    step = f"{entry.step} ({entry.instruction[:16]})" if other else entry.step
    if known:  # an earlier log understated it: the higher of the two counts
        step = f"{entry.step} ({entry.instruction[:16]}+{len(known)})"
    return books.add_charge(
        Charge(
            entry.run,
            step,
            entry.attempt,
            digest,
            entry.study,
            entry.purpose,
            entry.units - sum(known),
            time.time(),
            "merged",
        )
    )


def _connect(target: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        target, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = EXTRA")  # FULL, and the journal's removal too
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def pack_roster(roster: Sequence[str]) -> bytes:
    """Identities (hex) as 32 bytes each, one after the other."""
    return bytes.fromhex("".join(roster))


def unpack_roster(packed: bytes) -> tuple[str, ...]:
    """The identities that `pack_roster` packed."""
    text = packed.hex()
    return tuple(text[start : start + 64] for start in range(0, len(text), 64))
