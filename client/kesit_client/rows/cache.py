"""Rows as a memory map: coded once, read by every sum of a run.

A file holds codes and nothing else; its name is the hash of the dictionary, of the source's
fingerprint and of the way of coding, so a changed source, study or version of Kesit finds no file
and builds one. Each run holds on to the
rows with which it began, by a name of its own. Files are written beside and moved into place: a
half-written cache is never read.

Where consents are kept (`gate`), keyed hashes of the ids lie beside the codes in the same order,
and each run holds on to the numbers of the persons who could be counted when it began.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from kesit_client.consent.gate import Gate, Mask
from kesit_client.errors import SourceError
from kesit_client.ledger.store import RUN_DAYS
from kesit_client.rows.coding import CODING, encode_with_ids, written_ids
from kesit_client.rows.sources import Source
from kesit_privacy import canonical
from kesit_privacy.features import CodeArray
from kesit_privacy.files import replacing
from kesit_privacy.study import Study


class Rows(Protocol):
    """A client's customers, coded for one study."""

    def prepare(self, run: str) -> None:
        """Make the codes ready, once at the start of a run.

        Raises:
            SourceError: the source cannot be opened or lacks a column.
            ConsentError: the consents cannot be read.
        """

    def codes(self, run: str) -> CodeArray:
        """(customers, features) codes as prepared for this run, of those who count now.

        Raises:
            SourceError, ConsentError: as for `prepare`.
        """

    def release(self, run: str) -> None:
        """The run is over: its rows may go."""


