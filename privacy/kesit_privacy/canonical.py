"""One value, one byte string: the canonical JSON under every hash and signature.

Sorted keys, no white space, ASCII only. Two parties that hold equal values hold equal bytes, and
`decode` refuses bytes that are not the encoding of what they say, so a hash of the bytes is a hash
of the value. Wire values hold no floats: a number that rounds differently on two machines would
break a mask. Studies do hold floats (bounds, ε); they are written as Python's shortest
representation that reads back to the same double.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kesit_privacy.errors import ProtocolError


def encode(value: Any, *, floats: bool = False) -> bytes:
    """Canonical bytes of a value made of dicts, lists, strings, integers, booleans and None.

    Raises:
        ProtocolError: the value holds a float (unless `floats`), NaN, or another type.
    """
    if not floats:
        _refuse_floats(value)
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        )
    except (TypeError, ValueError) as error:
        raise ProtocolError(
            f"A value has no canonical form: {error}.",
            remedy="Use strings, integers, booleans, lists and string-keyed tables.",
        ) from error
    return text.encode("ascii")


def decode(data: bytes) -> Any:
    """The value that `data` encodes.

    Raises:
        ProtocolError: `data` is no JSON, or is not the canonical encoding of its value.
    """
    try:
        value = json.loads(data)
        same = encode(value) == data
    except (ValueError, RecursionError, ProtocolError) as error:
        raise _not_canonical() from error
    if not same:
        raise _not_canonical()
    return value


def digest(data: bytes) -> bytes:
    """SHA-256 of `data`, 32 bytes."""
    return hashlib.sha256(data).digest()


def _not_canonical() -> ProtocolError:
    return ProtocolError(
        "The bytes are not canonical JSON without floats.",
        remedy="Both sides must run compatible versions of Kesit.",
    )


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise ProtocolError(
            "A float stands in a wire value.", remedy="Send integers on the lattice instead."
        )
    if isinstance(value, dict):
        for item in value.values():
            _refuse_floats(item)
    # A list of plain integers is the long case (centres): look at its types, not each item.
    elif isinstance(value, list | tuple) and set(map(type, value)) != {int}:
        for item in value:
            _refuse_floats(item)
