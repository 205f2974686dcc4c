"""A coordinator's folder, the changes of its member list, and the SuperLink's list of nodes."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clikit import files
from enrolkit import NOW, Federation, helps, identity
from kesit_privacy import node_keys
from kesit_privacy.enrolment import EnrolmentRequest, parse_request, sign_request
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import fingerprint
from kesit_privacy.membership import RETIRED, REVOKED, MemberList, check_successor, read_list
from kesit_server.deployment import authority, members
from kesit_server.deployment import home as homes
from kesit_server.deployment import nodes as superlink_nodes
from kesit_server.deployment.door import Door
from kesit_server.deployment.registration import member_nodes, reconcile
from kesit_server.errors import DeploymentError


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """A coordinator's folder without members."""
    homes.create(tmp_path / "server", ["kesit.example.org", "10.0.0.5"], now=NOW)
    return tmp_path / "server"


def request(name: str = "Ankara", number: int = 1, old: int | None = None) -> EnrolmentRequest:
    """A request with fresh node keys."""
    vouching = None if old is None else identity(old)
    key = node_keys.new_node_key()
    return parse_request(sign_request(name, identity(number), key, old=vouching, now=NOW))


def admit(server: Path, name: str = "Ankara", number: int = 1) -> EnrolmentRequest:
    """Admit a member, with its fingerprint compared."""
    asked = request(name, number)
    members.admit(server, asked, fingerprint(asked.identity), now=NOW)
    return asked


# --- the folder ---------------------------------------------------------------------------------


def test_a_new_folder_holds_all_of_a_coordinator(server: Path) -> None:
    assert files(server) == {*homes.FILES, homes.RUNS, homes.RESULTS}
    coordinator = homes.open_coordinator(server)
    assert coordinator.settings == homes.Settings(("kesit.example.org", "10.0.0.5"), 9092)
    listed = coordinator.members
    assert (listed.serial, listed.host, listed.port, listed.members) == (
        1,
        "kesit.example.org",
        9092,
        (),
    )
    assert coordinator.identity().public == listed.coordinator
    ca, leaf, key = coordinator.tls
    assert ca.read_text() == listed.authority
    certificate = authority.load_certificate(leaf)
    assert authority.issued_by(certificate, authority.load_certificate(ca))
    assert set(authority.hosts_of(certificate)) >= {"kesit.example.org", "10.0.0.5", "127.0.0.1"}
    if os.name == "posix":
        assert stat.S_IMODE(server.stat().st_mode) == 0o700
        for path in (key, server / homes.CA_KEY, server / homes.IDENTITY):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_passphrase_locks_identity_and_ca_and_not_the_server_s_key(tmp_path: Path) -> None:
    home = tmp_path / "server"
    homes.create(home, ["a.example"], passphrase=b"locked")
    keys = (homes.IDENTITY, homes.CA_KEY, homes.LEAF_KEY)
    assert [b"ENCRYPTED" in (home / name).read_bytes() for name in keys] == [True, True, False]
    asked = request()
    shown = fingerprint(asked.identity)
    with pytest.raises(KesitError, match="is locked"):
        members.admit(home, asked, shown, now=NOW, unlock=lambda _: None)
    assert homes.open_coordinator(home).members.serial == 1
    members.admit(home, asked, shown, now=NOW, unlock=lambda _: b"locked")
    assert homes.open_coordinator(home).members.serial == 2


def test_a_second_init_is_refused_and_changes_nothing(server: Path) -> None:
    before = {path: path.read_bytes() for path in server.iterdir() if path.is_file()}
    with pytest.raises(DeploymentError, match="not an empty folder") as error:
        homes.create(server, ["a.example"])
    helps(error)
    assert {path: path.read_bytes() for path in server.iterdir() if path.is_file()} == before


def test_an_empty_folder_may_become_one(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    homes.create(tmp_path / "server", ["a.example"])
    homes.open_coordinator(tmp_path / "server")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_where_one_may_not_write_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DeploymentError, match="cannot become"):
        homes.create(tmp_path / "server", ["a.example"])
    tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DeploymentError, match="cannot become"):
            homes.create(place, ["a.example"])
    assert files(tmp_path) == {"file"}