@dataclass(frozen=True)
class ArrayRows:
    """Codes that are already in memory (simulations)."""

    array: CodeArray

    def prepare(self, run: str) -> None:
        """Nothing to do."""

    def codes(self, run: str) -> CodeArray:
        return self.array

    def release(self, run: str) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class CachedRows:
    """Codes of a source, cached as a memory-mapped file in `folder`.

    With a `gate` only those rows are given out that have a ground at that moment.
    """

    source: Source
    study: Study
    folder: Path
    gate: Gate | None = None

    def prepare(self, run: str) -> None:
        if self._of_run(run).exists():
            return
        current = self._current(run)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.gate is not None:
                self._prepare_gated(self.gate, run)
                return
            if not current.exists():
                table = self.source.read(self._names, total=True)
                with replacing(current) as file:
                    np.save(file, encode_with_ids(table, self.study, self.source.id_column)[0])
            with suppress(FileExistsError):
                _link(current, self._of_run(run))
            os.utime(
                self._of_run(run)
            )  # a link is as old as its file, and old runs are tidied away
        except OSError as error:
            raise SourceError(
                f"{self.folder}: the cache cannot be written ({error.strerror}).",
                remedy="Free some space, or choose another folder.",
            ) from error
        self._tidy(current)

    def codes(self, run: str) -> CodeArray:
        path = self._of_run(run)
        if self.gate is not None or self.study.classification is not None:
            _require(path, self.gate)
        elif not path.exists():
            self.prepare(run)
        codes: CodeArray = np.load(path, mmap_mode="r")
        if self.gate is None:
            _require_ungated(path)
            return codes
        counted = self._counted(self.gate, run, len(codes))
        return codes if counted.all() else codes[counted]

    def _counted(self, gate: Gate, run: str, rows: int) -> Mask:
        """Which rows count now. Whoever does not is out of the run for good, and that is kept."""
        place = _numbers(self._of_run(run), gate)
        try:
            with _alone(self.folder / ".lock"):
                numbers = np.load(place)
                if len(numbers) != rows:
                    raise ValueError("the rows of the run and their persons are not as many")
                counted = gate.mask(run, numbers)
                with replacing(place, private=True) as file:
                    np.save(file, np.where(counted, numbers, 0))
        except OSError as error:
            raise SourceError(
                f"{self.folder}: who is out of the run cannot be kept ({error.strerror}).",
                remedy="Free some space.",
            ) from error
        return counted

    def release(self, run: str) -> None:
        path = self._of_run(run)
        path.unlink(missing_ok=True)
        for left in path.parent.glob(f"{path.stem}-*.npy"):
            left.unlink(missing_ok=True)

    def _prepare_gated(self, gate: Gate, run: str) -> None:
        """Codes and persons of one reading, one process at a time: they must never be of two."""
        with _alone(self.folder / ".lock"):
            if self._of_run(run).exists():
                return
            current = self._current(run)
            people = current.with_name(f"{current.stem}-people-{gate.store_id[:16]}.npy")
            if not (current.exists() and people.exists()):
                table = self.source.read(self._names, total=True)
                codes, ids = encode_with_ids(table, self.study, self.source.id_column)
                keys = b"".join(gate.pseudonyms(written_ids(ids)))
                current.unlink(missing_ok=True)
                with replacing(people, private=True) as file:
                    np.save(file, np.frombuffer(keys, dtype=np.uint8).reshape(-1, 16))
                with replacing(current) as file:
                    np.save(file, codes)
            with replacing(_numbers(self._of_run(run), gate), private=True) as file:
                np.save(file, gate.enter(np.load(people)))
            _link(current, self._of_run(run))
            os.utime(self._of_run(run))
            self._tidy(current)

    @property
    def _names(self) -> list[str]:
        return [feature.name for feature in self.study.features]

    def _of_run(self, run: str) -> Path:
        """The run's own name for its rows: what changes in the source later is for later runs."""
        key = canonical.encode([run, self.source.id_column, CODING])
        name = canonical.digest(key).hex()[:32]
        return self.folder / f"{self.study.hash[:16]}-run-{name}.npy"

    def _current(self, run: str) -> Path:
        """The newest rows, by their source's state and the dictionary."""
        # A source that cannot say whether it changed is read anew for each run.
        state = self.source.fingerprint() or f"run:{run}"
        dictionary = [asdict(feature) for feature in self.study.features]
        parts = [state, self.source.id_column, dictionary, CODING]
        key = canonical.encode(parts, floats=True)
        return self.folder / f"{self.study.hash[:16]}-rows-{canonical.digest(key).hex()[:32]}.npy"

    def _tidy(self, current: Path) -> None:
        """Remove rows that no new run would use, and what runs and writers that died left."""
        for old in self.folder.glob(f"{self.study.hash[:16]}-rows-*.npy"):
            if not old.stem.startswith(current.stem):
                old.unlink(missing_ok=True)
        for left in (*self.folder.glob("*-run-*.npy"), *self.folder.glob(".*.part")):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - RUN_DAYS * 86_400:
                    left.unlink()


def _numbers(path: Path, gate: Gate) -> Path:
    """Where the persons of a run's rows are: their numbers mean something in one store alone."""
    return path.with_name(f"{path.stem}-{gate.store_id[:16]}.npy")


def _require(path: Path, gate: Gate | None) -> None:
    """Refuse a run whose rows or persons are gone.

    Read anew, later consents would enter it; and of a classifier's run, which reads its ids once,
    customers with other ids could change sides (see `books`).
    """
    if not (path.exists() and (gate is None or _numbers(path, gate).exists())):
        raise SourceError(
            f"{path.parent}: the rows with which the run began are gone, or the consent store is"
            " another one.",
            remedy="Restore them, or let the server start a new run.",
        )


def _require_ungated(path: Path) -> None:
    """Refuse to go on without consents in a run that began with them."""
    if any(path.parent.glob(f"{path.stem}-*.npy")):
        raise SourceError(
            f"{path.parent}: the run began with consents, and the policy keeps none any more.",
            remedy='Write consent = "required" into policy.toml again, or let the server start a'
            " new run.",
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The only one of all processes and threads, in its turn."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _link(source: Path, target: Path) -> None:
    """A second name for a file; a copy where the file system has no links.

    Raises:
        FileExistsError: another process was first.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        with replacing(target) as file, source.open("rb") as rows:
            shutil.copyfileobj(rows, file)
