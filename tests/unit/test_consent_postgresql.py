"""The same store in a real PostgreSQL server, if its binaries are on this machine."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from test_consent_import import BAD

from consentkit import DAY, NOW, PEOPLE, PURPOSE, Place, load, row, settings, withdrawal
from kesit_client.consent import keeping
from kesit_client.consent.facts import consent_facts
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.settings import CONSENT, STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentStoreError
from kesit_client.rights import exports, incidents, marking
from kesit_client.rights.affected import Where, affected
from kesit_client.rights.facts import release_facts, request_facts
from kesit_client.rights.permitted import permitted
from kesit_client.rights.requests import close_request, open_request, suppressed
from kesit_client.rights.traces import traces
from kit import mixed_study

pytestmark = pytest.mark.slow


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of this test's own, on a free port of this machine alone."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    binaries = _binaries()
    if binaries is None or (_as_postgres() and shutil.which("runuser") is None):
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    # Not in pytest's own folder, which no other user may enter.
    place = Path(tempfile.mkdtemp(prefix="kesit-postgresql-"))
    if os.geteuid() == 0:
        shutil.chown(place, "postgres")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = str(place / "data"), str(place / "log")

    def call(*command: str) -> None:
        subprocess.run(
            [*_as_postgres(), *command], check=True, capture_output=True, cwd=place, timeout=120
        )

    call(
        str(binaries / "initdb"),
        "-D",
        data,
        "-A",
        "trust",
        "-U",
        "kesit",
        "-E",
        "UTF8",
        "--no-locale",
        "-N",
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {place} -F"
    call(str(binaries / "pg_ctl"), "-D", data, "-l", log, "-w", "-o", options, "start")
    try:
        yield f"postgresql+psycopg://kesit@127.0.0.1:{port}"
    finally:
        call(str(binaries / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def url(server: str) -> str:
    """A database of the test's own."""
    name = f"t{secrets.token_hex(6)}"
    with psycopg(server, "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def psycopg(server: str, name: str) -> Any:
    """A connection beside the store's own."""
    plain = server.replace("+psycopg", "")
    return pytest.importorskip("psycopg", reason="needs kesit[postgresql]").connect(
        f"{plain}/{name}", autocommit=True
    )


@pytest.fixture
def beside(server: str, url: str) -> Iterator[Any]:
    with psycopg(server, url.rpartition("/")[2]) as connection:
        yield connection


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[ConsentStore]:
    with closing(ConsentStore.open(tmp_path, settings(url=url), busy=0.2)) as opened:
        load(opened, tmp_path, [row("a"), row("b")])
        yield opened


def counted(store: ConsentStore) -> int:
    with store.reading() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(EventRow)) or 0)


def test_bad_rows_are_named_and_stop_nothing_else(store: ConsentStore, tmp_path: Path) -> None:
    bad = [row(f"x{n}", **changes) for n, (changes, _) in enumerate(BAD.values())]
    found = load(store, tmp_path, [*bad, row("c"), withdrawal("d", "2026-01-01T00:00:00Z")])
    assert (found.new, len(found.refused)) == (2, len(bad))
    for (_, _, said), (_, reason) in zip(found.refused.rows(), BAD.values(), strict=True):
        assert reason in said
    both = [row("e"), row("e", purpose="marketing", record_id="r2")]
    options = {"settings": settings(purposes=("marketing",))}
    assert load(store, tmp_path, both[:1], **options).new == 1
    assert "two purposes" in load(store, tmp_path, both[1:], **options).refused["reason"][0]
    early = load(store, tmp_path, [withdrawal("a", "2026-01-01T00:00:00+03:00")])
    assert "before the consent" in early.refused["reason"][0]


def test_a_database_that_was_set_back_counts_nobody(
    server: str, url: str, store: ConsentStore, tmp_path: Path
) -> None:
    """As in SQLite: the witness lies in the client's folder, not in the database."""
    store.close()
    name = url.rpartition("/")[2]
    with psycopg(server, "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
    load(store, tmp_path, [withdrawal("a")])
    assert store.restored is None
    with closing(ConsentStore.open(tmp_path, settings(url=f"{url}_backup"))) as back:
        assert back.restored == "it holds 2 changes, and its witness saw 3"
        with pytest.raises(ConsentStoreError, match="looks restored"):
            permitted(back, ["a"], PURPOSE, now=NOW)
        load(back, tmp_path, [withdrawal("a")])
        back.accept_restored()
        assert permitted(back, ["a", "b"], PURPOSE, now=NOW).ids == ["b"]


def test_a_locked_database_changes_nothing(
    store: ConsentStore, beside: Any, tmp_path: Path
) -> None:
    with beside.transaction():
        beside.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ConsentStoreError, match=r"LockNotAvailable\); nothing was changed"):
            load(store, tmp_path, [row("c")])
    assert counted(store) == 2
    assert load(store, tmp_path, [row("c")]).new == 1


def test_a_read_only_database_changes_nothing(
    store: ConsentStore, beside: Any, tmp_path: Path
) -> None:
    name = beside.info.dbname
    beside.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store.engine.dispose()
    for act in (
        lambda: load(store, tmp_path, [row("c")]),
        lambda: keeping.withdraw(store, "a", now=NOW),
    ):
        with pytest.raises(ConsentStoreError, match="ReadOnlySqlTransaction"):
            act()
    assert counted(store) == 2
    assert store.events("a")["type"].to_list() == [1]


