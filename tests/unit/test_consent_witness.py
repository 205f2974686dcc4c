"""A consent store restored from a backup: withdrawals since are lost, so nobody counts by it."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from consentkit import NOW, PEOPLE, PURPOSE, Attesting, Place, load, row, withdrawal
from kesit_client.consent import witness
from kesit_client.consent.events import SECOND
from kesit_client.consent.gate import allowed
from kesit_client.consent.keeping import history, withdraw
from kesit_client.consent.settings import STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentStoreError
from kesit_client.home import BOOKS
from kesit_client.ledger.store import Store
from kesit_client.owner.backup import write_backup
from kesit_client.rights.permitted import permitted
from kesit_client.rights.requests import open_request, suppressed
from kit import mixed_study


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, mixed_study())
    yield place
    place.gate.close()


def copy(home: Path, target: Path) -> Path:
    """A copy of the store as of now, as a backup makes it."""
    with closing(sqlite3.connect(home / STORE)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    return target


def put_back(home: Path, backup: Path) -> None:
    """The store is what the backup was."""
    for path in home.glob(f"{STORE}*"):
        path.unlink()
    shutil.copyfile(backup, home / STORE)


def reason(home: Path) -> str | None:
    with closing(ConsentStore.open(home)) as store:
        return store.restored


def test_withdrawals_that_a_backup_forgot_let_nobody_in(place: Place, tmp_path: Path) -> None:
    """The node goes on working over the change; a row of who withdrew must not come back."""
    backup = copy(place.home, tmp_path / "backup")
    rows = place.rows()
    place.load(withdrawal("p0"))
    rows.prepare("run")
    assert len(rows.codes("run")) == PEOPLE - 5
    put_back(place.home, backup)
    for step in (lambda: rows.codes("run"), lambda: rows.prepare("next")):
        with pytest.raises(ConsentStoreError, match="looks restored") as error:
            step()
        assert "accept-restored" in error.value.remedy
    place.load(withdrawal("p0"))  # what is missing is imported again; that alone says nothing
    with pytest.raises(ConsentStoreError, match="looks restored"):
        rows.prepare("next")
    with closing(ConsentStore.open(place.home)) as store:
        store.accept_restored()
    rows.prepare("next")
    assert len(rows.codes("next")) == PEOPLE - 5


def test_nothing_is_given_out_by_a_restored_store(place: Place, tmp_path: Path) -> None:
    backup = copy(place.home, tmp_path / "backup")
    with closing(ConsentStore.open(place.home)) as store:
        open_request(store, "objection", "p1", purposes=(PURPOSE,), now=NOW)
    put_back(place.home, backup)
    with closing(ConsentStore.open(place.home)) as store:
        steps: list[Callable[[], object]] = [
            lambda: permitted(store, ["p1"], PURPOSE, now=NOW),
            lambda: suppressed(store, ["p1"]),
            lambda: allowed(place.home, PURPOSE, "explicit-consent", ["p1"], place.now),
        ]
        for step in steps:
            with pytest.raises(ConsentStoreError, match="looks restored"):
                step()
        assert history(store, "p1")  # it can be read, and written
        assert withdraw(store, "p1", now=NOW) == (PURPOSE,)


def test_a_run_is_not_attested_by_a_restored_store(tmp_path: Path) -> None:
    member = Attesting(tmp_path)
    home = member.place.home
    backup = copy(home, home / "backup")
    member.place.load(withdrawal("p0"))
    attest, member.node.attest = member.node.attest, None
    run = member.run()
    member.place.gate.close()
    put_back(home, backup)
    assert attest is not None
    with pytest.raises(ConsentStoreError, match="looks restored"):
        member.attest(run)


def test_a_store_that_went_on_from_an_older_copy_is_noticed(place: Place, tmp_path: Path) -> None:
    """Written on, perhaps on another machine, until it holds as many changes as were seen."""
    backup = copy(place.home, tmp_path / "backup")
    place.load(withdrawal("p0"))
    (tmp_path / "elsewhere").mkdir()
    put_back(tmp_path / "elsewhere", backup)
    with closing(ConsentStore.open(tmp_path / "elsewhere")) as store:
        for person in ("q1", "q2", "q3"):
            load(store, tmp_path, [row(person)])
    put_back(place.home, copy(tmp_path / "elsewhere", tmp_path / "longer"))
    assert reason(place.home) == "it went on from an older copy"


def test_another_store_and_one_without_its_witness_look_restored(place: Place) -> None:
    seen = (place.home / witness.WITNESS).read_bytes()
    (place.home / witness.WITNESS).unlink()
    assert reason(place.home) == "its witness is gone"
    (place.home / witness.WITNESS).write_bytes(b"spoilt")
    assert reason(place.home) == "its witness cannot be read"
    (place.home / witness.WITNESS).write_bytes(seen)
    assert reason(place.home) is None
    for path in place.home.glob(f"{STORE}*"):
        path.unlink()
    assert reason(place.home) == "another store was written here before it"


def test_a_witness_that_lags_after_a_crash_is_brought_up(place: Place) -> None:
    """The machine stops between the change and its witness: nothing is missing."""
    before = (place.home / witness.WITNESS).read_bytes()
    place.load(withdrawal("p0"))
    (place.home / witness.WITNESS).write_bytes(before)
    assert reason(place.home) is None
    assert (place.home / witness.WITNESS).read_bytes() != before


def test_a_new_store_whose_witness_was_not_written_yet_is_whole(tmp_path: Path) -> None:
    with closing(ConsentStore.open(tmp_path)):
        (tmp_path / witness.WITNESS).unlink()
    assert reason(tmp_path) is None
    assert (tmp_path / witness.WITNESS).exists()


def test_a_restored_archive_looks_restored(place: Place, tmp_path: Path) -> None:
    """A backup leaves the witness out on purpose, as that of the books."""
    Store.open(place.home / BOOKS).close()
    write_backup(place.home, tmp_path / "backup.tar.gz")
    with tarfile.open(tmp_path / "backup.tar.gz") as archive:
        archive.extractall(tmp_path / "new", filter="data")
    assert reason(tmp_path / "new") == "its witness is gone"


def test_store_and_witness_of_one_copy_are_not_noticed(place: Place, tmp_path: Path) -> None:
    """The limit, as the documents state it: nothing on this machine remembers more."""
    backup = copy(place.home, tmp_path / "backup")
    seen = (place.home / witness.WITNESS).read_bytes()
    place.load(withdrawal("p0"))
    put_back(place.home, backup)
    (place.home / witness.WITNESS).write_bytes(seen)
    assert reason(place.home) is None


def test_writers_at_once_leave_a_witness_of_the_last(tmp_path: Path) -> None:
    with closing(ConsentStore.open(tmp_path)) as store:
        load(store, tmp_path, [row(f"p{n}") for n in range(12)])

    def leave(person: str) -> None:
        with closing(ConsentStore.open(tmp_path)) as own:
            withdraw(own, person, now=NOW)

    threads = [threading.Thread(target=leave, args=(f"p{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = witness.read(tmp_path)
    assert found is not None
    assert found.number == 14  # made, imported, and twelve who left
    assert reason(tmp_path) is None


def test_a_file_that_took_the_open_one_s_place_is_looked_at(place: Place, tmp_path: Path) -> None:
    """The gate holds the store open; a withdrawal in the new file must not pass it by."""
    rows = place.rows()
    rows.prepare("run")
    twin = copy(place.home, tmp_path / "twin")
    twin.replace(place.home / STORE)
    for log in ("-wal", "-shm"):
        (place.home / f"{STORE}{log}").unlink(missing_ok=True)
    place.now += 60
    place.load(withdrawal("p0", "2026-06-01T00:00:30+03:00"))
    assert len(rows.codes("run")) == PEOPLE - 5
    assert place.now * SECOND > NOW


@pytest.mark.parametrize("which", ["id = (SELECT max(id) FROM event)", "id = 3"])
def test_events_that_another_program_took_out_are_missed(place: Place, which: str) -> None:
    """The last withdrawal is cut off, or one in the middle: the witness's change is still there."""
    place.load(withdrawal("p0"))
    with closing(sqlite3.connect(place.home / STORE)) as beside, beside:
        beside.execute(f"DELETE FROM event WHERE {which}")
    with pytest.raises(ConsentStoreError, match="left 37 events, and it has 36"):
        place.rows().prepare("run")
    with closing(ConsentStore.open(place.home)) as store:
        store.accept_restored()
        assert store.restored is None


def test_an_erasure_is_a_change_like_any_other(place: Place) -> None:
    with closing(ConsentStore.open(place.home)) as store:
        store.erase("p3", NOW)
        assert store.restored is None
    place.rows().prepare("run")


def test_a_copy_without_the_newest_changes_beside_it_is_noticed(
    place: Place, tmp_path: Path
) -> None:
    """After a crash SQLite's log holds them; whoever copies the file alone leaves them behind."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    with closing(ConsentStore.open(place.home)) as store, store.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM event").fetchone()
        withdraw(store, "p0", now=NOW)
        shutil.copy(place.home / STORE, target / STORE)
        shutil.copy(place.home / witness.WITNESS, target / witness.WITNESS)
    assert "its witness saw" in str(reason(target))
    shutil.copy(place.home / STORE, target / STORE)  # closed, the file holds all of it
    assert reason(target) is None
