"""The instruction: one canonical byte string that says everything about one sum.

I = SHA-256 of the bytes as received enters every pair's mask key, so two members that were told
anything different (another σ, other centres, another roster) share no mask and nothing opens.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

from kesit_privacy import canonical
from kesit_privacy.errors import ProtocolError
from kesit_privacy.hello import PROTOCOL, check_hex
from kesit_privacy.noise import LARGEST_SHARE_VARIANCE
from kesit_privacy.queries.base import MAX_LENGTH
from kesit_privacy.training import TRAINED

MAX_ATTEMPTS = 3
SCALE_BITS = 28
"""Default lattice: 2^-28 of a natural unit; 2^35 rows of weight 1 fit in 64 bits."""

MIN_SCALE_BITS, MAX_SCALE_BITS = 12, 32
MAX_INSTRUCTION_BYTES = 64 << 20


@dataclass(frozen=True)
class Canaries:
    """Extra coordinates at the end of the vector, zero for every customer.

    The member `holder` draws one bit a coordinate from its own secret seed (whose hash stands in
    its hello), adds `amplitude` where the bit is 1, keeps the seed until the run is over, then
    reveals it. No server draws or knows the bits while sums are made. `count` 0 means none,
    `holder` then "".
    """

    count: int = 0
    holder: str = ""
    amplitude: int = 0


@dataclass(frozen=True)
class Instruction:
    """A request for one sum.

    Attributes:
        study, run, transcript: hashes and run id, hex.
        step, attempt: place in the plan; attempts count from 1.
        query, query_version, params: the catalogue's entry and its public parameters.
        scale_bits: lattice of 2^-scale_bits.
        variance: of each member's noise share, squared lattice units, (numerator, denominator); 0
            for trained weights.
        delta_sq: Δ² in squared lattice units (m not included); 0 for trained weights.
        colluders, multiplicity: c and m.
        length: coordinates, canaries included.
        roster: identities that must all answer, sorted.
    """

    study: str
    run: str
    transcript: str
    step: str
    attempt: int
    query: str
    query_version: int
    params: dict[str, Any]
    scale_bits: int
    variance: tuple[int, int]
    delta_sq: int
    colluders: int
    multiplicity: int
    length: int
    roster: tuple[str, ...]
    canaries: Canaries = field(default_factory=Canaries)
    protocol: int = PROTOCOL

    def encode(self) -> bytes:
        """Canonical bytes."""
        return canonical.encode(asdict(self))

    @property
    def share_variance(self) -> Fraction:
        """`variance` as a fraction."""
        return Fraction(*self.variance)


def instruction_hash(data: bytes) -> bytes:
    """I, 32 bytes: SHA-256 of the instruction as received."""
    return canonical.digest(data)


@lru_cache(maxsize=8)
def read(data: bytes) -> Instruction:
    """Parse an instruction and check the form of every field. Pure, hence remembered.

    What the fields *say* is judged by the client's checklist, against its own copy of the study.

    Raises:
        ProtocolError: not canonical, another version, or a field of the wrong type or range.
    """
    if len(data) > MAX_INSTRUCTION_BYTES:
        raise _bad("size")
    value = canonical.decode(data)
    names = set(Instruction.__dataclass_fields__)
    if not isinstance(value, dict) or set(value) != names:
        raise _bad("set of fields")
    for name, size in (("study", 32), ("run", 16), ("transcript", 32)):
        check_hex(value[name], size)
    for name in ("step", "query"):
        if not isinstance(value[name], str) or not 1 <= len(value[name]) <= 120:
            raise _bad(name)
    trained = value["query"] == TRAINED
    for name, (low, high) in _RANGES.items():
        if trained and name == "delta_sq":
            low = high = 0
        if type(value[name]) is not int or not low <= value[name] <= high:
            raise _bad(name)
    if not isinstance(value["params"], dict):
        raise _bad("params")
    value["variance"] = _no_variance(value["variance"]) if trained else _variance(value["variance"])
    value["roster"] = _roster(value["roster"])
    value["canaries"] = _canaries(value["canaries"], value["length"])
    return Instruction(**value)


_RANGES = {
    "protocol": (PROTOCOL, PROTOCOL),
    "attempt": (1, MAX_ATTEMPTS),
    "query_version": (1, 1 << 16),
    "scale_bits": (MIN_SCALE_BITS, MAX_SCALE_BITS),
    "delta_sq": (1, 1 << 100),
    "colluders": (0, 1 << 20),
    "multiplicity": (1, 1 << 10),
    "length": (1, 2 * MAX_LENGTH),
}


def _variance(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2 or any(type(x) is not int for x in value):
        raise _bad("variance")
    numerator, denominator = value
    reduced = denominator >= 1 and numerator >= 1 and math.gcd(numerator, denominator) == 1
    if not reduced or numerator > LARGEST_SHARE_VARIANCE * denominator:
        raise _bad("variance")
    return numerator, denominator


def _no_variance(value: Any) -> tuple[int, int]:
    if value != [0, 1] or any(type(x) is not int for x in value):
        raise _bad("variance")
    return 0, 1


def _roster(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _bad("roster")
    for identity in value:
        check_hex(identity, 32)
    if any(first >= second for first, second in pairwise(value)):
        raise _bad("roster: not sorted, or one member twice")
    return tuple(value)


def _canaries(value: Any, length: int) -> Canaries:
    if not isinstance(value, dict) or set(value) != {"count", "holder", "amplitude"}:
        raise _bad("canaries")
    count, holder, amplitude = value["count"], value["holder"], value["amplitude"]
    if type(count) is not int or type(amplitude) is not int:
        raise _bad("canaries")
    if not 0 <= count < length or not 0 <= amplitude <= 1 << 50:
        raise _bad("canaries")
    if count:
        check_hex(holder, 32)
    elif holder != "" or amplitude:
        raise _bad("canaries")
    return Canaries(count, holder, amplitude)


def _bad(what: str) -> ProtocolError:
    return ProtocolError(
        f"The instruction is not acceptable: {what}.",
        remedy="Server and clients must run compatible versions of Kesit.",
    )
