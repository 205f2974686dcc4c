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
_FIELDS: Final = frozenset((*EVENT_FIELDS, *TERMS))


def read_records(path: Path) -> list[dict[str, str | None]]:
    """Records of a JSON-LD file, field by field as text.

    Raises:
        ConsentError: no JSON, or no records.
    """
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConsentError(
            f"{path}: is no JSON in UTF-8 ({error}).", remedy="Export it again."
        ) from error
    found = data.get("@graph", [data]) if isinstance(data, dict) else data
    if not isinstance(found, list):
        raise ConsentError(
            f"{path}: holds no records.", remedy='Give a list, or an object with "@graph".'
        )
    return [_record(item) for item in found]


def write_records(records: Iterable[Mapping[str, Any]]) -> bytes:
    """A JSON-LD document of these records."""
    graph = [
        {"@type": "dpv:ConsentRecord", **{k: v for k, v in record.items() if v is not None}}
        for record in records
    ]
    document = {"@context": CONTEXT, "@graph": graph}
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _record(item: Any) -> dict[str, str | None]:
    """A record's own fields, and those of its `event` and `party` objects."""
    if not isinstance(item, dict):
        return {}
    flat = dict(item)
    for nested in ("event", "party", "event_fields"):
        inner = flat.pop(nested, None)
        if isinstance(inner, dict):
            flat |= inner
    named = {_short(name): value for name, value in flat.items()}
    return {name: _text(value) for name, value in named.items() if name in _FIELDS}


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
