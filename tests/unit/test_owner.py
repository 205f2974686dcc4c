"""What an owner does with a client's folder: approve, read the books, back up, restore, check."""

from __future__ import annotations

import datetime
import os
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from clikit import POLICY as SHOP_POLICY
from clikit import STUDY
from enrolkit import NOW, Federation, helps
from kesit_client.consent.settings import CONSENT
from kesit_client.errors import ClientError, PolicyError, SourceError, StoreError
from kesit_client.home import (
    BOOKS,
    CACHE,
    FORMER,
    IDENTITY,
    MEMBERS,
    NODE_KEY,
    POLICY,
    REQUEST,
    SOURCE,
    STUDIES,
)
from kesit_client.ledger import journal, migrations
from kesit_client.ledger.restoring import merge_logs
from kesit_client.ledger.store import Store
from kesit_client.opening import open_node
from kesit_client.owner import approvals, onboarding, preflight
from kesit_client.owner.backup import write_backup
from kesit_client.owner.inspection import FAIL, OK, WARN, Finding, inspect
from kesit_client.owner.pins import COORDINATOR, pin
from kesit_privacy import node_keys
from kesit_privacy.enrolment import sign_request
from kesit_privacy.errors import BudgetError, ProtocolError, StudyError
from kesit_privacy.identity import Identity
from kesit_privacy.instruction import instruction_hash
from kesit_privacy.spending import Spending, sign_log
from kesit_privacy.study_file import load_study
from kesit_privacy.wire import Refusal, RefusalCode
from kesit_server.deployment import members
from kit import SERVER, Session, ask, begin, keep_books


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A client's folder with a policy that allows the shop's study, and the study beside it."""
    onboarding.create_client(tmp_path / "ankara", "Ankara", now=NOW)
    (tmp_path / "ankara" / POLICY).write_text(SHOP_POLICY, encoding="utf-8")
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    return tmp_path / "ankara"


@pytest.fixture
def study_file(home: Path) -> Path:
    return home.parent / "study.toml"


def approved(home: Path) -> list[str]:
    """Hashes of approved studies in the books."""
    with closing(Store.open(home / BOOKS)) as store, store.transaction() as books:
        return [study for study, _ in books.approvals()]


# --- approvals ----------------------------------------------------------------------------------


def test_an_approval_is_a_copy_and_a_note_and_can_be_taken_back(
    home: Path, study_file: Path
) -> None:
    study = load_study(study_file)
    kept = approvals.approve(home, study_file, study.hash)
    assert kept == home / STUDIES / f"small-shop-{study.hash[:12]}.toml"
    assert kept.read_bytes() == study_file.read_bytes()
    assert approved(home) == [study.hash]
    assert approvals.approve(home, study_file, study.hash) == kept  # twice is once
    (home / SOURCE).write_text('path = "../customers.csv"\nid_column = "no"\n')
    node = open_node(home)
    assert set(node.studies) == {study.hash}
    node.store.close()
    assert approvals.withdraw(home, study.hash[:10].upper()) == study.hash
    assert approved(home) == []
    assert not kept.exists()
    with pytest.raises(ClientError, match="0 approved studies"):
        approvals.withdraw(home, str(study_file))


def test_what_is_not_approved_leaves_no_copy(home: Path, study_file: Path) -> None:
    study = load_study(study_file)
    with pytest.raises(StudyError, match="its hash is"):
        approvals.approve(home, study_file, "0" * 64)
    policy = (home / POLICY).read_text()
    for old, new, kind in (
        ("customer-segmentation", "marketing", Refusal),
        ("epsilon = 2.0", "epsilon = 0.5", BudgetError),
        ("min_roster = 3", "min_roster = three", PolicyError),
    ):
        (home / POLICY).write_text(policy.replace(old, new))
        with pytest.raises(kind) as error:
            approvals.approve(home, study_file, study.hash)
        helps(error)  # type: ignore[arg-type]
    assert not list((home / STUDIES).iterdir())
    assert approved(home) == []


def test_a_study_that_a_blocking_rule_forbids_is_not_approved(home: Path, study_file: Path) -> None:
    """A special category without a ground; with the ground, or without the pack, it is."""
    plain = study_file.read_text()
    tagged = plain.replace('name = "age"', 'name = "age"\ntags = ["special-category"]', 1)
    assert tagged != plain
    study_file.write_text(tagged, encoding="utf-8")
    study = load_study(study_file)
    with pytest.raises(PolicyError, match="KVKK-6") as error:
        approvals.approve(home, study_file, study.hash)
    helps(error)
    assert approved(home) == []
    policy = (home / POLICY).read_text()
    (home / POLICY).write_text("rules = []\n" + policy)
    approvals.approve(home, study_file, study.hash)
    assert approved(home) == [study.hash]


def test_a_note_that_fails_takes_the_copy_back(
    home: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, study: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr("kesit_client.ledger.store.Books.approve", fail)
    with pytest.raises(sqlite3.OperationalError):
        approvals.approve(home, study_file, load_study(study_file).hash)
    assert not list((home / STUDIES).iterdir())


def test_a_hash_that_is_too_short_names_no_study(home: Path, study_file: Path) -> None:
    approvals.approve(home, study_file, load_study(study_file).hash)
    with pytest.raises(ClientError, match="too short"):
        approvals.withdraw(home, load_study(study_file).hash[:7])
    assert len(approved(home)) == 1


# --- books --------------------------------------------------------------------------------------


class Answered:
    """A client's folder whose node answered one sum and refused another request."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.session: Session = begin(bins=32, books=home / BOOKS)
        self.node = self.session.nodes[0]
        key = node_keys.load_node_key(home / NODE_KEY)
        (home / REQUEST).write_bytes(sign_request("Ankara", self.node.identity, key))
        assert ask(self.node, self.session.order, self.session.transcript)[0] is RefusalCode.OK
        assert self.node.answer(b"{}", b"{}")[0] != RefusalCode.OK
        pin(home, COORDINATOR, SERVER.public)

    def log(self, place: Path, member: str) -> Path:
        """The server's log of the sum, as charged to one member."""
        order = self.session.order
        with self.node.store.transaction() as books:
            (charge,) = books.charges(order.run)
        digest = instruction_hash(order.encode()).hex()
        entry = Spending(
            order.study, charge.purpose, order.run, order.step, 1, digest, charge.units, (member,)
        )
        place.write_bytes(sign_log([entry], SERVER))
        return place


