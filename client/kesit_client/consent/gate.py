"""The gate: which of a run's rows count in the sum that is made now.

A run begins with the rows of everybody who has a ground at that moment. Before each sum the gate
looks again: whoever withdrew, or whose consent ended, is out from then on; whoever consents later
waits for the next run. It is a row function: one person's events decide about one person's row.

A store that cannot be read stops the sum. Nobody is left out because of that, and nobody is in.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from sqlalchemy import Connection

from kesit_client.consent import standing
from kesit_client.consent.events import SECOND, SKEW_SECONDS, show_time
from kesit_client.consent.state import reads_special
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import Reason
from kesit_client.errors import ConsentStoreError
from kesit_privacy.files import replacing
from kesit_privacy.study import Study

MOMENTS: Final = "consent-runs"
"""Folder of a client's home: of each run, the moment of the consents in its latest sum."""

Numbers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Moment:
    """The consents that one sum counted: what was recorded up to `head`, as of `at` (µs)."""

    run: str
    study: str
    purpose: str
    basis: str
    at: int
    head: int

    def write(self, home: Path, counted: Numbers) -> None:
        """Keep it, and the numbers of those who were counted, in place of the run's earlier ones.

        Raises:
            ConsentStoreError: the disk refuses.
        """
        folder = home / MOMENTS
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            with replacing(folder / f"{self.run}.npy", private=True) as file:
                np.save(file, counted)
            with replacing(folder / f"{self.run}.json", private=True) as file:
                file.write(json.dumps(vars(self)).encode())
        except OSError as error:
            raise ConsentStoreError(
                f"{folder}: cannot be written ({error.strerror}).",
                remedy="Check the folder and the room on the disk.",
            ) from error

    def counted(self, home: Path) -> pl.Series:
        """Numbers of the persons who were in that sum.

        Raises:
            ConsentStoreError: they are gone.
        """
        try:
            return pl.Series("person", np.load(home / MOMENTS / f"{self.run}.npy"))
        except (OSError, ValueError) as error:
            raise ConsentStoreError(
                f"{home / MOMENTS}: who was counted in the run {self.run[:16]} is not there.",
                remedy="Without it nothing can be attested of this run.",
            ) from error

    def forget_counted(self, home: Path) -> None:
        """The run's tree is built, and says the same."""
        (home / MOMENTS / f"{self.run}.npy").unlink(missing_ok=True)

    @classmethod
    def read(cls, home: Path, run: str) -> Moment | None:
        """The one that was kept, or None: the run made no sum here, or no consents are kept.

        Raises:
            ConsentStoreError: it is broken.
        """
        path = home / MOMENTS / f"{run}.json"
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise ConsentStoreError(
                f"{path}: cannot be read.", remedy="Restore it from a backup."
            ) from error


