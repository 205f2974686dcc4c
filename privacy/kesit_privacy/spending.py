"""The server's signed log of what it asked for: the second copy of every client's books.

A client decides by its own ledger. The log serves after a client's books were restored from a
backup: its owner merges the higher of the two, so that no charge is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kesit_privacy import canonical
from kesit_privacy.errors import ProtocolError
from kesit_privacy.hello import check_hex
from kesit_privacy.identity import Identity, verify
from kesit_privacy.sides import BookSide
from kesit_privacy.training import Event

LOG_TAG = "kesit spending log v1"
LONGEST_NAME = 1000
LARGEST_COUNT = 1 << 56
"""A μ² of 256: no study has as much."""


@dataclass(frozen=True)
class Spending:
    """One attempt at one sum, and what each member of its roster was charged, on which side.

    Logs of before there were sides name none: their sums were paid by all customers. A training is
    charged `trained` to a pot of its own, and 0 units.
    """

    study: str
    purpose: str
    run: str
    step: str
    attempt: int
    instruction: str
    units: int
    roster: tuple[str, ...]
    side: BookSide = BookSide.ALL
    trained: Event | None = None

    def as_dict(self) -> dict[str, Any]:
        """As canonical JSON; without `side` where all paid, and without `trained` where nothing
        was, as logs have always been."""
        plain = asdict(self)
        if self.side is BookSide.ALL:
            del plain["side"]
        if self.trained is None:
            del plain["trained"]
        return plain


def sign_log(entries: Sequence[Spending], identity: Identity) -> bytes:
    """The log as canonical bytes, signed by the server."""
    body = {"tag": LOG_TAG, "server": identity.public, "entries": [e.as_dict() for e in entries]}
    signature = identity.sign(canonical.encode(body))
    return canonical.encode({"log": body, "signature": signature})


def read_log(path: Path, servers: frozenset[str]) -> tuple[Spending, ...]:
    """Entries of a log file, if one of the pinned `servers` signed it.

    Raises:
        ProtocolError: unreadable, malformed, or not signed by a pinned server.
    """
    try:
        value = canonical.decode(path.read_bytes())
        body, signature = value["log"], value["signature"]
        server, tag = body["server"], body["tag"]
        check_hex(server, 32)
        entries = tuple(_entry(item) for item in body["entries"])
    except (OSError, KeyError, TypeError, ValueError, ProtocolError) as error:
        raise ProtocolError(
            f"{path}: is not a spending log.", remedy="Ask the coordinator for its signed log."
        ) from error
    signed = isinstance(signature, str) and verify(server, canonical.encode(body), signature)
    if tag != LOG_TAG or server not in servers or not signed:
        raise ProtocolError(
            f"{path}: is not signed by a server that the policy pins.",
            remedy="Ask the coordinator for the log that its own key signed.",
        )
    return entries


def _entry(value: dict[str, Any]) -> Spending:
    read: dict[str, Any] = {"roster": tuple(value["roster"])}
    if "trained" in value:
        read["trained"] = Event.read(value["trained"])
    if "side" in value:
        read["side"] = BookSide(value["side"])
    entry = Spending(**{**value, **read})
    for text, size in ((entry.study, 32), (entry.run, 16), (entry.instruction, 32)):
        check_hex(text, size)
    for identity in entry.roster:
        check_hex(identity, 32)
    for name in (entry.step, entry.purpose):
        if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
            raise TypeError("a name is no short printable text")
    for number in (entry.units, entry.attempt):
        if type(number) is not int or not 0 <= number <= LARGEST_COUNT:
            raise TypeError("a count is not a whole number in range")
    return entry
