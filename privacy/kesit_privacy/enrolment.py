"""The enrolment request: a member's public keys, and proof that it holds the private ones.

Three signatures, each over all that stands before it: the node key's (possession), the old
identity's (only when a member changes its keys), and last the new identity's. Nobody can take
another's node key into a request of his own, and no byte of a request can change.

A request says who someone claims to be. Only a person who compares fingerprints with the member,
on another way than the one by which the file came, makes that a fact.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from kesit_privacy import canonical, node_keys
from kesit_privacy.errors import ProtocolError
from kesit_privacy.identity import Identity, verify
from kesit_privacy.signed import LATEST, decoded, hexadecimal, read_bytes, table, text, whole

TAG: Final = "kesit enrolment request v1"
MAX_AGE_DAYS: Final = 60
MAX_AHEAD_SECONDS: Final = 24 * 3600
REMEDY: Final = "Ask the member for a request that `kesit client init` or `rotate` wrote."


@dataclass(frozen=True)
class EnrolmentRequest:
    """What a member asks to be enrolled with.

    Attributes:
        name: what people call it. identity: Ed25519, hex. node_key: an OpenSSH line.
        created: Unix seconds.
        replaces: the identity that this one takes the place of, or "".
        vouched: whether that old identity signed, too.
    """

    name: str
    identity: str
    node_key: str
    created: int
    replaces: str = ""
    vouched: bool = False


def sign_request(
    name: str,
    identity: Identity,
    node_key: ec.EllipticCurvePrivateKey,
    *,
    old: Identity | None = None,
    now: float | None = None,
) -> bytes:
    """A request file.

    Args:
        old: the identity that `identity` replaces; it signs, too.
        now: Unix seconds; None for the present.

    Raises:
        ProtocolError: the name cannot be one.
    """
    body = {
        "tag": TAG,
        "name": name,
        "identity": identity.public,
        "node_key": node_keys.public_line(node_key),
        "created": int(time.time() if now is None else now),
        "replaces": "" if old is None else old.public,
    }
    possession = node_keys.prove(node_key, canonical.encode([body]))
    vouching = "" if old is None else old.sign(canonical.encode([body, possession]))
    signature = identity.sign(canonical.encode([body, possession, vouching]))
    data = canonical.encode(
        {"request": body, "possession": possession, "vouching": vouching, "signature": signature}
    )
    parse_request(data)
    return data


def read_request(path: Path) -> EnrolmentRequest:
    """The request of a file; see `parse_request`."""
    return parse_request(read_bytes(path, "an enrolment request", REMEDY))


def parse_request(data: bytes) -> EnrolmentRequest:
    """A request whose signatures all hold.

    Raises:
        ProtocolError: malformed, changed, or a signature is missing or does not hold.
    """
    value = decoded(data, "an enrolment request")
    try:
        parts = table(value, "request", "possession", "vouching", "signature")
        body = table(parts["request"], "tag", "name", "identity", "node_key", "created", "replaces")
        if body["tag"] != TAG:
            raise ValueError("another tag")
        request = EnrolmentRequest(
            text(body["name"]),
            hexadecimal(body["identity"], 32),
            text(body["node_key"], 400),
            whole(body["created"], 0, LATEST),
            _optional(body["replaces"], 32),
            vouched=bool(parts["vouching"]),
        )
        signature = hexadecimal(parts["signature"], 64)
        vouching = _optional(parts["vouching"], 64)
        possession = text(parts["possession"], 400)
    except ValueError as error:
        raise ProtocolError(f"The enrolment request holds {error}.", remedy=REMEDY) from error
    covered = canonical.encode([body, possession, vouching])
    holds = verify(request.identity, covered, signature)
    holds = holds and node_keys.proves(request.node_key, canonical.encode([body]), possession)
    if vouching:
        vouched = canonical.encode([body, possession])
        holds = holds and verify(request.replaces, vouched, vouching)
    if not holds or bool(request.replaces) != request.vouched:
        raise ProtocolError(
            "A signature of the enrolment request does not hold: it was changed, or its sender does"
            " not hold the keys that it names.",
            remedy=REMEDY,
        )
    return request


def check_fresh(request: EnrolmentRequest, now: float | None = None) -> None:
    """Refuse a request that is old (it may be a replayed one) or from the future.

    Raises:
        ProtocolError: it is.
    """
    age = (time.time() if now is None else now) - request.created
    if age > MAX_AGE_DAYS * 86_400:
        raise ProtocolError(
            f"The enrolment request is older than {MAX_AGE_DAYS} days.",
            remedy="Ask the member for a new one (`kesit client request`).",
        )
    if age < -MAX_AHEAD_SECONDS:
        raise ProtocolError(
            "The enrolment request was made in the future.",
            remedy="One of the two clocks is wrong: set it, then ask for a new request.",
        )


def _optional(value: object, size: int) -> str:
    return "" if value == "" else hexadecimal(value, size)