def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(homes, "sign_list", full)
    with pytest.raises(DeploymentError, match="No space left"):
        homes.create(tmp_path / "server", ["a.example"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("hosts", "port"),
    [
        ([], 1),
        (["a b"], 1),
        (["0.0.0.0"], 1),
        (["::"], 1),
        (["a.example"], 0),
        (["a.example"], 65_536),
    ],
)
def test_wrong_hosts_and_ports_are_refused(tmp_path: Path, hosts: list[str], port: int) -> None:
    with pytest.raises(DeploymentError) as error:
        homes.create(tmp_path / "server", hosts, port=port)
    helps(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", homes.FILES)
def test_what_is_missing_is_named(server: Path, name: str) -> None:
    (server / name).unlink()
    with pytest.raises(DeploymentError, match=rf"lacks {name}"):
        homes.open_coordinator(server)
    with pytest.raises(DeploymentError, match="lacks"):
        homes.open_coordinator(server / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "hosts = 1\nport = 1",
        'hosts = ["a.b"]\nport = "1"',
        'hosts = ["a.b"]\nport = 1\nmore = 2',
    ],
)
def test_broken_settings_are_named(server: Path, text: str) -> None:
    (server / homes.SETTINGS).write_text(text)
    with pytest.raises(DeploymentError, match=homes.SETTINGS):
        homes.open_coordinator(server)


def test_a_tampered_list_is_refused_and_so_is_another_s_key(server: Path, tmp_path: Path) -> None:
    path = server / homes.MEMBERS
    good = path.read_bytes()
    path.write_bytes(good.replace(b"kesit.example.org", b"wrong.example.org"))
    with pytest.raises(ProtocolError, match="did not sign"):
        homes.open_coordinator(server)
    path.write_bytes(good)
    homes.create(tmp_path / "other", ["a.example"])
    (server / homes.IDENTITY).write_bytes((tmp_path / "other" / homes.IDENTITY).read_bytes())
    with pytest.raises(DeploymentError, match="is not the key that signed"):
        admit(server)


# --- members ------------------------------------------------------------------------------------


def test_every_change_is_a_list_of_a_higher_serial_that_may_follow(server: Path) -> None:
    seen = [read_list(server / homes.MEMBERS)]
    changes: list[Callable[[], object]] = [
        lambda: admit(server, "Ankara", 1),
        lambda: admit(server, "İzmir", 2),
        lambda: members.revoke(server, "izmir", now=NOW + 5),
        lambda: members.rotate(server, "Ankara", request("Ankara", 3, old=1), now=NOW),
        lambda: members.set_bundles(server, ["ab" * 32], now=NOW),
    ]
    for change in changes:
        change()
        seen.append(read_list(server / homes.MEMBERS))
        check_successor(seen[-2], seen[-1])
        assert seen[-1].serial == seen[-2].serial + 1
    last = seen[-1]
    assert [(m.name, m.status) for m in last.members] == [
        ("Ankara", RETIRED),
        ("İzmir", REVOKED),
        ("Ankara", "active"),
    ]
    assert last.bundles == ("ab" * 32,)


def unchanged(
    server: Path, change: Callable[[], object], kind: type[KesitError], text: str
) -> None:
    """The change is refused, and the list is as it was."""
    before = (server / homes.MEMBERS).read_bytes()
    with pytest.raises(kind, match=text) as error:
        change()
    helps(error)
    assert (server / homes.MEMBERS).read_bytes() == before


def test_a_stranger_is_not_admitted_under_a_member_s_fingerprint(server: Path) -> None:
    stranger = request("Ankara", 66)
    told = fingerprint(identity(1).public)
    unchanged(server, lambda: members.admit(server, stranger, told), ProtocolError, "not the one")


def test_a_request_serves_once(server: Path) -> None:
    asked = admit(server)
    shown = fingerprint(asked.identity)
    again = lambda: members.admit(server, asked, shown, now=NOW)  # noqa: E731
    unchanged(server, again, DeploymentError, "stand in the list already")
    members.revoke(server, "Ankara", now=NOW)
    unchanged(server, again, DeploymentError, "'Ankara', revoked")


def test_an_old_request_is_not_admitted(server: Path) -> None:
    asked = request()
    late = NOW + 61 * 86_400
    shown = fingerprint(asked.identity)
    unchanged(
        server, lambda: members.admit(server, asked, shown, now=late), ProtocolError, "older than"
    )


@pytest.mark.parametrize("name", ["Ankara", "ANKARA", "ankara"])
def test_nobody_takes_a_member_s_name(server: Path, name: str) -> None:
    admit(server)
    other = request(name, 2)
    take = lambda: members.admit(server, other, fingerprint(other.identity), now=NOW)  # noqa: E731
    unchanged(server, take, DeploymentError, "belongs to 'Ankara', who is active")
    members.revoke(server, "Ankara", now=NOW)
    unchanged(server, take, DeploymentError, "who is revoked")


def test_a_copied_node_key_is_not_admitted_twice(server: Path) -> None:
    asked = admit(server)
    copied = replace(request("İzmir", 2), node_key=asked.node_key)
    take = lambda: members.admit(server, copied, fingerprint(copied.identity), now=NOW)  # noqa: E731
    unchanged(server, take, DeploymentError, "stand in the list already")


def test_new_keys_need_the_old_ones_signature(server: Path) -> None:
    admit(server, "Ankara", 1)
    admit(server, "İzmir", 2)
    rotate = members.rotate
    told = fingerprint(identity(3).public)
    unvouched, other = request("Ankara", 3), request("Ankara", 3, old=2)
    for asked in (unvouched, other):
        unchanged(
            server,
            lambda a=asked: rotate(server, "Ankara", a, told, now=NOW),  # type: ignore[misc]
            ProtocolError,
            "not signed by the present key",
        )
    unchanged(
        server,
        lambda: rotate(server, "Ankara", unvouched, lost_key=True, now=NOW),
        ProtocolError,
        "nothing but the fingerprint",
    )
    unchanged(
        server,
        lambda: rotate(server, "Ankara", unvouched, fingerprint("00" * 32), lost_key=True, now=NOW),
        ProtocolError,
        "not the one",
    )
    unchanged(
        server,
        lambda: rotate(server, "İzmir", request("Ankara", 3, old=1), now=NOW),
        DeploymentError,
        "is 'Ankara''s, not 'İzmir''s",
    )
    unchanged(
        server,
        lambda: rotate(server, "Bursa", unvouched, now=NOW),
        DeploymentError,
        "no member 'Bursa'",
    )
    rotate(server, "Ankara", unvouched, told, lost_key=True, now=NOW)
    assert homes.open_coordinator(server).members.current("Ankara") is not None


def test_a_change_of_keys_is_not_admitted_as_a_new_member(server: Path) -> None:
    asked = request("Ankara", 3, old=1)
    take = lambda: members.admit(server, asked, fingerprint(asked.identity), now=NOW)  # noqa: E731
    unchanged(server, take, ProtocolError, "changes an enrolled member's keys")


def test_a_revoked_key_vouches_for_nothing(server: Path) -> None:
    admit(server, "Ankara", 1)
    members.revoke(server, "Ankara", now=NOW)
    asked = request("Ankara", 3, old=1)
    unchanged(
        server,
        lambda: members.rotate(server, "Ankara", asked, now=NOW),
        DeploymentError,
        "vouches for nothing",
    )
    members.rotate(server, "Ankara", asked, fingerprint(asked.identity), lost_key=True, now=NOW)


def test_revoking_twice_or_a_stranger_is_refused(server: Path) -> None:
    admit(server)
    unchanged(server, lambda: members.revoke(server, "Bursa"), DeploymentError, "no member")
    members.revoke(server, "Ankara", now=NOW)
    unchanged(server, lambda: members.revoke(server, "Ankara"), DeploymentError, "already")


def test_bundles_are_hashes(server: Path) -> None:
    unchanged(server, lambda: members.set_bundles(server, ["x"]), ProtocolError, "in hex")


def test_two_changes_at_once_are_both_kept(server: Path) -> None:
    asked = [request(f"Şube {number}", number) for number in range(1, 7)]
    threads = [
        threading.Thread(
            target=members.admit, args=(server, one, fingerprint(one.identity)), kwargs={"now": NOW}
        )
        for one in asked
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = homes.open_coordinator(server).members
    assert (listed.serial, len(listed.members)) == (7, 6)


def test_a_disk_that_refuses_leaves_the_old_list(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(homes, "replacing", full)
    asked = request()
    unchanged(
        server,
        lambda: members.admit(server, asked, fingerprint(asked.identity), now=NOW),
        DeploymentError,
        "No space left",
    )


def test_renewal_changes_the_certificate_and_the_list_only_if_the_address_moved(
    server: Path,
) -> None:
    before = authority.load_certificate(server / homes.LEAF)
    key = (server / homes.LEAF_KEY).read_bytes()
    assert members.renew_certificate(server, now=NOW) is None
    after = authority.load_certificate(server / homes.LEAF)
    assert after.serial_number != before.serial_number
    assert after.public_key() != before.public_key()
    assert (server / homes.LEAF_KEY).read_bytes() != key
    if os.name == "posix":
        assert stat.S_IMODE((server / homes.LEAF_KEY).stat().st_mode) == 0o600
    assert homes.open_coordinator(server).members.serial == 1
    text = (server / homes.SETTINGS).read_text()
    (server / homes.SETTINGS).write_text(text.replace("kesit.example.org", "new.example.org"))
    moved = members.renew_certificate(server, now=NOW)
    assert moved is not None
    assert (moved.host, moved.serial) == ("new.example.org", 2)
    assert "new.example.org" in authority.hosts_of(authority.load_certificate(server / homes.LEAF))


@pytest.mark.parametrize("lost_key", [False, True])
def test_an_old_request_changes_no_keys(server: Path, lost_key: bool) -> None:
    admit(server)
    asked = request(number=2, old=None if lost_key else 1)
    late = NOW + 61 * 86_400
    with pytest.raises(ProtocolError):
        members.rotate(
            server, "Ankara", asked, fingerprint(asked.identity), lost_key=lost_key, now=late
        )
    assert homes.open_coordinator(server).members.serial == 2


# --- the SuperLink's nodes ----------------------------------------------------------------------


class SuperLink:
    """Node keys as the SuperLink would know them; it fails when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: list[superlink_nodes.NodeState] = []
        self.fails = False
        for name in ("nodes", "admit", "revoke"):
            monkeypatch.setattr(superlink_nodes, name, getattr(self, name))

    def nodes(self, door: Door) -> list[superlink_nodes.NodeState]:
        return list(self.states)

    def admit(self, door: Door, public_key: bytes, name: str) -> int:
        if self.fails:
            raise DeploymentError("The SuperLink is away.", remedy="Start it.")
        key = superlink_nodes.canonical_key(public_key)
        assert key not in [state.public_key for state in self.states]
        number = 100 + len(self.states)
        self.states.append(superlink_nodes.NodeState(number, name, "registered", key))
        return number

    def revoke(self, door: Door, node_id: int) -> None:
        self.states = [
            replace(state, status="unregistered") if state.node_id == node_id else state
            for state in self.states
        ]


DOOR = Door(1, "token")


def test_the_superlink_knows_the_active_members_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, link = Federation(tmp_path), SuperLink(monkeypatch)

    def current() -> MemberList:
        return homes.open_coordinator(federation.server).members

    assert member_nodes(current(), DOOR) == ()
    assert reconcile(current(), DOOR).registered == ("Ankara", "İzmir", "Şişli")
    again = reconcile(current(), DOOR)
    assert (again.registered, again.unregistered) == ((), ())
    names = {known.node_id: known.member.name for known in member_nodes(current(), DOOR)}
    assert names == {state.node_id: state.name for state in link.states}
    members.revoke(federation.server, "İzmir", now=NOW)
    assert reconcile(current(), DOOR).unregistered == ("İzmir",)
    assert reconcile(current(), DOOR).unregistered == ()
    left = [known.member for known in member_nodes(current(), DOOR)]
    assert left == list(current().active)
    assert [member.name for member in left] == ["Ankara", "Şişli"]


def test_what_was_registered_before_a_failure_is_not_registered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, link = Federation(tmp_path), SuperLink(monkeypatch)
    reconcile(homes.open_coordinator(federation.server).members, DOOR)
    asked = request("Bursa", 8)
    new = members.admit(federation.server, asked, fingerprint(asked.identity), now=NOW)
    link.fails = True
    with pytest.raises(DeploymentError, match="away"):
        reconcile(new, DOOR)
    link.fails = False
    assert reconcile(new, DOOR).registered == ("Bursa",)
