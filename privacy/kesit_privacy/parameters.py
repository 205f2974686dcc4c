"""A query's parameters: canonical JSON that came over a wire, read with every range checked."""

from __future__ import annotations

from typing import Any

from kesit_privacy.errors import ProtocolError


def take(params: dict[str, Any], *names: str) -> list[Any]:
    """The parameters of exactly these names, in order."""
    if not isinstance(params, dict) or set(params) != set(names):
        raise refuse(f"the parameters must be {', '.join(names)}")
    return [params[name] for name in names]


def whole(value: Any, low: int, high: int, what: str) -> int:
    """`value`, if it is an integer (no bool) in low .. high."""
    if type(value) is not int or not low <= value <= high:
        raise refuse(f"{what} must be a whole number in {low} .. {high}")
    return value


def whole_tuple(value: Any, size: int, low: int, high: int, what: str) -> tuple[int, ...]:
    """`value` as a tuple, if it is a list of `size` integers in low .. high."""
    if not isinstance(value, list) or len(value) != size:
        raise refuse(f"{what} must be a list of {size}")
    return tuple(whole(item, low, high, what) for item in value)


def refuse(what: str) -> ProtocolError:
    """The error for parameters that no honest server sends."""
    return ProtocolError(
        f"A query's parameters are out of range: {what}.",
        remedy="Server and clients must run the same study and compatible versions of Kesit.",
    )
