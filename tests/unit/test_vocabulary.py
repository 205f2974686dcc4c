"""The published `tr-kvkk` vocabulary defines every term that records use, in two languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kesit_client.consent.jsonld import TR_KVKK
from kesit_client.consent.terms import DPV_BASIS, DPV_STATUS, EVENT_FIELDS, TERMS

PLACE = Path(__file__).resolve().parents[2] / "docs" / "vocabulary" / "tr-kvkk.jsonld"
OF_27560 = {
    *("record_id", "pii_principal_id", "purpose", "lawful_basis", "event_type", "event_state"),
    *("event_time", "validity_duration", "entity_id", *TERMS[:17]),
}
"""Fields of ISO/IEC TS 27560; the others are the extension's."""
USED = sorted(
    {term for term in (*DPV_STATUS.values(), *DPV_BASIS.values()) if term.startswith("tr-kvkk:")}
    | {f"tr-kvkk:{name}" for name in {*EVENT_FIELDS, *TERMS} - OF_27560}
)


def graph() -> dict[str, dict[str, Any]]:
    document = json.loads(PLACE.read_text(encoding="utf-8"))
    assert document["@context"]["tr-kvkk"] == TR_KVKK
    return {item["@id"]: item for item in document["@graph"]}


@pytest.mark.parametrize("term", USED)
def test_a_term_is_defined_in_both_languages(term: str) -> None:
    found = graph()[term]
    labels = {label["@language"]: label["@value"] for label in found["skos:prefLabel"]}
    assert set(labels) == {"en", "tr"}
    assert all(labels.values())
    assert found["skos:definition"]
    assert found["@type"]


def test_the_vocabulary_defines_nothing_that_records_do_not_use() -> None:
    assert {name for name in graph() if name.startswith("tr-kvkk:")} == set(USED)
