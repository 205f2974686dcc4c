"""The consent store's versions: an older one is brought up to date, an unknown one is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from consentkit import load, row
from kesit_client.consent import migrations
from kesit_client.consent.models import Base, Meta
from kesit_client.consent.settings import STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentStoreError
from kesit_client.rights.incidents import incidents

FIRST = Path(__file__).resolve().parents[1] / "consent_store_v1.sql"


def old_store(folder: Path) -> Path:
    """A store as version 1 made it, with a few rows."""
    path = folder / STORE
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(FIRST.read_text(encoding="utf-8"))
    return path


def tables(store: ConsentStore) -> dict[str, Any]:
    """Every table of a store: its columns, keys and indexes."""
    found = sa.inspect(store.engine)
    return {
        name: (
            {c["name"]: (c["type"].__class__, c["nullable"]) for c in found.get_columns(name)},
            sorted(found.get_pk_constraint(name)["constrained_columns"]),
            sorted((f["constrained_columns"], f["referred_table"]) for f in _keys(found, name)),
            sorted(str(index["column_names"]) for index in found.get_indexes(name)),
            sorted(str(one["column_names"]) for one in found.get_unique_constraints(name)),
        )
        for name in sorted(found.get_table_names())
    }


def _keys(found: Any, name: str) -> list[dict[str, Any]]:
    return list(found.get_foreign_keys(name))


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])


def state(path: Path, value: str | None) -> None:
    """Let a store state another version, or none."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM meta WHERE key = 'schema'")
        if value is not None:
            connection.execute("INSERT INTO meta VALUES ('schema', ?)", (value,))


def test_a_migrated_store_is_like_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    path = old_store(tmp_path)
    with (
        closing(ConsentStore.open(tmp_path)) as old,
        closing(ConsentStore.open(tmp_path / "new")) as new,
    ):
        assert tables(old) == tables(new)
        assert set(tables(new)) == set(Base.metadata.tables)
        assert old.id == "00112233445566778899aabbccddeeff"
        assert load(old, tmp_path, [row("a")]).new == 1
    assert version(path) == str(migrations.SCHEMA)
    with closing(ConsentStore.open(tmp_path, create=False)) as again:
        assert len(again.events("a")) == 1


def test_the_number_of_an_erased_event_is_not_given_again(tmp_path: Path) -> None:
    old_store(tmp_path)
    with closing(ConsentStore.open(tmp_path)) as store:
        load(store, tmp_path, [row("a"), row("b")])
        [number] = store.events("b")["id"]
        store.erase("b")
        load(store, tmp_path, [row("c")])
        assert store.events("c")["id"].item() > number


def test_breaches_of_an_older_store_are_incidents(tmp_path: Path) -> None:
    old_store(tmp_path)
    with closing(ConsentStore.open(tmp_path)) as store:
        found = {item.note: (item.board_at, item.persons) for item in incidents(store)}
    assert found == {
        "laptop": (2_000_000, None),
        "false alarm": (None, None),
        "letter": (None, None),
    }


@pytest.mark.parametrize("stated", [str(migrations.SCHEMA + 1), "99"])
def test_a_store_of_a_newer_kesit_is_refused_and_left_alone(tmp_path: Path, stated: str) -> None:
    path = old_store(tmp_path)
    state(path, stated)
    with pytest.raises(ConsentStoreError, match=f"has version {stated}; this Kesit knows") as error:
        ConsentStore.open(tmp_path)
    assert "Update Kesit" in error.value.remedy
    assert version(path) == stated


@pytest.mark.parametrize("stated", [None, "", "two", "0", "-1"])
def test_a_store_that_states_no_version_is_none(tmp_path: Path, stated: str | None) -> None:
    state(old_store(tmp_path), stated)
    with pytest.raises(ConsentStoreError, match="no consent store, or a damaged one"):
        ConsentStore.open(tmp_path)


def test_a_step_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_store(tmp_path)
    broken = (*migrations.SCRIPTS, ("CREATE TABLE late (x INTEGER)", "SELECT nonsense FROM late"))
    monkeypatch.setattr(migrations, "SCRIPTS", broken)
    monkeypatch.setattr(migrations, "SCHEMA", migrations.SCHEMA + 1)
    with pytest.raises(ConsentStoreError, match=r"cannot be written .*nothing was changed"):
        ConsentStore.open(tmp_path)
    monkeypatch.undo()
    assert version(path) == "1"
    with closing(sqlite3.connect(path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "late" not in names
    assert "incident" not in names
    ConsentStore.open(tmp_path).close()
    assert version(path) == str(migrations.SCHEMA)


def test_a_locked_older_store_waits_and_then_says_so(tmp_path: Path) -> None:
    path = old_store(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConsentStoreError, match="locked"):
            ConsentStore.open(tmp_path, busy=0.05)
        other.execute("ROLLBACK")
    assert version(path) == "1"


def test_the_version_is_one_of_the_store_s_facts(tmp_path: Path) -> None:
    with closing(ConsentStore.open(tmp_path)) as store, store.reading() as connection:
        stated = connection.scalar(sa.select(Meta.value).where(Meta.key == "schema"))
    assert stated == str(migrations.SCHEMA)
