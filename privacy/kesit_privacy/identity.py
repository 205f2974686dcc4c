"""Long-lived Ed25519 identities: who signs, and who is pinned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kesit_privacy.errors import KesitError


@dataclass(frozen=True)
class Identity:
    """A signing key; `public` (64 hex digits) is the name by which others pin its owner."""

    _key: Ed25519PrivateKey

    @classmethod
    def new(cls) -> Identity:
        """A fresh identity from the operating system's generator."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte secret. Simulations derive theirs, so that runs repeat."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a key that `save` wrote.

        Raises:
            KesitError: missing, unreadable, or no Ed25519 key.
        """
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise KesitError(
                f"{path}: the identity key cannot be read.", remedy="Restore it, or enrol anew."
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KesitError(f"{path}: is not an Ed25519 key.", remedy="Use a key made by Kesit.")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the key as PEM, readable by its owner alone; never over an existing file."""
        pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)

    @property
    def public(self) -> str:
        """The public key as 64 hex digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """Ed25519 signature as 128 hex digits."""
        return self._key.sign(message).hex()


@lru_cache(maxsize=1 << 14)
def verify(public: str, message: bytes, signature: str) -> bool:
    """Whether `signature` (hex) is `public`'s (hex) over `message`. A pure function, remembered."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True
