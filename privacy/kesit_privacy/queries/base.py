"""What every query of the catalogue is: a pure function of one row, summed exactly.

A query is a frozen value: a study, public parameters and a lattice. It answers three questions:
how long its vector is, what one customer can change (Δ), and what the sum over some rows is. The
sum of rows is the sum of f(row), in any order and any chunking, to the bit: everything that
reaches an accumulator is a whole number below 2^53 held in float64, or an int64.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from kesit_privacy.features import CodeArray, IntArray
from kesit_privacy.study import Study
from kesit_privacy.target import Side

CHUNK = 2048
"""Rows at a time: keeps a chunk's arrays in the processor's cache; no result depends on it."""

CHUNK_NUMBERS = 1 << 20
"""Fewer rows at a time where each is wide, so that memory depends on neither rows nor query."""

MAX_LENGTH = 1 << 20


class Query(ABC):
    """A sum that a study may ask for. Subclasses are frozen dataclasses.

    Attributes:
        scale_bits: one natural unit (one customer counted once) is 2^scale_bits lattice units.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    scale_bits: int

    @classmethod
    @abstractmethod
    def bind(cls, study: Study, params: dict[str, Any], scale_bits: int) -> Self:
        """The query that an instruction's parameters describe.

        Raises:
            ProtocolError: a parameter is missing, superfluous, of another type, or out of range.
        """

    @abstractmethod
    def params(self) -> dict[str, Any]:
        """Parameters as canonical JSON values; `bind` reads them back."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Number of coordinates."""

    @property
    @abstractmethod
    def delta_sq(self) -> int:
        """Δ² in squared lattice units: the largest ‖f(row)‖² over all rows (m not included)."""

    @abstractmethod
    def _sum_chunk(self, codes: CodeArray) -> IntArray:
        """Σ f(row) over a chunk, in lattice units, shape (length,)."""

    @property
    def counts(self) -> Side | None:
        """The customers whose rows alone can add anything: the field `side` of a query that has
        one. None: everyone."""
        side: Side | None = getattr(self, "side", None)
        return side

    @property
    def width(self) -> int:
        """Numbers that one row occupies while it is summed."""
        return 1

    def sum(self, codes: CodeArray, chunk: int | None = None) -> IntArray:
        """Σ f(row) over `codes`, shape (n, features), in lattice units; zeros for no rows."""
        total = np.zeros(self.length, dtype=np.int64)
        chunk = chunk or max(1, min(CHUNK, CHUNK_NUMBERS // self.width))
        for start in range(0, len(codes), chunk):
            total += self._sum_chunk(codes[start : start + chunk])
        return total