def test_the_log_tells_what_was_asked_and_what_was_refused(home: Path) -> None:
    answered = Answered(home)
    order = answered.session.order
    entries = journal.read_log(answered.node.store)
    assert [entry.kind for entry in entries] == [journal.HELLO, journal.SUM, journal.REFUSED]
    hello, answer, refused = entries
    assert (hello.run, hello.study) == (order.run, order.study)
    assert hello.bytes_out > 0
    assert answer.asked == order
    assert (answer.step, answer.attempt) == ("marginals", 1)
    assert answer.bytes_out == 8 * order.length
    assert answer.units > 0
    assert (refused.code, refused.run) == (RefusalCode.BAD_REQUEST, "")
    assert "instruction is not acceptable" in refused.cause
    (spent,) = journal.spent_by(answered.node.store, "study")
    assert (spent.name, spent.units) == (order.study, answer.units)
    (spent,) = journal.spent_by(answered.node.store, "purpose")
    assert spent.name == "customer-segmentation"
    assert 0 < spent.epsilon(1e-6) < 1


def test_books_of_the_first_version_keep_their_charges(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        for statement in migrations.MIGRATIONS[0]:
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "INSERT INTO charge VALUES (1, 'r', 's', 1, x'00', 'study', 'p', 7, 1.0, 'own')"
        )
        old.execute("INSERT INTO node VALUES ('inode', ?)", (str(path.stat().st_ino),))
    path.with_name("books.sqlite.witness").write_text('{"head": 1, "charges": 1}')
    with closing(Store.open(path)) as store:
        assert store.restored is None
        (entry,) = journal.read_log(store)
        assert (entry.units, entry.asked) == (7, None)


def test_every_cap_is_told(home: Path) -> None:
    answered = Answered(home)
    standing = preflight.standing(answered.node.policy, answered.node.store)
    assert [item.name for item in standing] == ["lifetime"]
    assert standing[0].spent > 0
    assert standing[0].epsilon_left > 0


def test_a_backup_restored_elsewhere_refuses_until_the_log_is_merged(
    home: Path, tmp_path: Path
) -> None:
    answered = Answered(home)
    file = tmp_path / "backup.tar.gz"
    write_backup(home, file)
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0
    restored = tmp_path / "restored"
    restored.mkdir()
    with tarfile.open(file) as archive:
        assert {name.split("/")[0] for name in archive.getnames()} == {
            CONSENT,
            IDENTITY,
            NODE_KEY,
            REQUEST,
            POLICY,
            SOURCE,
            STUDIES,
            BOOKS,
        }
        archive.extractall(restored, filter="data")
    Identity.load(restored / IDENTITY)  # its mode came with it
    with closing(sqlite3.connect(restored / BOOKS)) as books:
        assert books.execute("SELECT count(*) FROM run").fetchone()[0] == 1
        assert books.execute("SELECT count(ephemeral) FROM run").fetchone()[0] == 0  # nor its key
    with pytest.raises(StoreError, match="look restored"):
        preflight.open_books(restored / BOOKS)
    log = answered.log(tmp_path / "log.json", answered.node.me)
    merged = merge_logs(restored, [log])
    assert (merged.own, merged.added, merged.restored) == (1, 0, None)
    preflight.open_books(restored / BOOKS).close()