def test_an_import_that_breaks_off_imports_nothing(
    store: ConsentStore, beside: Any, tmp_path: Path
) -> None:
    """In place of a full disk: the server refuses in the middle of the rows."""
    beside.execute("ALTER TABLE event ADD CONSTRAINT late CHECK (record_id <> 'r-p900')")
    with pytest.raises(ConsentStoreError, match="nothing was changed"):
        load(store, tmp_path, [row(f"p{n}") for n in range(1000)])
    assert counted(store) == 2
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Person)) == 2


def test_marks_incidents_and_counts_work_on_postgresql(store: ConsentStore, tmp_path: Path) -> None:
    exports.record_export(store, "SMS", "offer", ["a", "b"], NOW, channel="sms")
    keeping.withdraw(store, "a", now=NOW + DAY)
    assert [mark.principal for mark in marking.marks(store, 1)] == ["a"]
    number = open_request(store, "breach", now=NOW).id
    people = affected(store, Where(exports=(1,), kept=True)).people
    assert incidents.concern(store, number, people).persons == 2
    keeping.record_iys(store, "b", PURPOSE, channel="sms", status="ONAY", checked_at=NOW - DAY)
    study = replace(mixed_study(), purpose=PURPOSE, legal_basis="explicit-consent")
    found = consent_facts(store, study, NOW + DAY)
    assert (found.withdrawn, found.withdrawn_included, found.iys_unapproved) == (1, 0, 1)
    requests = request_facts(store, NOW + DAY, study, ["marketing"])
    assert (requests.withdrawals_not_passed, requests.marketing_objections_included) == (1, 0)
    release = release_facts(store, NOW + DAY)
    assert release is not None
    assert release.withdrawals_marked
    assert [trace.withdrawn_at for trace in traces(store, "a")] == [NOW + DAY]
    assert permitted(store, ["a", "b"], PURPOSE, channel="sms", now=NOW + DAY).ids == ["b"]


def test_an_older_database_is_migrated_and_a_newer_one_refused(
    url: str, store: ConsentStore, beside: Any, tmp_path: Path
) -> None:
    def tables() -> Any:
        return beside.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM"
            " information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()

    new = tables()
    beside.execute("DROP TABLE withdrawal_mark, incident_person, incident, written")
    beside.execute("ALTER TABLE export DROP COLUMN purpose, DROP COLUMN iys_channel")
    beside.execute("UPDATE meta SET value = '1' WHERE key = 'schema'")
    ConsentStore.open(tmp_path, settings(url=url)).close()
    assert tables() == new
    beside.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    with pytest.raises(ConsentStoreError, match="has version 99"):
        ConsentStore.open(tmp_path, settings(url=url))


def test_consents_gate_and_rights_work_on_postgresql(url: str, tmp_path: Path) -> None:
    (tmp_path / CONSENT).write_text(f'url = "{url}"\n')
    place = Place(tmp_path, mixed_study())
    place.load(*(row(f"p{n}") for n in range(PEOPLE - 4)))  # once more: nothing new
    assert not (tmp_path / STORE).exists()
    rows = place.rows()
    rows.prepare("run")
    assert len(rows.codes("run")) == PEOPLE - 4
    place.load(withdrawal("p3", "2026-05-31T00:30:00+03:00"))
    assert len(rows.codes("run")) == PEOPLE - 5
    with closing(ConsentStore.open(tmp_path)) as store:
        made = open_request(store, "objection", "p7", purposes=[PURPOSE], now=NOW)
        assert suppressed(store, ["p7", "p8"]) == {"p7"}
        close_request(store, made.id, note="Can looked at it", now=NOW)
        erasure = open_request(store, "erasure", "p8", now=NOW)
        close_request(store, erasure.id, now=NOW)
        assert store.events("p3")["type"].to_list() == [1, 3]
        refused = load(store, tmp_path, [row("p8"), row("İbrahim Ağaoğlu")])
        assert (refused.new, len(refused.refused)) == (1, 1)
    assert len(rows.codes("run")) == PEOPLE - 6
    place.gate.close()


def test_several_reads_are_of_one_moment_on_postgresql(url: str, tmp_path: Path) -> None:
    """A withdrawal between two queries of one look must not be half in it."""
    there = settings(url=url)
    query = sa.select(sa.func.count()).select_from(EventRow)
    with closing(ConsentStore.open(tmp_path, there)) as store:
        with store.reading() as connection:
            before = connection.scalar(query)
            with closing(ConsentStore.open(tmp_path, there)) as other:
                assert load(other, tmp_path, [row("someone")]).new == 1
            assert connection.scalar(query) == before
        with store.reading() as connection:
            assert connection.scalar(query) == (before or 0) + 1


def test_a_server_that_is_gone_is_an_error_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    there = settings(url="postgresql+psycopg://kesit:secret@127.0.0.1:1/none")
    with pytest.raises(ConsentStoreError) as error:
        ConsentStore.open(tmp_path, there)
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
