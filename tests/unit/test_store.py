"""The books on disk: their schema, and what happens when the disk, another process or a reader of
the file does not cooperate.

The rule in each case: a charge is committed or it is not, no answer exists without one, and a
failure leaves the node as one code of the fixed list.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kesit_client.errors import StoreError
from kesit_client.ledger import migrations
from kesit_client.ledger import store as store_module
from kesit_client.ledger.books import Charge
from kesit_client.ledger.store import Store
from kesit_privacy.features import IntArray
from kesit_privacy.hello import HelloRequest
from kesit_privacy.noise import SeededNoise
from kesit_privacy.spending import LARGEST_COUNT, Spending
from kesit_privacy.wire import RefusalCode, pack_words, refusal
from kit import SERVER, Session, ask, begin, opened, restarted, say_hello

TABLES = {"node", "approval", "run", "charge", "answer", "refusal", "training"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the books will be."""
    return tmp_path / "books.sqlite"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on a locked file at once."""
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)


def charge(run: str = "a" * 32, step: str = "grid", attempt: int = 1, **fields: object) -> Charge:
    """A charge of ten units."""
    values = {
        "instruction": bytes(32),
        "study": "s" * 64,
        "purpose": "p",
        "units": 10,
        "charged_at": time.time(),
    }
    return Charge(run, step, attempt, **(values | fields))  # type: ignore[arg-type]


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What another program reads in the file."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def charges(session: Session) -> list[Charge]:
    """The first node's charges in the session's run."""
    with session.nodes[0].store.transaction() as books:
        return books.charges(session.order.run)


def stored_answer(session: Session) -> bytes | None:
    """The first node's stored answer to the session's instruction."""
    with session.nodes[0].store.transaction() as books:
        return books.answer(session.order.run, session.order.step, 1)


def assert_opens(session: Session) -> None:
    """All members' answers open to the pooled sum, and the first node was charged once."""
    answers = session.answers(session.order)
    assert (opened(answers, session.order) == session.exact()).all()
    assert len(charges(session)) == 1


# Versions of the schema.


def test_a_fresh_file_has_the_newest_schema(path: Path) -> None:
    Store.open(path).close()
    assert rows(path, "PRAGMA user_version") == [(len(migrations.MIGRATIONS),)]
    names = {name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type='table'")}
    assert names - {"sqlite_sequence"} == TABLES


def test_opening_again_changes_neither_schema_nor_charges(path: Path) -> None:
    store = Store.open(path)
    with store.transaction() as books:
        books.add_charge(charge())
    store.witness()
    store.close()
    before = rows(path, "SELECT * FROM charge"), rows(path, "SELECT sql FROM sqlite_master")
    again = Store.open(path)
    assert again.restored is None
    again.close()
    after = rows(path, "SELECT * FROM charge"), rows(path, "SELECT sql FROM sqlite_master")
    assert before == after
    assert len(before[0]) == 1


def test_books_of_a_newer_kesit_are_left_alone(path: Path) -> None:
    Store.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"version 99.* Update Kesit"):
        Store.open(path)
    assert path.read_bytes() == before


def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.open(path)
    with store.transaction() as books:
        books.add_charge(charge())
    store.close()
    further = (("CREATE TABLE one (x TEXT)",), ("ALTER TABLE one ADD COLUMN y TEXT",))
    monkeypatch.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS + further)
    Store.open(path).close()
    assert rows(path, "PRAGMA user_version") == [(len(migrations.MIGRATIONS),)]
    assert rows(path, "SELECT count(*) FROM charge") == [(1,)]
    assert rows(path, "SELECT x, y FROM one") == []


def test_a_migration_that_fails_half_way_leaves_the_old_version(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = migrations.MIGRATIONS
    store = Store.open(path)
    with store.transaction() as books:
        books.add_charge(charge())
    store.close()
    broken = (("CREATE TABLE one (x TEXT)", "DROP TABLE charge", "CREATE TABLE one (x TEXT)"),)
    monkeypatch.setattr(migrations, "MIGRATIONS", released + broken)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(path)
    assert rows(path, "PRAGMA user_version") == [(len(released),)]
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'one'") == []
    monkeypatch.setattr(migrations, "MIGRATIONS", released)
    with Store.open(path).transaction() as books:
        assert books.spent() == 10


# Files that cannot be opened.


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"id,income\n1,2\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"books\.sqlite.*not a database"):
        Store.open(path)
    assert path.read_bytes() == before


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path / "nowhere" / "books.sqlite")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom file permissions bind (the superuser may write to read-only files)."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_file() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "books.sqlite"
        Store.open(path).close()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        before = path.read_bytes()
        with without_privileges(), pytest.raises(StoreError, match=r"readonly.* writable"):
            Store.open(path)
        assert path.read_bytes() == before
        Path(folder).chmod(0o755)


LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    """Another process holds the file for itself."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"locked\n"
        try:
            yield
        finally:
            other.stdin.close()
            other.wait()


@pytest.mark.usefixtures("impatient")
def test_a_file_that_another_process_holds(path: Path) -> None:
    Store.open(path).close()
    with (
        locked_by_another_process(path),
        pytest.raises(StoreError, match=r"locked.*no other program"),
    ):
        Store.open(path)
    Store.open(path).close()


@pytest.mark.usefixtures("impatient")
def test_an_answer_while_another_process_holds_the_file(path: Path) -> None:
    session = begin(books=path)
    with locked_by_another_process(path):
        reply = session.nodes[0].answer(session.order.encode(), session.transcript.encoded)
        assert reply == refusal(RefusalCode.INTERNAL)
    assert charges(session) == []
    assert_opens(session)


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_a_reader_holds_up(path: Path) -> None:
    """The transaction begins, then cannot commit: it is rolled back, and the node works on."""
    session = begin(books=path)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM charge").fetchall()
    reply = session.nodes[0].answer(session.order.encode(), session.transcript.encoded)
    assert reply == refusal(RefusalCode.INTERNAL)
    reader.close()
    assert charges(session) == []
    assert_opens(session)


# A full disk.


def fill(session: Session, fillers: int) -> None:
    """Use up some room inside the file's pages, then forbid it to grow."""
    db = session.nodes[0].store._db
    with session.nodes[0].store.transaction() as books:
        for number in range(fillers):
            books.add_charge(charge(run=f"{number:032x}", units=0))
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")


def make_room(session: Session) -> None:
    session.nodes[0].store._db.execute("PRAGMA max_page_count = 1000000")


def test_a_full_disk_at_every_filling(tmp_path: Path) -> None:
    """The answer never fits; as pages fill up, the charge before it does not fit either."""
    seen = set()
    for fillers in range(40):
        session = begin(books=tmp_path / f"{fillers}.sqlite")
        fill(session, fillers)
        reply = session.nodes[0].answer(session.order.encode(), session.transcript.encoded)
        assert reply == refusal(RefusalCode.INTERNAL)
        assert stored_answer(session) is None
        seen.add(len(charges(session)))
        # The same from another process's view: what is committed is whole.
        assert rows(tmp_path / f"{fillers}.sqlite", "PRAGMA integrity_check") == [("ok",)]
        make_room(session)
        assert_opens(session)
    assert seen == {0, 1}  # full at the charge, and full at the answer


def test_a_full_disk_at_hello(path: Path) -> None:
    session = begin(books=path)
    request = HelloRequest(session.study.hash, "b" * 32, SERVER.public)
    fill(session, 0)
    for number in range(200):
        request = HelloRequest(session.study.hash, f"{number:032x}", SERVER.public)
        if session.nodes[0].hello(request.encoded) == refusal(RefusalCode.INTERNAL):
            break
    else:
        pytest.fail("the disk was never full")
    with session.nodes[0].store.transaction() as books:
        assert books.run(request.run) is None
    make_room(session)
    say_hello(session.study, session.nodes, request.run)


# Charges stand.


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM charge",
        "UPDATE charge SET units = 0",
        "UPDATE charge SET charged_at = 0",
        "UPDATE OR IGNORE charge SET units = 1",
    ],
)
def test_charges_are_neither_deleted_nor_changed(path: Path, statement: str) -> None:
    store = Store.open(path)
    with store.transaction() as books:
        books.add_charge(charge())
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="charges are never"):
        connection.execute(statement)
    connection.close()
    with store.transaction() as books:
        assert books.spent() == 10


def test_the_first_charge_and_the_first_answer_of_an_attempt_stand(path: Path) -> None:
    store = Store.open(path)
    with store.transaction() as books:
        assert books.add_charge(charge()) == 1
        assert books.add_charge(charge(units=99)) == 0
        assert books.add_charge(charge(attempt=2, units=5)) == 1
        books.add_answer("a" * 32, "grid", 1, b"first")
        books.add_answer("a" * 32, "grid", 1, b"second")
        assert books.answer("a" * 32, "grid", 1) == b"first"
        assert [c.units for c in books.charges("a" * 32)] == [10, 5]


def test_a_negative_charge_is_refused(path: Path) -> None:
    with pytest.raises(sqlite3.IntegrityError), Store.open(path).transaction() as books:
        books.add_charge(charge(units=-1))