def test_charges_of_former_identities_are_merged_too(home: Path, tmp_path: Path) -> None:
    answered = Answered(home)
    former = "ab" * 32
    log = answered.log(tmp_path / "log.json", former)
    (home / BOOKS).unlink()
    (home / BOOKS).with_name(f"{BOOKS}.witness").unlink()
    assert merge_log_into_new_books(home, log) == 0
    (home / FORMER).write_text(f'["{former}"]')
    assert merge_log_into_new_books(home, log) == 1


def merge_log_into_new_books(home: Path, log: Path) -> int:
    """Number of charges that were added."""
    Store.open(home / BOOKS).close()
    return merge_logs(home, [log]).added


def test_a_log_of_a_server_that_is_not_pinned_is_refused(home: Path, tmp_path: Path) -> None:
    log = Answered(home).log(tmp_path / "log.json", "ab" * 32)
    (home / POLICY).write_text(SHOP_POLICY)
    with pytest.raises(ProtocolError, match="not signed by a server that the policy pins"):
        merge_logs(home, [log])


def test_a_backup_never_overwrites_and_leaves_nothing_when_it_fails(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ClientError, match="exists already"):
        write_backup(home, tmp_path / "mine")
    assert (tmp_path / "mine").read_text() == "mine"
    with pytest.raises(ClientError, match="cannot be written"):
        write_backup(home, tmp_path / "no" / "folder")
    (home / BOOKS).unlink()
    with pytest.raises(StoreError, match="no books"):
        write_backup(home, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


# --- check --------------------------------------------------------------------------------------


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """The folder of a member that has done everything."""
    federation = Federation(tmp_path)
    federation.join_all()
    home = federation.homes["Ankara"]
    (home / POLICY).write_text(SHOP_POLICY, encoding="utf-8")
    pin(home, COORDINATOR, federation.fingerprint)
    for name in ("İzmir", "Şişli"):
        pin(home, name, federation.fingerprint_of(name))
    rows = [f"c{n},{20 + n % 60},{n},{'web' if n % 2 else 'shop'}" for n in range(200)]
    (home / "customers.csv").write_text("\n".join(["no,age,balance,channel", *rows]))
    (home / SOURCE).write_text('path = "customers.csv"\nid_column = "no"\n')
    (tmp_path / "study.toml").write_text(STUDY.replace("2000", "600"), encoding="utf-8")
    return home


def found(home: Path, study: Path | None = None, now: float = NOW + 60) -> dict[str, Finding]:
    """The worst finding of each subject."""
    worst: dict[str, Finding] = {}
    order = [OK, WARN, FAIL]
    for finding in inspect(home, study, now=now):
        known = worst.get(finding.subject)
        if known is None or order.index(finding.level) > order.index(known.level):
            worst[finding.subject] = finding
        assert (finding.error is None) == (finding.level == OK)
        if finding.error is not None:
            assert finding.error.remedy
    return worst


def test_all_is_well(ready: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    approvals.approve(ready, study, load_study(study).hash)
    findings = found(ready, study)
    assert findings.pop("consent").level == WARN  # an old policy, which says nothing of consents
    assert {finding.level for finding in findings.values()} == {OK}, findings
    assert set(findings) >= {"keys", "members", "certificate", "policy", "pins", "books", "data"}
    assert set(findings) >= {"studies", "study's policy", "study's budget", "study's data"}


def expect(home: Path, subject: str, level: str, text: str, **options: float) -> None:
    finding = found(home, **options)[subject]  # type: ignore[arg-type]
    assert (finding.level, text in finding.detail) == (level, True), finding


def test_keys_are_looked_at(ready: Path) -> None:
    if os.name == "posix":
        (ready / NODE_KEY).chmod(0o644)
        expect(ready, "keys", FAIL, "other users")
        (ready / NODE_KEY).chmod(0o600)
        ready.chmod(0o755)
        expect(ready, "folder", WARN, "may look into")
    (ready / NODE_KEY).unlink()
    node_keys.save_node_key(node_keys.new_node_key(), ready / NODE_KEY)
    expect(ready, "keys", FAIL, "not those of request.json")


def test_the_clock_and_the_certificate_are_looked_at(ready: Path) -> None:
    expect(ready, "certificate", FAIL, "clock is behind", now=NOW - 4000)
    expect(ready, "certificate", FAIL, "expired", now=NOW + 20 * 366 * 86_400)


def test_membership_is_looked_at(ready: Path, tmp_path: Path) -> None:
    server = tmp_path / "coordinator"
    onboarding.rotate(ready)
    expect(ready, "new keys", WARN, "New keys wait")
    members.revoke(server, "İzmir", now=NOW)
    onboarding.join(ready, server / MEMBERS)
    expect(ready, "pins", FAIL, "pinned keys were revoked")
    members.revoke(server, "Ankara", now=NOW)
    onboarding.join(ready, server / MEMBERS)
    expect(ready, "members", FAIL, "revoked")
    (ready / MEMBERS).write_bytes(b"{}")
    expect(ready, "members", FAIL, "The member list holds")
    (ready / MEMBERS).unlink()
    expect(ready, "members", WARN, "No member list")


def test_policy_data_books_and_studies_are_looked_at(ready: Path, tmp_path: Path) -> None:
    policy = (ready / POLICY).read_text()
    (ready / POLICY).write_text(policy + '\n[window]\nhours = "03:00-03:01"\n')
    expect(ready, "window", WARN, "outside 03:00-03:01")
    (ready / POLICY).write_text(policy.replace("min_customers = 50", "min_customers = 500"))
    expect(ready, "data", WARN, "200 rows, fewer")
    (ready / POLICY).write_text(policy.replace('"channel"]', '"canal"]'))
    expect(ready, "data", FAIL, "no column 'canal'")
    (ready / POLICY).write_text("x")
    expect(ready, "policy", FAIL, "cannot be read")
    (ready / POLICY).write_text(policy)
    study = tmp_path / "study.toml"
    kept = approvals.approve(ready, study, load_study(study).hash)
    kept.rename(tmp_path / "moved.toml")
    expect(ready, "studies", WARN, "copy of the approved study")
    (ready / STUDIES / "other.toml").write_text(STUDY.replace("Small", "Other"))
    expect(ready, "studies", WARN, "copy of the approved")
    (ready / STUDIES / "broken.toml").write_text("x")
    expect(ready, "studies", FAIL, "is not TOML")
    (ready / BOOKS).with_name(f"{BOOKS}.witness").write_text('{"head": 5, "charges": 5}')
    expect(ready, "books", FAIL, "look restored")


def test_a_study_is_looked_at(ready: Path, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    policy = (ready / POLICY).read_text()
    (ready / POLICY).write_text(policy.replace("epsilon = 2.0", "epsilon = 0.5"))
    assert found(ready, study)["study's budget"].level == FAIL
    (ready / POLICY).write_text(policy.replace('"age", ', ""))
    assert found(ready, study)["study's policy"].level == FAIL
    (ready / POLICY).write_text(policy)
    (ready / "customers.csv").write_text("no,age,balance,channel\nx,old,1,web\n")
    assert found(ready, study)["study's data"].level == FAIL
    (ready / "customers.csv").unlink()
    assert isinstance(found(ready, study)["study's data"].error, SourceError)


def test_a_rule_that_fails_after_the_approval_is_seen_before_a_run_is(
    ready: Path, tmp_path: Path
) -> None:
    """A breach that nobody told the Board of in time: the node would refuse the next hello."""
    study = tmp_path / "study.toml"
    approvals.approve(ready, study, load_study(study).hash)
    assert found(ready, study)["study's rules"].level == OK
    known = datetime.datetime.fromtimestamp(NOW - 4 * 86_400, datetime.UTC).isoformat()
    (ready / "attestations.toml").write_text(
        f'[[incidents]]\nname = "laptop"\nknown_at = {known}\n', encoding="utf-8"
    )
    for subject in ("studies", "study's rules"):
        finding = found(ready, study)[subject]
        assert finding.level == FAIL
        assert "KVKK-12-BREACH" in finding.detail


def test_another_folder_is_no_client_s(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="no client's folder"):
        inspect(tmp_path)
    assert not (tmp_path / CACHE).exists()


def test_a_running_node_sees_an_approval_and_its_withdrawal_at_once(
    home: Path, study_file: Path
) -> None:
    session = begin()
    node = session.nodes[0]
    keep_books(node, home / BOOKS)
    assert session.study.hash in approved(home)
    approvals.withdraw(home, session.study.hash)
    assert node.hello(session.transcript.request.encoded) == bytes([RefusalCode.NOT_APPROVED])
