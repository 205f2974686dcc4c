"""Canary bits: drawn by one member, committed to in its hello, revealed after the run."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np

from kesit_privacy import canonical
from kesit_privacy.features import IntArray


def commitment(seed: bytes) -> str:
    """What the holder's hello says of its seed, in hex. Hiding: the seed is 32 random bytes."""
    return canonical.digest(b"kesit canary v1" + seed).hex()


def canary_bits(seed: bytes, run: str, step: str, attempt: int, count: int) -> IntArray:
    """The holder's bits for one attempt, shape (count,), 0 or 1.

    Each attempt has bits of its own, so that two attempts cannot be averaged against one pattern.
    """
    place = canonical.encode([run, step, attempt])
    stream = hashlib.shake_256(hmac.digest(seed, place, "sha256")).digest((count + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), bitorder="little")
    return bits[:count].astype(np.int64)
