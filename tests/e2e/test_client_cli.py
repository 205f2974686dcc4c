"""`kesit server`, `client` and `officer`, as their owners use them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from clikit import POLICY, STUDY, Kesit, Outcome, files
from kesit_cli import exits
from kesit_client.ledger.store import Store
from kesit_client.owner.policy import Policy
from kesit_privacy.identity import Identity, fingerprint
from kesit_privacy.keyfiles import PASSPHRASE, PASSPHRASE_FILE
from kesit_privacy.membership import read_list
from kesit_privacy.study_file import load_study


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)


def told(outcome: Outcome) -> str:
    """The fingerprint that a command showed."""
    found = re.search(r"^Fingerprint +((?:[0-9a-f]{4} ){7}[0-9a-f]{4})$", outcome.out, re.MULTILINE)
    assert found, outcome.out
    return found[1]


class Federation:
    """A coordinator and three members, made by commands."""

    def __init__(self, kesit: Kesit) -> None:
        self.kesit = kesit
        made = kesit("server", "init", "--home", "server", "--host", "kesit.example.org")
        assert made.code == exits.OK, made.err
        self.coordinator = told(made)
        self.members: dict[str, str] = {}
        for name in ("Ankara", "İzmir", "Şişli"):
            self.add(name)

    def add(self, name: str) -> None:
        """A member that makes its folder and is admitted."""
        made = self.kesit("client", "init", name, "--home", name)
        assert made.code == exits.OK, made.err
        self.members[name] = told(made)
        request = f"{name}/request.json"
        shown = ("--yes", "--fingerprint", self.members[name])
        admitted = self.kesit("server", "admit", request, "--home", "server", *shown)
        assert admitted.code == exits.OK, admitted.err

    def ready(self) -> None:
        """Ankara has joined, pinned everyone and filled in its files."""
        members = "server/members.json"
        join = ("client", "join", members, "--home", "Ankara", "--coordinator", self.coordinator)
        assert self.kesit(*join).code == exits.OK
        Path("Ankara/policy.toml").write_text(POLICY, encoding="utf-8")
        lines = [f"c{n},{20 + n % 60},{n},{'web' if n % 2 else 'shop'}" for n in range(600)]
        Path("Ankara/customers.csv").write_text("\n".join(["no,age,balance,channel", *lines]))
        Path("Ankara/source.toml").write_text('path = "customers.csv"\nid_column = "no"\n')
        Path("study.toml").write_text(STUDY, encoding="utf-8")
        pins = {"coordinator": self.coordinator, **self.members}
        del pins["Ankara"]
        for name, shown in pins.items():
            pinned = self.kesit("client", "pin", name, *shown.split(), "--home", "Ankara")
            assert pinned.code == exits.OK, pinned.err


@pytest.fixture
def federation(kesit: Kesit) -> Federation:
    return Federation(kesit)


COMMANDS = [
    *(f"server {name}" for name in ("init", "admit", "members", "revoke", "rotate", "bundles")),
    "server renew-certificate",
    *(f"client {name}" for name in ("init", "request", "join", "rotate", "backup", "pin", "pins")),
    *(f"client {name}" for name in ("unpin", "approve", "withdraw-approval", "budget", "log")),
    *(f"client {name}" for name in ("merge", "check", "rules", "attest", "dispose")),
    *(f"client {name}" for name in ("score", "segment", "explain")),
    *(f"client consent {name}" for name in ("import", "export", "status", "withdraw", "history")),
    *(f"client consent {name}" for name in ("check", "prove", "verify")),
    *(f"client rights {name}" for name in ("open", "list", "close", "due", "report")),
    *(f"client exports {name}" for name in ("add", "list", "acknowledge")),
    "study rules",
    *(f"officer {name}" for name in ("init", "sign", "verify")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(kesit: Kesit, command: str) -> None:
    shown = kesit(*command.split(), "--help")
    assert shown.code == exits.OK
    assert re.search(rf"Examples?:\n +kesit {command}", shown.out)
    assert max(map(len, shown.out.splitlines())) <= 100


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_documents_every_command(command: str) -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert f"kesit {command}" in text


def test_from_the_first_key_to_an_approved_study(federation: Federation, tmp_path: Path) -> None:
    kesit = federation.kesit
    listed = kesit("server", "members", "--home", "server")
    for name, shown in federation.members.items():
        assert re.search(rf"^{name} +active .* {shown}$", listed.out, re.MULTILINE)
    federation.ready()
    pins = kesit("client", "pins", "--home", "Ankara").out
    assert all(shown in pins for name, shown in federation.members.items() if name != "Ankara")
    assert "not pinned" not in pins
    study = load_study(tmp_path / "study.toml")
    approved = kesit("client", "approve", "study.toml", "--home", "Ankara", "--yes")
    assert approved.code == exits.OK, approved.err
    assert study.hash in approved.out
    assert re.search(r"^lifetime +2 +0 +1 ", approved.out, re.MULTILINE)
    checked = kesit("client", "check", "study.toml", "--home", "Ankara")
    assert checked.code == exits.OK, checked.out
    # Its policy is an old one, in which nothing is said of consents.
    assert re.findall(r"^(FAIL|WARN) +(\w+)", checked.out, re.MULTILINE) == [("WARN", "consent")]
    budget = kesit("client", "budget", "--home", "Ankara")
    assert study.hash in budget.out
    assert re.search(r"^lifetime +2 +0 +2 ", budget.out, re.MULTILINE)
    priced = kesit("client", "budget", "study.toml", "--home", "Ankara")
    assert priced.code == exits.OK
    assert "fits in every budget" in priced.out
    log = kesit("client", "log", "--home", "Ankara")
    assert log.code == exits.OK
    withdrawn = kesit("client", "withdraw-approval", study.hash, "--home", "Ankara")
    assert withdrawn.code == exits.OK
    assert "no study is approved" in kesit("client", "budget", "--home", "Ankara").out


def test_the_log_shows_a_refusal_with_its_cause(federation: Federation) -> None:
    federation.ready()
    store = Store.open(Path("Ankara/books.sqlite"))
    with store.transaction() as books:
        books.add_refusal("ab" * 16, 3, "The policy does not allow the purpose 'pazarlama'.")
    store.close()
    for option in ([], ["--refusals"]):
        shown = federation.kesit("client", "log", "--home", "Ankara", *option).out
        assert re.search(r"abababab +POLICY +The policy does not allow the purpose", shown)


def test_new_keys_from_request_to_pin(federation: Federation) -> None:
    kesit = federation.kesit
    federation.ready()
    renewed = told(kesit("client", "rotate", "--home", "İzmir"))
    assert renewed != federation.members["İzmir"]
    request = "İzmir/next/request.json"
    rotate = ("server", "rotate", "İzmir", request, "--home", "server", "--yes", "--fingerprint")
    assert kesit(*rotate, renewed).code == exits.OK
    join = ("client", "join", "server/members.json", "--home")
    joined = kesit(*join, "İzmir", "--coordinator", federation.coordinator)
    assert "are in use now" in joined.out
    assert kesit(*join, "Ankara").code == exits.OK
    checked = kesit("client", "check", "--home", "Ankara")
    assert checked.code == exits.SETTINGS
    assert "retired" in checked.out
    pin = ("client", "pin", "İzmir", renewed, "--home", "Ankara")
    assert kesit(*pin).code == exits.SETTINGS
    assert kesit(*pin, "--replace").code == exits.OK
    assert kesit("client", "check", "--home", "Ankara").code == exits.OK


def test_a_lost_key_needs_its_fingerprint(federation: Federation) -> None:
    kesit = federation.kesit
    renewed = told(kesit("client", "init", "İzmir", "--home", "new"))
    rotate = ("server", "rotate", "İzmir", "new/request.json", "--home", "server", "--yes")
    assert kesit(*rotate, "--lost-key").code == exits.USAGE
    plain = kesit(*rotate, "--fingerprint", renewed)
    assert plain.code == exits.FEDERATION
    assert "--lost-key" in plain.said
    assert kesit(*rotate, "--lost-key", "--fingerprint", renewed).code == exits.OK


def test_a_member_leaves(federation: Federation) -> None:
    kesit = federation.kesit
    federation.ready()
    revoke = ("server", "revoke", "Şişli", "--home", "server")
    asked = kesit(*revoke)  # nobody is there to be asked
    assert asked.code == exits.SETTINGS
    assert "--yes" in asked.said
    assert kesit(*revoke, "--yes").code == exits.OK
    assert kesit("client", "join", "server/members.json", "--home", "Ankara").code == exits.OK
    assert "revoked" in kesit("client", "pins", "--home", "Ankara").out
    assert kesit("client", "unpin", "Şişli", "--home", "Ankara").code == exits.OK
    assert set(Policy.load(Path("Ankara/policy.toml")).peers) == {"İzmir"}


def test_admission_is_never_silent(federation: Federation) -> None:
    kesit = federation.kesit
    shown = told(kesit("client", "init", "Bursa", "--home", "Bursa"))
    admit = ("server", "admit", "Bursa/request.json", "--home", "server")
    before = Path("server/members.json").read_bytes()
    assert kesit(*admit).code == exits.SETTINGS
    assert kesit(*admit, "--yes").code == exits.USAGE
    other = kesit(*admit, "--yes", "--fingerprint", federation.coordinator)
    assert other.code == exits.FEDERATION
    assert "not the one that you gave" in other.said
    assert Path("server/members.json").read_bytes() == before
    assert kesit(*admit, "--fingerprint", shown).code == exits.OK
    again = kesit(*admit, "--fingerprint", shown)
    assert again.code == exits.SETTINGS
    assert "stand in the list already" in again.said


def test_a_second_init_is_refused(federation: Federation, tmp_path: Path) -> None:
    before = files(tmp_path)
    kesit = federation.kesit
    for command in (
        ("server", "init", "--home", "server", "--host", "a.example"),
        ("client", "init", "Ankara", "--home", "Ankara"),
    ):
        refused = kesit(*command)
        assert refused.code == exits.SETTINGS
        assert "does not exist yet" in refused.said
    assert files(tmp_path) == before


def test_passphrases_come_from_the_environment(
    kesit: Kesit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE, "güvenli")
    assert kesit("client", "init", "Ankara", "--home", "Ankara").code == exits.OK
    assert b"ENCRYPTED" in Path("Ankara/identity.pem").read_bytes()
    assert kesit("client", "rotate", "--home", "Ankara").code == exits.OK
    monkeypatch.setenv(PASSPHRASE, "wrong")
    wrong = kesit("client", "request", "--home", "Ankara")
    assert wrong.code == exits.SETTINGS
    assert "does not open it" in wrong.said
    monkeypatch.delenv(PASSPHRASE)
    missing = kesit("client", "request", "--home", "Ankara")
    assert PASSPHRASE_FILE in missing.said
    assert kesit("client", "init", "B", "--home", "B", "--no-passphrase").code == exits.OK


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_key_that_others_may_read_stops_the_command(federation: Federation) -> None:
    Path("Ankara/identity.pem").chmod(0o644)
    refused = federation.kesit("client", "request", "--home", "Ankara")
    assert refused.code == exits.SETTINGS
    assert "chmod 600" in refused.said


def test_a_backup_and_a_log_of_a_stranger(federation: Federation, tmp_path: Path) -> None:
    kesit = federation.kesit
    federation.ready()
    assert kesit("client", "backup", "a.tar.gz", "--home", "Ankara").code == exits.OK
    assert kesit("client", "backup", "a.tar.gz", "--home", "Ankara").code == exits.SETTINGS
    (tmp_path / "log.json").write_text("{}")
    merged = kesit("client", "merge", "log.json", "--home", "Ankara")
    assert merged.code == exits.FEDERATION
    assert "not a spending log" in merged.said


def test_a_new_address_reaches_the_members_in_a_new_list(federation: Federation) -> None:
    kesit = federation.kesit
    path = Path("server/coordinator.toml")
    renew = ("server", "renew-certificate", "--home", "server")
    serial = read_list(Path("server/members.json")).serial
    assert kesit(*renew).code == exits.OK
    assert read_list(Path("server/members.json")).serial == serial
    path.write_text(path.read_text().replace("kesit.example.org", "new.example.org"))
    assert "new.example.org" in kesit(*renew).out
    assert read_list(Path("server/members.json")).host == "new.example.org"
    assert kesit("server", "bundles", "ab" * 32, "--home", "server").code == exits.OK
    assert kesit("server", "bundles", "x", "--home", "server").code == exits.FEDERATION


def test_a_folder_of_another_kind_is_refused(federation: Federation) -> None:
    kesit = federation.kesit
    for command in ("pins", "check", "log", "budget", "request"):
        assert kesit("client", command, "--home", "server").code in (exits.SETTINGS, exits.DATA)
    assert kesit("server", "members", "--home", "Ankara").code == exits.SETTINGS


def test_an_officer_signs_and_anyone_verifies(kesit: Kesit, tmp_path: Path) -> None:
    shown = told(kesit("officer", "init"))
    assert fingerprint(Identity.load(Path("officer.pem")).public) == shown
    assert kesit("officer", "init").code == exits.SETTINGS
    (tmp_path / "privacy.md").write_text("gizlilik")
    assert kesit("officer", "sign", "privacy.md").code == exits.OK
    assert kesit("officer", "sign", "privacy.md").code == exits.RESULT
    verify = ("officer", "verify", "privacy.md", "privacy.md.sig", "--officer", shown)
    assert kesit(*verify).code == exits.OK
    (tmp_path / "privacy.md").write_text("gizlilik!")
    changed = kesit(*verify)
    assert changed.code == exits.FEDERATION
    assert "not the file that was signed" in changed.said
    assert kesit("officer", "sign", "absent.md").code == exits.SETTINGS
    keyless = kesit("officer", "sign", "privacy.md", "--key", "mine.pem", "--out", "other.sig")
    assert (keyless.code, "officer init --key mine.pem" in keyless.said) == (exits.SETTINGS, True)
