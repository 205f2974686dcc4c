"""Pairwise masks that cancel only when every member of the roster has answered one instruction.

Each pair shares an X25519 secret for the run; HKDF turns it into one key an instruction
(transcript as salt, both identities and I in the info); ChaCha20 turns the key into a stream of
64-bit words. The lower identity adds the stream, the higher subtracts it, modulo 2^64. Streams of
one pair for two instructions are independent, so answers to two rosters cannot be combined.

A roster of up to 40 masks everyone with everyone. Above, each member masks with the k nearest on
the sorted circle of identities. That graph has connectivity k: fewer than k colluders leave the
honest members connected, so nothing but the honest members' whole sum opens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from kesit_privacy.errors import ProtocolError
from kesit_privacy.features import IntArray

WordArray = NDArray[np.uint64]

COMPLETE_UP_TO = 40
_TAG = b"kesit mask v1"
_NONCE = bytes(16)
"""A key serves one instruction, hence one stream: the nonce may be constant."""


def connectivity(size: int) -> int:
    """Members that must be removed to split the masking graph of `size` members."""
    if size <= COMPLETE_UP_TO:
        return size - 1
    return 2 * math.ceil((4 * math.log2(size) + 16) / 2)


def neighbours(roster: Sequence[str], me: str) -> list[str]:
    """With whom `me` masks. `roster` is sorted and contains `me`."""
    size = len(roster)
    if size <= COMPLETE_UP_TO:
        return [peer for peer in roster if peer != me]
    place = roster.index(me)
    reach = connectivity(size) // 2
    offsets = [*range(-reach, 0), *range(1, reach + 1)]
    return [roster[(place + offset) % size] for offset in offsets]


def new_ephemeral() -> tuple[bytes, str]:
    """A fresh X25519 key: 32 private bytes, and the public key in hex."""
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw().hex()


class SharedSecrets:
    """One run's X25519 secrets with its peers, each computed once. Drop it when the run ends."""

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self._known: dict[str, bytes] = {}

    def __call__(self, ephemeral: str) -> bytes:
        """The secret shared with the holder of a public key (hex), 32 bytes.

        Raises:
            ProtocolError: a point of low order, which would make the secret public.
        """
        if ephemeral not in self._known:
            try:
                peer = X25519PublicKey.from_public_bytes(bytes.fromhex(ephemeral))
                self._known[ephemeral] = self._key.exchange(peer)
            except ValueError as error:
                raise ProtocolError(
                    "A peer's ephemeral key is not usable.",
                    remedy="Start a new run without that member.",
                ) from error
        return self._known[ephemeral]


def stream(
    secret: bytes, *, salt: bytes, low: str, high: str, instruction: bytes, size: int
) -> WordArray:
    """The pair's mask for one instruction, shape (size,)."""
    info = _TAG + bytes.fromhex(low) + bytes.fromhex(high) + instruction
    key = HKDF(SHA256(), 32, salt, info).derive(secret)
    encryptor = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * size)), dtype="<u8")


def mask(
    values: IntArray,
    *,
    me: str,
    secrets: Mapping[str, bytes],
    salt: bytes,
    instruction: bytes,
) -> WordArray:
    """`values` plus `me`'s masks with its peers, modulo 2^64, shape of `values`.

    Args:
        secrets: the run's shared secret with each peer, by the peer's identity.
        salt: hash of the transcript; instruction: I. 32 bytes each.
    """
    words = values.astype(np.uint64)
    for peer, secret in secrets.items():
        low, high = min(me, peer), max(me, peer)
        pad = stream(
            secret, salt=salt, low=low, high=high, instruction=instruction, size=len(words)
        )
        if me == low:
            words += pad
        else:
            words -= pad
    return words


def open_sum(answers: Sequence[WordArray]) -> IntArray:
    """Σ answers modulo 2^64, read as signed: the noisy sum, if all of the roster stand in it."""
    total: WordArray = np.sum(np.stack(answers), axis=0, dtype=np.uint64)
    return total.astype(np.int64)
