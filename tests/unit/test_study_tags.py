"""Tags and statements on processing: under the hash where they are given, and only there."""

from __future__ import annotations

import json
from typing import Any

import pytest

import kit
from kesit_privacy.errors import StudyError
from kesit_privacy.study_file import study_from_toml
from kesit_simulations import studies

HASHES = {
    "adult": "d101303719feef1cb26416c047e158de85be8822053720b2bd13a31fedbbcea1",
    "bank": "ad09b799a5b6ba0c422a988dc50b6f7a8fe79e14a750b0e0e7d9fec0399886e9",
    "digits": "68274416136b0ee7972683481692c91c2800e816d5270341593bb4b16ad4f52b",
    "house": "499c5146abaf9e9b1e0477e08df77a68a816ca5771ebb5f7c93f9092ab02006d",
    "online-retail": "01d9297e8a0523ddd294b4d784f11c5f50bd6b09ac7af78bc568c619a5838952",
    "retail-bank": "7aa303bf8b6bf5def4894980a77694ff70fc4031da93c8e39492ad3707032862",
    "s1": "f32f2c25939f7ad913ad8442da7cf164ff7c800c7dde6a60f33527e6efc06e79",
    "telco": "43b296237909fca3201bf70ed597639127530e2793e0b70f36162c2680a8f73d",
    "yeast": "d0b83e291ad99bdced3f1b74da636fc7e55f6b11bbbcf1be7b244de9656cb2f4",
}
"""Of studies that were agreed on before there were tags: they must stay as they are."""


@pytest.mark.parametrize("name", HASHES)
def test_the_hash_of_a_packaged_study_is_what_it_was(name: str) -> None:
    assert study_from_toml(studies.text(name)).hash == HASHES[name]


def tagged(*tags: str) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = kit.study_tables()["features"]
    return [{**features[0], "tags": list(tags)}, features[1]]


def test_tags_are_under_the_hash_where_they_are_given() -> None:
    plain = kit.small_study()
    some = kit.small_study(features=tagged("profiling"))
    other = kit.small_study(features=tagged("ordinary"))
    assert kit.small_study(features=tagged()).hash == plain.hash
    assert len({plain.hash, some.hash, other.hash}) == 3
    first, second = json.loads(some.canonical)["features"]
    assert first["tags"] == ["profiling"]
    assert "tags" not in second
    assert b"tags" not in plain.canonical


@pytest.mark.parametrize(
    "statement",
    [
        {"description": "Groups of similar customers."},
        {"retention_days": 90},
        {"profiling": True},
        {"profiling": False},
        {"automated_decisions": False},
        {"special_ground": "explicit-consent"},
        {"regions": ["TR"]},
    ],
)
def test_a_statement_is_under_the_hash_and_alone_there(statement: dict[str, Any]) -> None:
    plain, said = kit.small_study(), kit.small_study(processing=statement)
    assert json.loads(said.canonical)["processing"] == statement
    assert said.hash != plain.hash


def test_an_empty_table_says_nothing() -> None:
    assert kit.small_study(processing={}).hash == kit.small_study().hash
    assert b"processing" not in kit.small_study().canonical


@pytest.mark.parametrize(
    "changes",
    [
        {"features": tagged("secret")},
        {"features": tagged("profiling", "profiling")},
        {"features": tagged("ordinary", "profiling")},
        {"processing": {"retention_days": 0}},
        {"processing": {"regions": ["Turkey"]}},
        {"processing": {"regions": ["TR", "TR"]}},
        {"processing": {"regions": []}},
        {"processing": {"special_ground": "contract"}},
        {"processing": {"region": "TR"}},
        {"processing": {"profiling": "yes"}},
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StudyError) as caught:
        kit.small_study(**changes)
    kit.broken(caught)


@pytest.mark.parametrize("bad", ["\x1b[2J", "\x7f", "\u009b31m", "\u202e", "\u2028"])
def test_names_hold_nothing_that_would_steer_a_terminal(bad: str) -> None:
    assert kit.small_study(name="Müşteri kesiti: ığĞİş").name
    with pytest.raises(StudyError):
        kit.small_study(name=f"rich{bad}")
