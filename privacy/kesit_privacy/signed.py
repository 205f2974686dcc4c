"""Signed JSON files that members and coordinator exchange: read strictly, refused as a whole."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from kesit_privacy import canonical
from kesit_privacy.errors import ProtocolError

MAX_BYTES = 4 << 20
LATEST = 1 << 40
"""No date (Unix seconds) is later: about 36,000 years from now."""


def read_bytes(path: Path, what: str, remedy: str) -> bytes:
    """Bytes of an exchanged file.

    Raises:
        ProtocolError: unreadable, or larger than any such file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ProtocolError(f"{path}: cannot be read ({error.strerror}).", remedy=remedy) from error
    if len(data) > MAX_BYTES:
        raise ProtocolError(f"{path}: is too large for {what}.", remedy=remedy)
    return data


def table(value: Any, *names: str) -> dict[str, Any]:
    """`value`, if it is a table with exactly these names.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, dict) or set(value) != set(names):
        raise ValueError("fields of other names")
    return value


def text(value: Any, longest: int = 120) -> str:
    """`value`, if it is a text of printable characters, in Unicode's composed form.

    Names that look alike are one name only if they are written alike; controls and marks that
    change the direction of reading could make a name look like another.

    Raises:
        ValueError: it is not, or has space around it.
    """
    if (
        not isinstance(value, str)
        or not 1 <= len(value) <= longest
        or not value.isprintable()
        or value != value.strip()
        or value != unicodedata.normalize("NFC", value)
    ):
        raise ValueError("a name that is no short printable text")
    return value


def folded(name: str) -> str:
    """What two names share if people could take one for the other by case or width.

    Turkish dotted and dotless i fold together, as people outside Turkey read them.
    """
    plain = unicodedata.normalize("NFKC", name).replace("İ", "i").replace("ı", "i")
    return unicodedata.normalize("NFKC", plain.casefold())


def hexadecimal(value: Any, size: int) -> str:
    """`value`, if it is `size` bytes in lower-case hex.

    Raises:
        ValueError: it is not.
    """
    digits = set("0123456789abcdef")
    if not isinstance(value, str) or len(value) != 2 * size or set(value) - digits:
        raise ValueError(f"a field that is not {size} bytes in hex")
    return value


def whole(value: Any, low: int, high: int) -> int:
    """`value`, if it is a whole number from `low` to `high`.

    Raises:
        ValueError: it is not.
    """
    if type(value) is not int or not low <= value <= high:
        raise ValueError("a number out of range")
    return value


def decoded(data: bytes, what: str) -> Any:
    """The value of canonical bytes.

    Raises:
        ProtocolError: they are not canonical, and so were changed after they were signed.
    """
    try:
        return canonical.decode(data)
    except ProtocolError as error:
        raise ProtocolError(
            f"This is not {what}: the bytes are not as Kesit writes them.",
            remedy="Get the file again, whole and unchanged; do not edit or reformat it.",
        ) from error
