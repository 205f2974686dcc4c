"""What the books tell their owner: what was asked and answered, what was refused, what it cost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from kesit_client.ledger.store import Store
from kesit_privacy import accounting
from kesit_privacy import instruction as instruction_form
from kesit_privacy.errors import ProtocolError
from kesit_privacy.instruction import Instruction
from kesit_privacy.wire import RefusalCode

HELLO = "hello"
SUM = "sum"
MERGED = "merged"
REFUSED = "refused"


@dataclass(frozen=True)
class Entry:
    """One message, or one charge that was merged from a server's log.

    Attributes:
        at: Unix seconds. kind: `HELLO`, `SUM`, `MERGED` or `REFUSED`.
        run, study: hex; study is "" for a refusal. step, attempt: of a sum, else "" and 0.
        units: charged. bytes_out: of the answer; 0 if none was computed.
        asked: the instruction of a sum; None where it was not kept.
        code, cause: of a refusal.
    """

    at: float
    kind: str
    run: str
    study: str = ""
    step: str = ""
    attempt: int = 0
    units: int = 0
    bytes_out: int = 0
    asked: Instruction | None = None
    code: RefusalCode = RefusalCode.OK
    cause: str = ""


@dataclass(frozen=True)
class Spent:
    """Units that one study, or one purpose, has cost a customer at most."""

    name: str
    units: int

    def epsilon(self, delta: float) -> float:
        """ε at `delta`."""
        return accounting.epsilon(self.units, delta)


def read_log(store: Store) -> tuple[Entry, ...]:
    """Everything that the books hold, in the order of time."""
    with store.transaction() as books:
        entries = [*_hellos(books.rows(_HELLOS)), *_sums(books.rows(_SUMS))]
        entries += _refusals(books.rows(_REFUSALS))
    return tuple(sorted(entries, key=lambda entry: entry.at))


def spent_by(store: Store, column: str) -> tuple[Spent, ...]:
    """What was spent by `study` or by `purpose`, the dearest first."""
    with store.transaction() as books:
        if column == "study":
            totals = {name: books.spent(study=name) for (name,) in books.rows(_STUDIES)}
        else:
            totals = {name: books.spent(purpose=name) for (name,) in books.rows(_PURPOSES)}
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Spent(name, units) for name, units in ordered)


_HELLOS = "SELECT started_at, run, study, length(hello) FROM run"
_SUMS = (
    "SELECT charged_at, run, study, step, attempt, units, origin, request,"
    " coalesce((SELECT length(reply) FROM answer WHERE answer.run = charge.run"
    " AND answer.step = charge.step AND answer.attempt = charge.attempt), 0) FROM charge"
)
_REFUSALS = "SELECT at, run, code, cause FROM refusal"
_STUDIES = "SELECT DISTINCT study FROM charge"
_PURPOSES = "SELECT DISTINCT purpose FROM charge"


def _hellos(rows: Iterable[sqlite3.Row]) -> list[Entry]:
    return [Entry(at, HELLO, run, study, bytes_out=size) for at, run, study, size in rows]


def _sums(rows: Iterable[sqlite3.Row]) -> list[Entry]:
    return [
        Entry(
            at,
            SUM if origin == "own" else MERGED,
            run,
            study,
            step,
            attempt,
            units,
            size,
            _asked(request),
        )
        for at, run, study, step, attempt, units, origin, request, size in rows
    ]


def _refusals(rows: Iterable[sqlite3.Row]) -> list[Entry]:
    return [
        Entry(at, REFUSED, run, code=RefusalCode(code), cause=cause)
        for at, run, code, cause in rows
    ]


def _asked(request: bytes | None) -> Instruction | None:
    try:
        return None if request is None else instruction_form.read(request)
    except ProtocolError:  # asked in a form that this version no longer reads
        return None
