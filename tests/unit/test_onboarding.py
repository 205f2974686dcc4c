"""A client's folder, its member list, and its change of keys."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from clikit import files
from enrolkit import NOW, Federation, helps, identity
from kesit_client import home as home_files
from kesit_client.consent.settings import CONSENT, ConsentSettings
from kesit_client.consent.terms import DEFAULTS, NEEDED_TERMS, TERMS
from kesit_client.errors import ClientError
from kesit_client.home import read_members, read_source
from kesit_client.ledger.store import Store
from kesit_client.owner import onboarding
from kesit_client.owner.onboarding import (
    create_client,
    join,
    pending_request,
    renew_request,
    rotate,
)
from kesit_client.owner.policy import Policy
from kesit_client.rows.sources import FileSource
from kesit_privacy import node_keys
from kesit_privacy.enrolment import parse_request, read_request, sign_request
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import Identity, fingerprint
from kesit_privacy.membership import MemberList, read_list, sign_list
from kesit_server.deployment import home as server_files
from kesit_server.deployment import members


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def forged(federation: Federation, members: MemberList, file: Path) -> Path:
    """A list that the coordinator signs although it should not."""
    key = Identity.load(federation.server / server_files.IDENTITY)
    file.write_bytes(sign_list(members, key))
    return file


# --- the folder ---------------------------------------------------------------------------------


def test_a_new_folder_holds_all_of_a_client(tmp_path: Path) -> None:
    home = tmp_path / "şişli"
    request = create_client(home, "Şişli", now=NOW)
    assert files(home) == {
        home_files.IDENTITY,
        home_files.NODE_KEY,
        home_files.REQUEST,
        home_files.POLICY,
        home_files.SOURCE,
        home_files.STUDIES,
        home_files.BOOKS,
        CONSENT,
        f"{home_files.BOOKS}.witness",
    }
    assert read_request(home / home_files.REQUEST) == request
    assert Identity.load(home / home_files.IDENTITY).public == request.identity
    key = node_keys.load_node_key(home / home_files.NODE_KEY)
    assert node_keys.public_line(key) == request.node_key
    store = Store.open(home / home_files.BOOKS)
    assert store.restored is None  # moving the new folder into its place is no restoration
    store.close()
    if os.name == "posix":
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for name in (home_files.IDENTITY, home_files.NODE_KEY, home_files.BOOKS):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_the_templates_are_valid_and_allow_nothing(tmp_path: Path) -> None:
    create_client(tmp_path / "a", "A")
    policy = Policy.load(tmp_path / "a" / home_files.POLICY)
    assert not policy.purposes
    assert not policy.features
    assert not policy.servers
    assert not policy.peers
    text = (tmp_path / "a" / home_files.POLICY).read_text(encoding="utf-8")
    for name in Policy.__dataclass_fields__:
        assert name in text, name
    assert isinstance(read_source(tmp_path / "a" / home_files.SOURCE), FileSource)
    assert ConsentSettings.load(tmp_path / "a") == ConsentSettings()
    template = (tmp_path / "a" / CONSENT).read_text(encoding="utf-8")
    fields = re.findall(r"^# (\w+ = .+)$", template, re.MULTILINE)
    settings = [line for line in fields if line.split()[0] not in TERMS]
    shared = [line for line in fields if line.split()[0] in TERMS]
    text = "\n".join([*settings, "[defaults]", *shared])
    (tmp_path / "a" / CONSENT).write_text(text, encoding="utf-8")
    found = ConsentSettings.load(tmp_path / "a").defaults
    assert {*found, *DEFAULTS} == set(NEEDED_TERMS)


def test_a_second_init_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    create_client(tmp_path / "a", "A")
    before = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}
    with pytest.raises(ClientError, match="not an empty folder") as error:
        create_client(tmp_path / "a", "A")
    helps(error)
    now = {path: path.read_bytes() for path in (tmp_path / "a").iterdir() if path.is_file()}
    assert now == before


def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Store:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onboarding.Store, "open", full)
    with pytest.raises(ClientError, match="No space left"):
        create_client(tmp_path / "a", "A")
    (tmp_path / "file").write_text("")
    with pytest.raises(ClientError, match="cannot become"):
        create_client(tmp_path / "file" / "a", "A")
    with pytest.raises(ProtocolError, match="short printable text"):
        create_client(tmp_path / "a", "a\nb")
    assert files(tmp_path) == {"file"}


def test_a_name_is_kept_in_its_composed_form(tmp_path: Path) -> None:
    assert create_client(tmp_path / "a", "S\u0327is\u0327li").name == "Şişli"


def test_a_request_can_be_made_anew_for_the_same_keys(tmp_path: Path) -> None:
    old = create_client(tmp_path / "a", "A", passphrase=b"x", now=NOW)
    with pytest.raises(KesitError, match="locked"):
        renew_request(tmp_path / "a", unlock=lambda _: None)
    new = renew_request(tmp_path / "a", name="B", unlock=lambda _: b"x", now=NOW + 9)
    assert new == replace(old, name="B", created=NOW + 9)
    assert read_request(tmp_path / "a" / home_files.REQUEST) == new


def test_another_folder_is_no_client_s(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="is no client's folder"):
        renew_request(tmp_path)


# --- the member list ----------------------------------------------------------------------------


def test_the_first_list_needs_the_coordinator_s_fingerprint(federation: Federation) -> None:
    home = federation.homes["İzmir"]
    with pytest.raises(ClientError, match="needs the coordinator's fingerprint"):
        join(home, federation.list_file)
    with pytest.raises(ProtocolError, match="not by the one that you gave"):
        join(home, federation.list_file, fingerprint(identity(9).public))
    assert read_members(home) is None
    joined = join(home, federation.list_file, federation.fingerprint)
    assert joined.me is not None
    assert (joined.me.name, joined.me.status, joined.rotated) == ("İzmir", "active", False)
    assert read_members(home) == joined.members
    assert join(home, federation.list_file) == joined


def test_an_old_list_is_refused_and_the_newer_one_kept(
    federation: Federation, tmp_path: Path
) -> None:
    home = federation.homes["Ankara"]
    old = tmp_path / "old.json"
    shutil.copyfile(federation.list_file, old)
    federation.join_all()
    members.revoke(federation.server, "İzmir", now=NOW)
    newest = join(home, federation.list_file).members
    with pytest.raises(ProtocolError, match="is older than"):
        join(home, old)
    assert read_members(home) == newest


def test_a_list_of_another_federation_is_refused(federation: Federation, tmp_path: Path) -> None:
    federation.join_all()
    other = Federation(tmp_path / "other", ())
    home = federation.homes["Ankara"]
    for given in (None, other.fingerprint):
        with pytest.raises(ProtocolError, match="another federation"):
            join(home, other.list_file, given)


def test_a_tampered_list_is_refused(federation: Federation, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_bytes(federation.list_file.read_bytes().replace(b"9092", b"9091"))
    with pytest.raises(ProtocolError, match="did not sign"):
        join(federation.homes["Ankara"], broken, federation.fingerprint)


def test_a_list_that_gives_away_one_s_name_or_keys_is_refused(
    federation: Federation, tmp_path: Path
) -> None:
    home, listed = federation.homes["Ankara"], read_list(federation.list_file)
    me, others = listed.members[0], listed.members[1:]
    line = node_keys.public_line(node_keys.new_node_key())
    stranger = identity(9).public
    cases = {
        "with another node key": replace(me, node_key=line),
        "gives this client's node key": replace(me, identity=stranger, name="Bursa"),
        "which is not this client's": replace(me, identity=stranger, node_key=line, name="ANKARA"),
    }
    for text, member in cases.items():
        bad = replace(listed, serial=99, members=(member, *others))
        with pytest.raises(ProtocolError, match=text):
            join(home, forged(federation, bad, tmp_path / "bad.json"), federation.fingerprint)
    assert read_members(home) is None


def test_a_list_without_oneself_says_so(federation: Federation, tmp_path: Path) -> None:
    create_client(tmp_path / "late", "Bursa")
    joined = join(tmp_path / "late", federation.list_file, federation.fingerprint)
    assert joined.me is None


# --- new keys -----------------------------------------------------------------------------------


def test_new_keys_come_into_use_with_the_list_that_names_them(federation: Federation) -> None:
    federation.join_all()
    home = federation.homes["Ankara"]
    old = read_request(home / home_files.REQUEST)
    new = rotate(home, passphrase=b"new", now=NOW)
    assert new.replaces == old.identity
    assert Identity.load(home / home_files.IDENTITY).public == old.identity
    assert not join(home, federation.list_file).rotated
    members.rotate(federation.server, "Ankara", new, now=NOW)
    joined = join(home, federation.list_file)
    assert joined.rotated
    assert joined.me is not None
    assert joined.me.identity == new.identity
    opened = Identity.load(home / home_files.IDENTITY, lambda _: b"new")
    assert opened.public == new.identity
    key = node_keys.load_node_key(home / home_files.NODE_KEY)
    assert node_keys.public_line(key) == new.node_key
    assert home_files.former_identities(home) == (old.identity,)
    assert pending_request(home) is None
    assert not (home / home_files.NEXT).exists()


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_crash_in_the_change_is_mended_by_joining_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    federation.join_all()
    home = federation.homes["Ankara"]
    new = rotate(home, now=NOW)
    members.rotate(federation.server, "Ankara", new, now=NOW)
    move, done = Path.replace, []

    def crash(self: Path, target: Path) -> Path:
        if self.parent.name == home_files.NEXT:
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(self)
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            join(home, federation.list_file)
    assert join(home, federation.list_file).rotated
    assert Identity.load(home / home_files.IDENTITY).public == new.identity
    assert len(home_files.former_identities(home)) == 1


def test_keys_that_wait_are_not_made_twice(federation: Federation) -> None:
    home = federation.homes["Ankara"]
    rotate(home)
    with pytest.raises(ClientError, match="new keys wait there") as error:
        rotate(home)
    helps(error)


def test_a_lost_folder_comes_back_under_its_name_with_new_keys(
    federation: Federation, tmp_path: Path
) -> None:
    home = tmp_path / "new"
    request = create_client(home, "Ankara", now=NOW)
    with pytest.raises(ProtocolError, match=r"which is not this client's.*--lost-key"):
        join(home, federation.list_file, federation.fingerprint)
    told = fingerprint(request.identity)
    members.rotate(federation.server, "Ankara", request, told, lost_key=True, now=NOW)
    joined = join(home, federation.list_file, federation.fingerprint)
    assert joined.me is not None
    assert joined.me.identity == request.identity


def test_an_impostor_s_request_does_not_pass_for_a_change_of_keys(federation: Federation) -> None:
    asked = parse_request(
        sign_request("Ankara", identity(8), node_keys.new_node_key(), old=identity(9), now=NOW)
    )
    with pytest.raises(ProtocolError, match="not signed by the present key"):
        members.rotate(federation.server, "Ankara", asked, now=NOW)


@pytest.mark.parametrize("data", ["{", "{}", "[1]"])
def test_a_broken_list_of_former_identities_is_named(tmp_path: Path, data: str) -> None:
    (tmp_path / home_files.FORMER).write_text(data)
    with pytest.raises(ClientError, match=home_files.FORMER):
        home_files.former_identities(tmp_path)
