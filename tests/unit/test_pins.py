"""Pins: edits that leave an owner's file alone, keys that only a compared fingerprint finds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrolkit import NOW, Federation, helps, identity
from kesit_client.errors import ClientError, PolicyError
from kesit_client.home import POLICY
from kesit_client.owner import onboarding, toml_edit
from kesit_client.owner.pins import COORDINATOR, UNLISTED, pin, pins, unpin
from kesit_client.owner.policy import Policy
from kesit_privacy.errors import KesitError
from kesit_privacy.identity import fingerprint
from kesit_server.deployment import members

# --- edits --------------------------------------------------------------------------------------

TEXT = """\
# the owner's own words
servers = ["a", "b"]  # two of them

[peers]  # pinned
Ankara = "1"  # by telephone
'İzmir' = '2'

# what follows is about money
[lifetime]
epsilon = 1.0
"""


def test_an_entry_is_added_below_the_others_and_nothing_else_changes() -> None:
    new = toml_edit.set_entry(TEXT, "peers", "Şişli", "3")
    assert new == TEXT.replace("'İzmir' = '2'\n", "'İzmir' = '2'\n\"Şişli\" = \"3\"\n")
    assert toml_edit.set_entry(TEXT, "peers", "Van", "3").count('\nVan = "3"\n') == 1


def test_an_entry_is_replaced_in_its_place_with_its_comment() -> None:
    new = toml_edit.set_entry(TEXT, "peers", "Ankara", "9")
    assert new == TEXT.replace('Ankara = "1"', 'Ankara = "9"')
    new = toml_edit.set_entry(TEXT, "peers", "İzmir", "9")
    assert new == TEXT.replace("'İzmir' = '2'", "'İzmir' = \"9\"")


def test_an_entry_is_removed_with_its_line_only() -> None:
    assert toml_edit.remove_entry(TEXT, "peers", "İzmir") == TEXT.replace("'İzmir' = '2'\n", "")


def test_a_table_that_is_not_there_is_begun() -> None:
    assert toml_edit.set_entry("", "peers", "A", "1") == '[peers]\nA = "1"\n'
    assert toml_edit.set_entry("x = 1", "peers", "A", "1") == 'x = 1\n\n[peers]\nA = "1"\n'


def test_items_are_added_and_removed() -> None:
    for text, new in (
        ("servers = []", 'servers = ["c"]'),
        ('servers = ["a"]', 'servers = ["c", "a"]'),
        ("servers = [ ] # none", 'servers = ["c"] # none'),
    ):
        added = toml_edit.add_item(text, "servers", "c")
        assert added == new
        assert tomllib.loads(toml_edit.remove_item(added, "servers", "c")) == tomllib.loads(text)
    many = "servers = [\n  'a', # first\n  'b',\n]\nx = 1\n"
    assert "# first" in toml_edit.add_item(many, "servers", "c")
    assert "# first" in toml_edit.remove_item(many, "servers", "b")


def test_line_ends_are_kept() -> None:
    text = TEXT.replace("\n", "\r\n")
    new = toml_edit.set_entry(text, "peers", "Van", "3")
    assert "\n" not in new.replace("\r\n", "")


@pytest.mark.parametrize(
    "text",
    [
        "peers = { Ankara = '1' }",
        "peers.Ankara = '1'",
        '[peers]\nAnkara = """1"""',
        "x = '''\n[peers]\n'''\n[other]\n[peers.more]",
    ],
)
def test_what_an_edit_does_not_understand_it_leaves_alone(text: str) -> None:
    with pytest.raises(PolicyError, match="cannot edit; nothing was changed") as error:
        toml_edit.set_entry(text, "peers", "Ankara", "2")
    assert 'Ankara = "2" under [peers]' in error.value.remedy


@given(
    st.dictionaries(st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1), st.just("0")),
    st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=20),
)
def test_any_name_goes_in_and_out(others: dict[str, str], name: str) -> None:
    """Or the edit says that it cannot; it never writes anything else."""
    text = "[peers]\n"
    for other in others:
        if other != name:
            text = toml_edit.set_entry(text, "peers", other, "0")
    new = toml_edit.set_entry(text, "peers", name, "1")
    assert tomllib.loads(new)["peers"][name] == "1"
    assert toml_edit.remove_entry(new, "peers", name) == text


# --- pins ---------------------------------------------------------------------------------------


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    made = Federation(tmp_path)
    made.join_all()
    return made


@pytest.fixture
def ankara(federation: Federation) -> Path:
    return federation.homes["Ankara"]


def test_joining_pins_nobody(ankara: Path) -> None:
    assert pins(ankara) == ()


def test_a_compared_fingerprint_pins_the_key_that_has_it(
    federation: Federation, ankara: Path
) -> None:
    before = (ankara / POLICY).read_text()
    pin(ankara, COORDINATOR, federation.fingerprint)
    pin(ankara, "İzmir şubesi", federation.fingerprint_of("İzmir").upper())
    policy = Policy.load(ankara / POLICY)
    assert policy.servers == (federation.made.members.coordinator,)
    assert [fingerprint(key) for key in policy.peers.values()] == [
        federation.fingerprint_of("İzmir")
    ]
    assert [(p.name, p.status) for p in pins(ankara)] == [
        (COORDINATOR, "active"),
        ("İzmir şubesi", "active"),
    ]
    unpin(ankara, "İzmir şubesi")
    unpin(ankara, COORDINATOR)
    assert (ankara / POLICY).read_text() == before


def refused(home: Path, name: str, text: str, match: str, **options: bool) -> None:
    """The pin is refused, and the policy is as it was."""
    before = (home / POLICY).read_bytes()
    with pytest.raises(KesitError, match=match) as error:
        pin(home, name, text, **options)
    helps(error)
    assert (home / POLICY).read_bytes() == before


def test_a_key_that_only_the_list_offers_is_not_found(federation: Federation, ankara: Path) -> None:
    """A coordinator that lists a stranger under a member's name has not the true fingerprint."""
    refused(ankara, "İzmir", fingerprint(identity(9).public), "No member of the fingerprint")
    refused(ankara, COORDINATOR, fingerprint(identity(9).public), "No coordinator of the")
    refused(ankara, "İzmir", federation.fingerprint_of("İzmir")[:-1], "not a fingerprint")


