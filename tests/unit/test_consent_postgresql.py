"""The same store in a real PostgreSQL server, if its binaries are on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from consentkit import NOW, PEOPLE, PURPOSE, Place, load, row, settings, withdrawal
from kesit_client.consent.models import EventRow
from kesit_client.consent.settings import CONSENT, STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentStoreError
from kesit_client.rights.requests import close_request, open_request, suppressed
from kit import mixed_study

pytestmark = pytest.mark.slow


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _as_postgres() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
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
        yield f"postgresql+psycopg://kesit@127.0.0.1:{port}/postgres"
    finally:
        call(str(binaries / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


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
        close_request(store, made.id, now=NOW)
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