def test_spending_by_study_purpose_and_time(path: Path) -> None:
    store = Store.open(path)
    with store.transaction() as books:
        for number, (study, purpose, at) in enumerate(
            [("s", "p", 100.0), ("s", "p", 200.0), ("t", "p", 300.0), ("u", "q", 400.0)]
        ):
            books.add_charge(
                charge(
                    run=str(number),
                    study=study,
                    purpose=purpose,
                    units=10**number,
                    charged_at=at,
                )
            )
        assert books.spent() == 1111
        assert books.spent(study="s") == 11
        assert books.spent(purpose="p") == 111
        assert books.spent(since=200.0) == 1110
        assert books.spent(study="none") == 0
        assert books.head() == 4


def test_what_a_transaction_wrote_goes_when_it_fails(path: Path) -> None:
    store = Store.open(path)

    def failing() -> None:
        with store.transaction() as books:
            books.add_charge(charge())
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    with store.transaction() as books:
        assert books.head() == 0


# What the file holds, and what it forgets.


def test_keys_of_old_runs_are_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = begin(books=path)
    clock = SimpleNamespace(time=lambda: time.time() + 29 * 86_400)
    monkeypatch.setattr(store_module, "time", clock)
    node = restarted(session.nodes[0], path)
    with node.store.transaction() as books:
        run = books.run(session.order.run)
        assert run is not None
        assert run.ephemeral is not None
    clock.time = lambda: time.time() + 31 * 86_400
    node = restarted(node, path)
    with node.store.transaction() as books:
        run = books.run(session.order.run)
        assert run is not None
        assert run.ephemeral is None
    assert ask(node, session.order, session.transcript)[0] is RefusalCode.BAD_REQUEST


def test_a_deleted_key_leaves_no_trace_in_the_file(path: Path) -> None:
    session = begin(books=path)
    node = session.nodes[0]
    with node.store.transaction() as books:
        run = books.run(session.order.run)
    assert run is not None
    assert run.ephemeral is not None
    assert run.ephemeral in path.read_bytes()  # the search can find it
    node.end(session.transcript.request.encoded)
    assert run.ephemeral not in path.read_bytes()
    assert node.store._db.execute("PRAGMA secure_delete").fetchone() == (1,)
    assert node.store._db.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA


@dataclass
class Witnessed:
    """Seeded noise that remembers what it drew."""

    source: SeededNoise
    mode = "seeded"
    drawn: list[IntArray] = field(default_factory=list)

    def sample(self, variance: Fraction, size: int) -> IntArray:
        self.drawn.append(self.source.sample(variance, size))
        return self.drawn[-1]


def windows(data: bytes, size: int = 16) -> set[bytes]:
    """All aligned pieces of a vector of words: two values, which do not coincide by chance."""
    return {data[start : start + size] for start in range(0, len(data) - size + 1, 8)}


def test_neither_noise_nor_an_unmasked_sum_is_ever_in_the_file(path: Path) -> None:
    session = begin(books=path, noise="seeded", rows=4000, bins=32)
    node = session.nodes[0]
    noise = Witnessed(SeededNoise(1))
    node.noise = noise
    code, payload = ask(node, session.order, session.transcript)
    assert code is RefusalCode.OK
    node.store.close()
    (drawn,) = noise.drawn
    codes = node.rows(session.study).codes(session.order.run)
    exact = session.query.sum(codes)
    assert (drawn != 0).all()
    file = path.read_bytes()
    assert payload in file  # the search can find what is there
    for secret in (drawn, exact, exact + drawn):
        pieces = windows(pack_words(secret.astype(np.uint64)))
        assert len(pieces) > 100
        assert not any(piece in file for piece in pieces)
    assert [entry.name for entry in path.parent.iterdir() if "journal" in entry.name] == []


def test_causes_of_refusals_stay_in_the_books(path: Path) -> None:
    session = begin(books=path)
    node = session.nodes[0]
    node.studies.clear()
    assert node.answer(session.order.encode(), session.transcript.encoded) == refusal(
        RefusalCode.NOT_APPROVED
    )
    with node.store.transaction() as books:
        ((_, code, cause),) = books.refusals()
    assert code == RefusalCode.NOT_APPROVED
    assert "not approved" in cause


def test_enormous_logs_add_up() -> None:
    """Beyond 64 bits, where SQLite's own sum would fail and take the node with it."""
    me, store = "ef" * 32, Store.in_memory()
    first = Spending("ab" * 32, "p", "0" * 32, "grid", 1, "cd" * 32, LARGEST_COUNT, (me,))
    many = [replace(first, run=f"{place:032x}") for place in range(300)]
    assert store.merge(many, me) == 300
    with store.transaction() as books:
        assert books.spent() == 300 * LARGEST_COUNT
