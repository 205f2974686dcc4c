"""What the books hold: approvals, runs, charges, answers and refusals, inside one transaction.

A charge keeps what it cost and on which side of its study it stands (`sides`). What is spent is
computed from all charges anew each time: the dearer side of each run, and all runs together. So
neither the order of charges nor when they were merged can matter. A run reads its customers' ids
once; between two runs a customer's id, and so its side, may change, and what both cost adds up.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kesit_privacy import canonical
from kesit_privacy.sides import BookSide, BySide
from kesit_privacy.spending import Spending
from kesit_privacy.study import Study
from kesit_privacy.training import Event


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
    """One committed charge, in units of μ², on one side of its study or on both."""

    run: str
    step: str
    attempt: int
    instruction: bytes
    study: str
    purpose: str
    units: int
    charged_at: float
    origin: str = "own"
    side: BookSide = BookSide.ALL


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
            "SELECT run, step, attempt, instruction, study, purpose, units, charged_at, origin,"
            " side FROM charge WHERE run = ? AND (? IS NULL OR step = ?) ORDER BY id",
            (run, step, step),
        )
        return [Charge(*(*row, BookSide(side))) for *row, side in rows]

    def add_charge(self, charge: Charge, request: bytes | None = None) -> int:
        """Append a charge; 0 if (run, step, attempt) is charged already, else 1.

        Args:
            request: the instruction's bytes, for the owner to read later what was asked.
        """
        cursor = self._db.execute(
            "INSERT INTO charge"
            " (run, step, attempt, instruction, study, purpose, units, charged_at, origin, side,"
            " request) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
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
                charge.side,
                request,
            ),
        )
        return cursor.rowcount

    def spent(
        self, *, study: str | None = None, purpose: str | None = None, since: float | None = None
    ) -> int:
        """Units that one customer paid at most: in all, or under one study, one purpose, or since a
        moment (Unix seconds)."""
        found = self.by_run(study=study, purpose=purpose, since=since)
        return sum(paid.units for paid in found.values())

    def by_run(
        self, *, study: str | None = None, purpose: str | None = None, since: float | None = None
    ) -> dict[tuple[str, str], BySide]:
        """What the customers of each side paid, by (study, run).

        Sides of different runs may overlap (another study has another split, and a later run may
        find other ids), so across runs costs add up. `since` looks at the charges since then alone,
        not at what they added to earlier ones: a moment may lie between training and evaluation.
        """
        rows = self._db.execute(
            "SELECT study, run, units, side FROM charge WHERE (?1 IS NULL OR study = ?1)"
            " AND (?2 IS NULL OR purpose = ?2) AND (?3 IS NULL OR charged_at >= ?3)",
            (study, purpose, since),
        )
        costs: dict[tuple[str, str], list[tuple[int, BookSide]]] = {}
        for name, run, units, side in rows:  # SQLite's own sum can overflow
            costs.setdefault((name, run), []).append((int(units), BookSide(side)))
        return {key: BySide.total(found) for key, found in costs.items()}

    def head(self) -> int:
        """Number of charges and answers ever made."""
        query = "SELECT (SELECT count(*) FROM charge) + (SELECT count(*) FROM answer)"
        return int(self._db.execute(query).fetchone()[0])

    def charged(self) -> int:
        """Number of charges ever made."""
        return int(self._db.execute("SELECT count(*) FROM charge").fetchone()[0])

    def costs(self) -> dict[str, list[int]]:
        """Units that each instruction has cost on the sides [training, held out], by the beginning
        of its hash (16 hex digits)."""
        rows = self._db.execute("SELECT instruction, units, side FROM charge")
        costs: dict[str, list[tuple[int, BookSide]]] = {}
        for instruction, units, side in rows:  # a merged charge may stand in two parts
            name = bytes(instruction)[:8].hex()
            costs.setdefault(name, []).append((int(units), BookSide(side)))
        found = {name: BySide.total(parts) for name, parts in costs.items()}
        return {name: [paid.train, paid.held] for name, paid in found.items()}

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

    def add_training(self, instruction: bytes, study: str, purpose: str, event: Event) -> int:
        """Append what an instruction to train costs (see `pots`); a second time changes nothing.

        Returns:
            0 if the instruction has an event already, else 1.
        """
        return self._db.execute(
            "INSERT INTO training VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (instruction, study, purpose, event.rate, event.noise, event.steps),
        ).rowcount

    def trained(self) -> dict[str, list[list[int]]]:
        """What each instruction to train has cost (see `training.Event`), by the beginning of its
        hash (16 hex digits): more than one thing only where logs contradict each other."""
        query = "SELECT instruction, rate, noise, steps FROM training ORDER BY instruction"
        found: dict[str, list[list[int]]] = {}
        for instruction, *event in self._db.execute(query):
            found.setdefault(bytes(instruction)[:8].hex(), []).append([int(n) for n in event])
        return found

    def refusals(self) -> list[tuple[str, int, str]]:
        """(run, code, cause) of all refusals, oldest first."""
        rows = self._db.execute("SELECT run, code, cause FROM refusal ORDER BY id")
        return [(run, code, cause) for run, code, cause in rows]


def merge_entry(books: Books, entry: Spending) -> int:
    """Add one entry of a server's log; 0 if the books have it.

    If they have *another* instruction at its place, both were answered, and both count. Of one
    instruction the higher cost counts, on each side for itself.
    """
    digest = bytes.fromhex(entry.instruction)
    of_run = [c for c in books.charges(entry.run) if c.attempt == entry.attempt]
    known = [(c.units, c.side) for c in of_run if c.instruction == digest]
    units, side = entry.units, entry.side
    if entry.trained is not None:
        _merge_training(books, digest, entry, entry.trained)
    if known:
        units, side = _missing(BySide.total(known), BySide.total([(units, side)]))
        if not units:
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
            units,
            time.time(),
            "merged",
            side,
        )
    )


def _merge_training(books: Books, digest: bytes, entry: Spending, event: Event) -> None:
    """Add what a log says that a training cost; what contradicts it in the books counts, too."""
    told = [event.rate, event.noise, event.steps]
    known = books.trained().get(digest[:8].hex(), [])
    if told not in known:
        name = digest if not known else digest + canonical.digest(canonical.encode(told))
        books.add_training(name, entry.study, entry.purpose, event)


def _missing(known: BySide, told: BySide) -> tuple[int, BookSide]:
    """What one charge must add to `known` so that no side has less than was told."""
    train, held = max(0, told.train - known.train), max(0, told.held - known.held)
    if train and held:
        return max(train, held), BookSide.ALL
    return max(train, held), BookSide.HELD if held else BookSide.TRAIN


def pack_roster(roster: Sequence[str]) -> bytes:
    """Identities (hex) as 32 bytes each, one after the other."""
    return bytes.fromhex("".join(roster))


def unpack_roster(packed: bytes) -> tuple[str, ...]:
    """The identities that `pack_roster` packed."""
    text = packed.hex()
    return tuple(text[start : start + 64] for start in range(0, len(text), 64))
