"""The key with which a node opens Flower's door: EC P-384 in OpenSSH's format, as Flower wants it.

It proves to the SuperLink which node connects, nothing more: whoever steals it can stand at the
door, but can neither say hello nor answer, which only the identity can. It is kept unlocked,
because Flower reads no other.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.keyfiles import read_private, write_private

_HASH = ec.ECDSA(hashes.SHA384())


def new_node_key() -> ec.EllipticCurvePrivateKey:
    """A fresh key."""
    return ec.generate_private_key(ec.SECP384R1())


def save_node_key(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    """Write the private key, readable by its owner alone; never over an existing file.

    Raises:
        KesitError: the file exists, or the disk refuses.
    """
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))


def load_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read a private key that `save_node_key` wrote.

    Raises:
        KesitError: missing, open to other users, or no P-384 key in OpenSSH's format.
    """
    try:
        key = load_ssh_private_key(read_private(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp384r1":
        raise KesitError(
            f"{path}: is not a node key (EC P-384 in OpenSSH's format).",
            remedy="Restore it, or make new keys with `kesit client rotate`.",
        )
    return key


def public_line(key: ec.EllipticCurvePrivateKey) -> str:
    """The public key as OpenSSH writes it, on one line and without a comment."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def check_line(line: str) -> ec.EllipticCurvePublicKey:
    """The public key of a line.

    Raises:
        ProtocolError: not the one line that `public_line` would write for a P-384 key.
    """
    try:
        key = load_ssh_public_key(line.encode("ascii"))
        if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1":
            written = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            if written.decode("ascii") == line:
                return key
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise ProtocolError(
        "A node key is no EC P-384 key in OpenSSH's format.",
        remedy="The member must send the request that `kesit client init` wrote.",
    )


def prove(key: ec.EllipticCurvePrivateKey, message: bytes) -> str:
    """Signature (hex of DER) that shows possession of the private key."""
    return key.sign(message, _HASH).hex()


def proves(line: str, message: bytes, signature: str) -> bool:
    """Whether the holder of the key of `line` made this signature.

    Raises:
        ProtocolError: `line` is no node key.
    """
    try:
        check_line(line).verify(bytes.fromhex(signature), message, _HASH)
    except (InvalidSignature, ValueError):
        return False
    return True
