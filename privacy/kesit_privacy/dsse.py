"""Detached signatures over files, as DSSE envelopes.

What is signed is a short statement: the file's SHA-256 and size, and the time. DSSE's
pre-authentication encoding binds the statement's type, so that a signature can serve for nothing
else. https://github.com/secure-systems-lab/dsse
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kesit_privacy import canonical
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import Identity, fingerprint, read_fingerprint, verify
from kesit_privacy.signed import LATEST, hexadecimal, read_bytes, table, whole

PAYLOAD_TYPE: Final = "application/vnd.kesit.file-digest+json"
REMEDY: Final = "Ask the officer for the file and its signature again."


@dataclass(frozen=True)
class Signed:
    """A signature that holds. `signed_at`: Unix seconds, by the signer's clock."""

    signer: str
    sha256: str
    size: int
    signed_at: int


def sign_file(path: Path, identity: Identity, now: float | None = None) -> bytes:
    """The envelope (JSON) of a signature over a file.

    Raises:
        KesitError: the file cannot be read.
    """
    sha256, size = _digest(path)
    moment = int(time.time() if now is None else now)
    payload = canonical.encode({"sha256": sha256, "size": size, "signed_at": moment})
    return sign(PAYLOAD_TYPE, payload, identity)


def verify_file(path: Path, signature: Path, expected: str) -> Signed:
    """What the signature says, if the one whose fingerprint is `expected` made it over this file.

    Raises:
        ProtocolError: malformed, another's, or the file is not the one that was signed.
        KesitError: the file cannot be read, or `expected` is no fingerprint.
    """
    wanted = read_fingerprint(expected)
    signed = _opened(read_bytes(signature, "a signature", REMEDY), signature)
    found = fingerprint(signed.signer)
    if found != wanted:
        raise ProtocolError(
            f"{signature}: is a signature of {found}, not of {wanted}.", remedy=REMEDY
        )
    if _digest(path) != (signed.sha256, signed.size):
        raise ProtocolError(
            f"{path}: is not the file that was signed, or it was changed.", remedy=REMEDY
        )
    return signed


def sign(payload_type: str, payload: bytes, identity: Identity) -> bytes:
    """The envelope (JSON) of a signature over a statement of some type."""
    signature = bytes.fromhex(identity.sign(pre_authentication(payload_type, payload)))
    envelope = {
        "payload": _base64(payload),
        "payloadType": payload_type,
        "signatures": [{"keyid": identity.public, "sig": _base64(signature)}],
    }
    return json.dumps(envelope, indent=1).encode() + b"\n"


def open_envelope(data: bytes, payload_type: str) -> tuple[str, bytes]:
    """Signer (64 hex digits) and payload of an envelope with one signature that holds.

    Raises:
        ValueError, TypeError, KeyError, RecursionError: malformed, of another type, or not signed.
    """
    envelope = table(json.loads(data), "payload", "payloadType", "signatures")
    if envelope["payloadType"] != payload_type or len(envelope["signatures"]) != 1:
        raise ValueError("another kind of statement, or not one signature")
    entry = table(envelope["signatures"][0], "keyid", "sig")
    payload = _decoded(envelope["payload"])
    signer = hexadecimal(entry["keyid"], 32)
    signature = _decoded(entry["sig"]).hex()
    if not verify(signer, pre_authentication(payload_type, payload), signature):
        raise ValueError("a signature that does not hold")
    return signer, payload


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's PAE: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _opened(data: bytes, place: Path) -> Signed:
    try:
        signer, payload = open_envelope(data, PAYLOAD_TYPE)
        fields = table(canonical.decode(payload), "sha256", "size", "signed_at")
        return Signed(
            signer,
            hexadecimal(fields["sha256"], 32),
            whole(fields["size"], 0, 1 << 60),
            whole(fields["signed_at"], 0, LATEST),
        )
    except (ValueError, TypeError, KeyError, RecursionError, ProtocolError) as error:
        cause = error.cause if isinstance(error, ProtocolError) else str(error)
        raise ProtocolError(
            f"{place}: is no signature of a file ({cause}).", remedy=REMEDY
        ) from error


def _digest(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return digest.hexdigest(), file.tell()
    except OSError as error:
        raise KesitError(
            f"{path}: cannot be read ({error.strerror}).", remedy="Check the path."
        ) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("a field that is no text")
    data = base64.b64decode(value, validate=True)
    if _base64(data) != value:
        raise ValueError("a field that is not base64 as it is written")
    return data
