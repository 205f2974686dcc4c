"""Rows as a memory map: coded once, read by every sum of a run.

The file holds codes and nothing else; its name is the hash of the dictionary and of the source's
fingerprint, so a changed source or study finds no file and builds one. It is written beside and
moved into place: a half-written cache is never read.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from kesit_client.coding import encode
from kesit_client.errors import SourceError
from kesit_client.sources import Source
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


@dataclass(frozen=True)
class ArrayRows:
    """Codes that are already in memory (simulations)."""

    array: CodeArray

    def prepare(self, run: str) -> None:
        """Nothing to do."""

    def codes(self, run: str) -> CodeArray:
        return self.array


@dataclass(frozen=True)
class CachedRows:
    """Codes of a source, cached as a memory-mapped file in `folder`."""

    source: Source
    study: Study
    folder: Path

    def prepare(self, run: str) -> None:
        path = self._path(run)
        if path.exists():
            return
        table = self.source.read([feature.name for feature in self.study.features])
        codes = encode(table, self.study, self.source.id_column)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                np.save(file, codes)
        except OSError as error:
            raise SourceError(
                f"{self.folder}: the cache cannot be written ({error.strerror}).",
                remedy="Free some space, or choose another folder.",
            ) from error
        self._discard_others(path)

    def codes(self, run: str) -> CodeArray:
        path = self._path(run)
        if not path.exists():
            self.prepare(run)
        codes: CodeArray = np.load(path, mmap_mode="r")
        return codes

    def _path(self, run: str) -> Path:
        # A source that cannot say whether it changed is read anew for each run.
        state = self.source.fingerprint() or f"run:{run}"
        dictionary = [asdict(feature) for feature in self.study.features]
        key = canonical.encode([state, self.source.id_column, dictionary], floats=True)
        return self.folder / f"{self.study.hash[:16]}-{canonical.digest(key).hex()[:32]}.npy"

    def _discard_others(self, keep: Path) -> None:
        for old in self.folder.glob(f"{self.study.hash[:16]}-*.npy"):
            if old != keep:
                old.unlink(missing_ok=True)
