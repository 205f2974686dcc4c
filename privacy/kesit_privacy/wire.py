"""What crosses the network: names of messages and fields, and the fixed list of refusals.

A reply is one code byte, then (for OK) the payload. A refusal says nothing but its code: no text of
any exception leaves a client, because it could hold data.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.masking import WordArray

HELLO = "query.hello"
SUM = "query.sum"
END = "query.end"

RECORD = "kesit"
REQUEST = "request"
TRANSCRIPT = "transcript"
REPLY = "reply"

# Headers of HTTP by which a waiting peer is told that there is something to fetch (see
# `kesit_server.deployment.bell`). Who does not know them polls, as Flower does.
SEEN = "kesit-seen"
MARK = "kesit-mark"
COMPLETE = "kesit-complete"


class RefusalCode(IntEnum):
    """Why a client did not answer. None depends on a customer's row."""

    OK = 0
    UNAVAILABLE = 1
    NOT_APPROVED = 2
    POLICY = 3
    NOT_PINNED = 4
    BAD_REQUEST = 5
    NOT_IN_PLAN = 6
    ROSTER = 7
    REPEATED = 8
    BUDGET = 9
    RESTORED = 10
    INTERNAL = 11


MEANING: dict[RefusalCode, str] = {
    RefusalCode.UNAVAILABLE: "the node is not ready (its owner's `check` says why)",
    RefusalCode.NOT_APPROVED: "the node's owner has approved no study of this hash",
    RefusalCode.POLICY: "the node's policy forbids it",
    RefusalCode.NOT_PINNED: "a member, server or noise mode that the node's policy does not pin",
    RefusalCode.BAD_REQUEST: "the request breaks the protocol",
    RefusalCode.NOT_IN_PLAN: "the step, query or cost is not in the study's plan",
    RefusalCode.ROSTER: "the roster is too small, or not a subset of the one before",
    RefusalCode.REPEATED: "another instruction was answered for this step",
    RefusalCode.BUDGET: "a budget of the node would be overdrawn",
    RefusalCode.RESTORED: "the node's books look restored; its owner must merge them first",
    RefusalCode.INTERNAL: "the node failed (its own log says why)",
}


class Refusal(KesitError):
    """A client's decision not to answer: a code for the server, a cause for the node's own log."""

    def __init__(self, code: RefusalCode, cause: str, *, remedy: str) -> None:
        super().__init__(cause, remedy=remedy)
        self.code = code


def reply(payload: bytes) -> bytes:
    """An accepted request's answer."""
    return bytes([RefusalCode.OK]) + payload


def refusal(code: RefusalCode) -> bytes:
    """A refused request's answer: one byte."""
    return bytes([code])


def read_reply(data: bytes) -> tuple[RefusalCode, bytes]:
    """Code and payload of a reply.

    Raises:
        ProtocolError: empty, a code that is not in the list, or a refusal with more than its code.
    """
    try:
        code = RefusalCode(data[0])
    except (IndexError, ValueError) as error:
        raise ProtocolError(
            "A reply is empty or has an unknown code.", remedy="Update the member's Kesit."
        ) from error
    if code is not RefusalCode.OK and len(data) > 1:
        raise ProtocolError("A refusal carries more than its code.", remedy="Update that member.")
    return code, data[1:]


def pack_words(words: WordArray) -> bytes:
    """A masked vector as little-endian 64-bit words."""
    return words.astype("<u8").tobytes()


def unpack_words(data: bytes, size: int) -> WordArray:
    """The masked vector of `size` words.

    Raises:
        ProtocolError: another length.
    """
    if len(data) != 8 * size:
        raise ProtocolError(
            "A masked vector has the wrong length.", remedy="Update the member's Kesit."
        )
    return np.frombuffer(data, dtype="<u8")
