"""Consent records as JSON-LD: ISO/IEC TS 27560 fields with terms of DPV and of `tr-kvkk`.

The reader takes the form that the writer makes, and the same with full IRIs: one object, a list, or
an object with `@graph`. It fetches no context.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kesit_client.consent.terms import EVENT_FIELDS, TERMS
from kesit_client.errors import ConsentError

DPV: Final = "https://w3id.org/dpv#"
TR_KVKK: Final = "urn:x-kesit:tr-kvkk#"
CONTEXT: Final[dict[str, str]] = {
    "@vocab": TR_KVKK,
    "dpv": DPV,
    "tr-kvkk": TR_KVKK,
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
_NESTED: Final = ("event", "party", "event_fields")
_FIELDS: Final = frozenset((*EVENT_FIELDS, *TERMS))


def read_records(path: Path) -> list[dict[str, str | None]]:
    """Records of a JSON-LD file, field by field as text.

    Raises:
        ConsentError: no JSON, no records, or one that states a field twice.
    """
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ConsentError(
            f"{path}: is no JSON in UTF-8 ({error}).", remedy="Export it again."
        ) from error
    found = data.get("@graph", [data]) if isinstance(data, dict) else data
    if not isinstance(found, list):
        raise ConsentError(
            f"{path}: holds no records.", remedy='Give a list, or an object with "@graph".'
        )
    try:
        return [_record(item) for item in found]
    except (ValueError, RecursionError) as error:
        raise ConsentError(
            f"{path}: a record cannot be read ({error}).", remedy="Export it again."
        ) from error


def write_records(records: Iterable[Mapping[str, Any]]) -> bytes:
    """A JSON-LD document of these records."""
    graph = [
        {"@type": "dpv:ConsentRecord", **{k: v for k, v in record.items() if v is not None}}
        for record in records
    ]
    document = {"@context": CONTEXT, "@graph": graph}
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values of one name, one would hide the other."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} stands twice in one object")
    return found


def _record(item: Any) -> dict[str, str | None]:
    """A record's own fields, and those of its `event` and `party` objects."""
    if not isinstance(item, dict):
        return {}
    parts = [item, *(item.get(name) for name in _NESTED)]
    named = [
        (_short(name), value)
        for part in parts
        if isinstance(part, dict)
        for name, value in part.items()
    ]
    return {
        name: _text(value)
        for name, value in _once([pair for pair in named if pair[0] in _FIELDS]).items()
    }


def _short(name: str) -> str:
    for prefix in (TR_KVKK, DPV, "tr-kvkk:", "dpv:"):
        name = name.removeprefix(prefix)
    return name


def _text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("@id", value.get("@value"))
    if isinstance(value, list):
        return "; ".join(part for item in value if (part := _text(item)) is not None)
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():  # an id that a program wrote as 7.0
        value = int(value)
    # Half a pair of UTF-16 is no letter; it becomes the sign for lost ones.
    text = str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return f"dpv:{text.removeprefix(DPV)}" if text.startswith(DPV) else _kvkk(text)


def _kvkk(text: str) -> str:
    return f"tr-kvkk:{text.removeprefix(TR_KVKK)}" if text.startswith(TR_KVKK) else text