@dataclass
class Gate:
    """The gate of one study at one client. Keeps what it read, and reads on from there."""

    home: Path
    study: Study
    clock: Callable[[], float] = time.time
    _store: ConsentStore | None = field(default=None, repr=False)
    _events: pl.DataFrame | None = field(default=None, repr=False)
    _removals: str = field(default="", repr=False)

    @property
    def store_id(self) -> str:
        """Of the consent store: numbers of persons mean something in that store alone."""
        return self._opened().id

    def pseudonyms(self, ids: list[str]) -> list[bytes]:
        """Keyed hashes (16 bytes) of customers' ids, to be kept beside their codes."""
        return self._opened().pseudonyms(ids)

    def enter(self, pseudonyms: npt.NDArray[np.uint8]) -> Numbers:
        """A run begins: the person's number of each row (16 bytes each), 0 if it may not count.

        Raises:
            ConsentError: the consents cannot be read.
        """
        keys = pl.Series("key", [row.tobytes() for row in pseudonyms], dtype=pl.Binary)
        store = self._opened()
        with store.counting() as connection:
            known = store.numbers(connection, keys)
            eligible = self._eligible(connection, self._now())
        rows = pl.DataFrame({"key": keys}).join(known, on="key", how="left", maintain_order="left")
        numbers = rows["no"].fill_null(0).to_numpy().astype(np.int64)
        return np.where(_chosen(eligible, numbers), numbers, 0)

    def mask(self, run: str, numbers: Numbers) -> Mask:
        """Whether each row of a run counts now. Notes the moment, for the run's attestation.

        Raises:
            ConsentError: the consents cannot be read, or the moment not be kept.
        """
        now = self._now()
        with self._opened().counting() as connection:
            eligible = self._eligible(connection, now)
        counted, study = _chosen(eligible, numbers), self.study
        moment = Moment(run, study.hash, study.purpose, study.legal_basis, now, self._head())
        moment.write(self.home, numbers[counted])
        return counted

    def counts(self) -> dict[Reason, int]:
        """How many persons stand how, now: for the owner's eyes."""
        with self._opened().reading() as connection:
            table = self._decided(connection, self._now())
        counted = table.group_by("reason").len().rows()
        return {Reason(reason): n for reason, n in sorted(counted)}

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _now(self) -> int:
        return int(self.clock() * SECOND)

    def _opened(self) -> ConsentStore:
        if self._store is not None and self._store.replaced:
            self.close()
        if self._store is None:
            self._events = None
            self._store = ConsentStore.open(self.home, create=False)
        return self._store

    def _head(self) -> int:
        events = self._events
        if events is None or events.is_empty():
            return 0
        return int(events["id"].to_numpy().max())

    def _eligible(self, connection: Connection, now: int) -> pl.Series:
        table = self._decided(connection, now)
        return table.filter(pl.col("reason") == Reason.GIVEN.value)["person"]

    def _decided(self, connection: Connection, now: int) -> pl.DataFrame:
        """How everybody stands, from the events that are known here and those that are new."""
        purpose, basis = self.study.purpose, self.study.legal_basis
        special = reads_special(self.study)
        require_clock(self._opened(), connection, now)
        removals = self._opened().removals(connection)
        if self._events is None or removals != self._removals:
            self._events = standing.read(connection, purpose, basis, special=special)
            self._removals = removals
        else:
            new = standing.read(connection, purpose, basis, special=special, after=self._head())
            if len(new):
                self._events = pl.concat([self._events, new])
        return standing.decide(self._events, now, basis)


def allowed(
    home: Path, purpose: str, basis: str, ids: list[str], now: float, *, special: bool = False
) -> Mask:
    """Whether each customer has a ground for `purpose` now (Unix seconds).

    Args:
        special: special categories of data are read: a ground must be given for them.

    Raises:
        ConsentError: the consents cannot be read; then nobody is.
    """
    with closing(ConsentStore.open(home, create=False)) as store:
        keys = pl.Series("key", store.pseudonyms(ids), dtype=pl.Binary)
        with store.counting() as connection:
            require_clock(store, connection, int(now * SECOND))
            known = store.numbers(connection, keys)
            read = standing.read(connection, purpose, basis, special=special)
    stand = standing.decide(read, int(now * SECOND), basis)
    rows = pl.DataFrame({"key": keys}).join(known, on="key", how="left", maintain_order="left")
    eligible = stand.filter(pl.col("reason") == Reason.GIVEN.value)["person"]
    return _chosen(eligible, rows["no"].fill_null(0).to_numpy().astype(np.int64))


def require_clock(store: ConsentStore, connection: Connection, now: int) -> None:
    """Refuse a clock (µs) that is behind the store: what has ended would hold again.

    Raises:
        ConsentStoreError: it is.
    """
    last = store.last_recorded(connection)
    if last is not None and now < last - SKEW_SECONDS * SECOND:
        raise ConsentStoreError(
            f"This machine's clock says {show_time(now)}; the consent store was last written at"
            f" {show_time(last)}.",
            remedy="Set the clock.",
        )


def _chosen(eligible: pl.Series, numbers: Numbers) -> Mask:
    """Whether each number is among the eligible; 0 never is."""
    persons = eligible.to_numpy()
    top = max(int(persons.max(initial=0)), int(numbers.max(initial=0)))
    table = np.zeros(top + 1, dtype=np.bool_)
    table[persons] = True
    table[0] = False
    chosen: Mask = table[numbers]
    return chosen