def test_one_s_own_key_and_a_key_twice_are_refused(federation: Federation, ankara: Path) -> None:
    refused(ankara, "me", federation.fingerprint_of("Ankara"), "your own fingerprint")
    pin(ankara, "İzmir", federation.fingerprint_of("İzmir"))
    refused(ankara, "other", federation.fingerprint_of("İzmir"), "of 'İzmir', not of 'other'")
    refused(ankara, "İzmir", federation.fingerprint_of("İzmir"), "pinned already, as 'İzmir'")
    pin(ankara, COORDINATOR, federation.fingerprint)
    refused(ankara, COORDINATOR, federation.fingerprint, "pinned already")


def test_a_name_moves_to_another_key_only_when_its_owner_says_so(
    federation: Federation, ankara: Path
) -> None:
    pin(ankara, "İzmir", federation.fingerprint_of("İzmir"))
    other = federation.fingerprint_of("Şişli")
    refused(ankara, "İzmir", other, "pinned to another key")
    pin(ankara, "İzmir", other, replace=True)
    assert [fingerprint(p.identity) for p in pins(ankara)] == [other]


def test_revoked_keys_are_not_pinned_and_pinned_ones_are_told(
    federation: Federation, ankara: Path
) -> None:
    told = federation.fingerprint_of("İzmir")
    pin(ankara, "İzmir", told)
    members.revoke(federation.server, "İzmir", now=NOW)
    onboarding.join(ankara, federation.list_file)
    assert [p.status for p in pins(ankara)] == ["revoked"]
    unpin(ankara, "İzmir")
    refused(ankara, "İzmir", told, "were revoked")


def test_a_whole_key_can_be_pinned_without_a_list(tmp_path: Path) -> None:
    onboarding.create_client(tmp_path / "a", "A")
    pin(tmp_path / "a", "B", identity(9).public)
    pin(tmp_path / "a", COORDINATOR, identity(10).public)
    assert [p.status for p in pins(tmp_path / "a")] == [UNLISTED, UNLISTED]
    refused(tmp_path / "a", "C", fingerprint(identity(8).public), "No member of the fingerprint")


@pytest.mark.parametrize("name", ["", " x", "a\nb"])
def test_a_name_that_a_policy_cannot_hold_is_refused(
    federation: Federation, ankara: Path, name: str
) -> None:
    refused(ankara, name, federation.fingerprint_of("İzmir"), "would not be valid")


def test_what_is_not_pinned_cannot_be_unpinned(ankara: Path) -> None:
    for name in ("İzmir", COORDINATOR):
        with pytest.raises(ClientError, match="is not pinned"):
            unpin(ankara, name)
