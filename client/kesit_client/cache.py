"""Rows as a memory map: coded once, read by every sum of a run.

A file holds codes and nothing else; its name is the hash of the dictionary and of the source's
fingerprint, so a changed source or study finds no file and builds one. Each run holds on to the
rows with which it began, by a name of its own. Files are written beside and moved into place: a
half-written cache is never read.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from kesit_client.coding import encode
from kesit_client.errors import SourceError
from kesit_client.sources import Source
from kesit_client.store import RUN_DAYS
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
        """

    def codes(self, run: str) -> CodeArray:
        """(customers, features) codes, as prepared for this run."""

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
    """Codes of a source, cached as a memory-mapped file in `folder`."""

    source: Source
    study: Study
    folder: Path

    def prepare(self, run: str) -> None:
        if self._of_run(run).exists():
            return
        current = self._current(run)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not current.exists():
                table = self.source.read(self._names, total=True)
                with replacing(current) as file:
                    np.save(file, encode(table, self.study, self.source.id_column))
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
        if not path.exists():
            self.prepare(run)
        codes: CodeArray = np.load(path, mmap_mode="r")
        return codes

    def release(self, run: str) -> None:
        self._of_run(run).unlink(missing_ok=True)

    @property
    def _names(self) -> list[str]:
        return [feature.name for feature in self.study.features]

    def _of_run(self, run: str) -> Path:
        """The run's own name for its rows: what changes in the source later is for later runs."""
        name = canonical.digest(canonical.encode([run, self.source.id_column])).hex()[:32]
        return self.folder / f"{self.study.hash[:16]}-run-{name}.npy"

    def _current(self, run: str) -> Path:
        """The newest rows, by their source's state and the dictionary."""
        # A source that cannot say whether it changed is read anew for each run.
        state = self.source.fingerprint() or f"run:{run}"
        dictionary = [asdict(feature) for feature in self.study.features]
        key = canonical.encode([state, self.source.id_column, dictionary], floats=True)
        return self.folder / f"{self.study.hash[:16]}-rows-{canonical.digest(key).hex()[:32]}.npy"

    def _tidy(self, current: Path) -> None:
        """Remove rows that no new run would use, and what runs and writers that died left."""
        for old in self.folder.glob(f"{self.study.hash[:16]}-rows-*.npy"):
            if old != current:
                old.unlink(missing_ok=True)
        for left in (*self.folder.glob("*-run-*.npy"), *self.folder.glob(".*.part")):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - RUN_DAYS * 86_400:
                    left.unlink()


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
