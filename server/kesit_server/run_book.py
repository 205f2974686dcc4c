"""The book of a run: what a server that died must know to go on without asking anyone twice.

Each attempt is written down before it is sent and each sum when it is open. All that the server
does between two sums is computed from opened sums and a seed, so a second process that goes through
the same steps comes to the same questions; it takes opened sums from the book, and asks for the one
that was in flight with the same bytes, which members answer with what they stored. Nothing in the
book is more than the server was told: noisy sums, hellos, and its own instructions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kesit_privacy import hello as hello_form
from kesit_privacy import instruction as instruction_form
from kesit_privacy.files import replacing
from kesit_privacy.hello import Transcript
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import Instruction
from kesit_privacy.spending import Spending, sign_log
from kesit_privacy.study import Study
from kesit_server.errors import FederationError, ResultError
from kesit_server.journal import Journal
from kesit_server.sums import NoisySum

LOG = "spending-log.json"

BUSY_SECONDS = 2.0
"""How long a book that another process holds is waited for: whoever looks at it is soon gone."""


@dataclass(frozen=True)
class KeptAttempt:
    """An attempt of an earlier process.

    Attributes:
        opened: its sum; left: who is left after it failed. Both None: it was in flight.
    """

    order: Instruction
    opened: NoisySum | None
    left: tuple[str, ...] | None


class RunBook(Protocol):
    """Where a run is kept."""

    def begin(self, transcript: Transcript, nodes: Mapping[str, int]) -> None:
        """Keep who takes part, and at which Flower node each is."""

    def begun(self, study: Study) -> tuple[Transcript, dict[str, int]]:
        """What `begin` kept."""

    def asked(self, order: Instruction, spending: Sequence[Spending]) -> None:
        """Keep an attempt that is about to be sent, and all spending so far, its own included."""

    def opened(self, opened: NoisySum) -> None:
        """Keep a sum."""

    def failed(self, step: str, attempt: int, left: Sequence[str]) -> None:
        """Keep that an attempt failed, and who is left."""

    def attempt(self, step: str, attempt: int) -> KeptAttempt | None:
        """An attempt that an earlier process of the run made, if it did."""


class Unkept:
    """The book of a run that ends with its process."""

    def begin(self, transcript: Transcript, nodes: Mapping[str, int]) -> None: ...

    def begun(self, study: Study) -> tuple[Transcript, dict[str, int]]:
        raise FederationError("The run was not kept.", remedy="Start a new run.")

    def asked(self, order: Instruction, spending: Sequence[Spending]) -> None: ...

    def opened(self, opened: NoisySum) -> None: ...

    def failed(self, step: str, attempt: int, left: Sequence[str]) -> None: ...

    def attempt(self, step: str, attempt: int) -> KeptAttempt | None:
        return None


class KeptRun:
    """The book of a run in a folder, which must exist: a journal, and the signed spending log.

    One process at a time may hold it.

    Raises:
        ResultError: another process holds it, or it is damaged.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.folder = folder
        self._identity = identity
        self._journal = Journal(folder, BUSY_SECONDS)
        self._records = self._journal.records()

    def close(self) -> None:
        """Let another process hold it."""
        self._journal.close()

    def start(self, study: Study, seed: int, without: Sequence[str] = ()) -> None:
        """Note the study, the seed of all that is computed between sums, and who is left out."""
        self._add("start", {"study": study.hash, "seed": seed, "without": list(without)})

    @property
    def without(self) -> tuple[str, ...]:
        """Names of members that are not asked."""
        return tuple(map(str, self._record("start")["without"]))

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self._record("start")["seed"])

    @property
    def has_begun(self) -> bool:
        """Whether members said hello, so that there is something to go on with."""
        return "hello" in self._records

    @property
    def ended(self) -> str | None:
        """How the run ended, in a word; None while it may go on."""
        record = self._records.get("end")
        return None if record is None else str(record["how"])

    def end(self, how: str) -> None:
        """Note that the run is over."""
        self._add("end", {"how": how})

    def begin(self, transcript: Transcript, nodes: Mapping[str, int]) -> None:
        """See `RunBook`."""
        self._add("hello", {"transcript": transcript.encoded.decode(), "nodes": dict(nodes)})

    def begun(self, study: Study) -> tuple[Transcript, dict[str, int]]:
        """See `RunBook`.

        Raises:
            ResultError: the book is that of another study, or nobody said hello.
        """
        record = self._record("hello")
        transcript = hello_form.read(record["transcript"].encode())
        if transcript.request.study != study.hash or self._record("start")["study"] != study.hash:
            raise ResultError(
                f"{self.folder}: is a run of another study.", remedy="Resume it with its own study."
            )
        return transcript, {str(name): int(node) for name, node in record["nodes"].items()}

    def asked(self, order: Instruction, spending: Sequence[Spending]) -> None:
        """See `RunBook`. The signed log is on the disk before the journal says so."""
        with replacing(self.folder / LOG) as file:
            file.write(sign_log(spending, self._identity))
        self._add(_key("asked", order.step, order.attempt), {"order": order.encode().decode()})

    def opened(self, opened: NoisySum) -> None:
        """See `RunBook`."""
        record = {
            "values": opened.values.tolist(),
            "sigma": opened.sigma,
            "roster": opened.roster,
            "canaries": opened.canaries.tolist(),
        }
        self._add(_key("opened", opened.step, opened.attempt), record)

    def failed(self, step: str, attempt: int, left: Sequence[str]) -> None:
        """See `RunBook`."""
        self._add(_key("failed", step, attempt), {"left": list(left)})

    def attempt(self, step: str, attempt: int) -> KeptAttempt | None:
        """See `RunBook`."""
        asked = self._records.get(_key("asked", step, attempt))
        if asked is None:
            return None
        opened = self._records.get(_key("opened", step, attempt))
        failed = self._records.get(_key("failed", step, attempt))
        return KeptAttempt(
            instruction_form.read(asked["order"].encode()),
            None if opened is None else _sum(step, attempt, opened),
            None if failed is None else tuple(map(str, failed["left"])),
        )

    def _add(self, key: str, record: dict[str, Any]) -> None:
        self._journal.add(key, record)
        self._records[key] = record

    def _record(self, key: str) -> dict[str, Any]:
        if key not in self._records:
            raise ResultError(
                f"{self.folder}: the run was left before its members said hello.",
                remedy="Nothing was spent; start a new run.",
            )
        return self._records[key]


def how_ended(folder: Path) -> str | None:
    """How the run in `folder` ended, in a word; None while it may go on.

    Raises:
        ResultError: a process is at work on it, or the book is damaged.
    """
    with Journal(folder) as journal:
        record = journal.records().get("end")
    return None if record is None else str(record["how"])


def _key(kind: str, step: str, attempt: int) -> str:
    return f"{kind} {step} {attempt}"


def _sum(step: str, attempt: int, record: Mapping[str, Any]) -> NoisySum:
    return NoisySum(
        step,
        np.array(record["values"], dtype=np.float64),
        float(record["sigma"]),
        int(record["roster"]),
        attempt,
        np.array(record["canaries"], dtype=np.int64),
    )
