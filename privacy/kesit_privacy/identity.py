"""Long-lived Ed25519 identities: who signs, and who is pinned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from kesit_privacy import canonical
from kesit_privacy.errors import KesitError
from kesit_privacy.keyfiles import Unlock, from_environment, load_pem, to_pem, write_private

FINGERPRINT_BITS: Final = 128
"""Bits that people compare. To pass for another, an attacker must find a key with the fingerprint
of one that exists already, a second preimage: 2^128 trials (2^118 if any of a thousand members will
do). Two keys of one's own that share a fingerprint (2^64 trials) gain nothing: whoever holds both
could as well share one."""

_FINGERPRINT_TAG: Final = b"kesit fingerprint v1"


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
    def load(cls, path: Path, unlock: Unlock = from_environment) -> Identity:
        """Read a key that `save` wrote.

        Args:
            unlock: gives the passphrase if the file is locked; by default the environment does.

        Raises:
            KesitError: missing, open to other users, locked and not opened, or no Ed25519 key.
        """
        key = load_pem(path, unlock)
        if not isinstance(key, Ed25519PrivateKey):
            raise KesitError(f"{path}: is not an Ed25519 key.", remedy="Use a key made by Kesit.")
        return cls(key)

    def save(self, path: Path, passphrase: bytes | None = None) -> None:
        """Write the key as PEM, readable by its owner alone; never over an existing file.

        Raises:
            KesitError: the file exists, or the disk refuses.
        """
        write_private(path, to_pem(self._key, passphrase))

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


def fingerprint(public: str) -> str:
    """What people read to each other to compare identities: `FINGERPRINT_BITS` in groups of four.

    >>> fingerprint("00" * 32)
    '51a1 4686 ca80 56a6 0d03 3acf 18a6 2e5a'
    """
    digest = canonical.digest(_FINGERPRINT_TAG + bytes.fromhex(public))
    return _grouped(digest[: FINGERPRINT_BITS // 8].hex())


def read_fingerprint(text: str) -> str:
    """A fingerprint as a person typed it (any case, any spaces, dashes or colons), in its one form.

    Raises:
        KesitError: not all of a fingerprint; a part of one is not worth comparing.
    """
    digits = "".join(character for character in text if character not in " -:\t\n").lower()
    if len(digits) != FINGERPRINT_BITS // 4 or set(digits) - set("0123456789abcdef"):
        raise KesitError(
            f"{text!r} is not a fingerprint.",
            remedy=f"Give all of its {FINGERPRINT_BITS // 16} groups of four hex digits.",
        )
    return _grouped(digits)


def _grouped(digits: str) -> str:
    return " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
