"""A store that refuses: each command says so clearly, and nothing is lost or half done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from consentkit import DAY, NOW, PURPOSE, load, row, withdrawal
from kesit_client.consent import keeping
from kesit_client.consent.models import Base
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentStoreError
from kesit_client.rights import disposal, exports, incidents, marking
from kesit_client.rights.requests import close_request, open_request

MANY = [f"p{n}" for n in range(3000)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    """Two persons, one of whom asked for an erasure; an export that held both; a breach."""
    with closing(ConsentStore.open(tmp_path, busy=0.05)) as opened:
        load(opened, tmp_path, [row("a"), row("b")])
        exports.record_export(opened, "Call centre", "codes", ["a", "b"], NOW)
        keeping.withdraw(opened, "a", now=NOW + DAY)
        open_request(opened, "erasure", "b", now=NOW)
        open_request(opened, "breach", now=NOW)
        yield opened


def everything(store: ConsentStore) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with store.reading() as connection:
        return {
            name: sorted(map(repr, connection.execute(sa.select(table)).fetchall()))
            for name, table in Base.metadata.tables.items()
        }


@contextmanager
def locked(store: ConsentStore) -> Iterator[None]:
    with closing(sqlite3.connect(store.name, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def with_pragma(store: ConsentStore, pragma: Callable[[Any], str]) -> Iterator[None]:
    def connected(connection: Any, record: Any) -> None:
        connection.execute(f"PRAGMA {pragma(connection)}")

    event.listen(store.engine, "connect", connected)
    store.engine.dispose()
    yield
    event.remove(store.engine, "connect", connected)
    store.engine.dispose()


@contextmanager
def read_only(store: ConsentStore) -> Iterator[None]:
    with with_pragma(store, lambda connection: "query_only = ON"):
        yield


@contextmanager
def full(store: ConsentStore) -> Iterator[None]:
    """No page more than there are, and none that is free."""

    def limit(connection: Any) -> str:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        return f"max_page_count = {pages}"

    with closing(sqlite3.connect(store.name)) as other:
        other.execute("VACUUM")
    with with_pragma(store, limit):
        yield


FAULTS = {"locked": locked, "readonly": read_only, "full": full}

Asked = Callable[[ConsentStore, Path], object]
SMALL: dict[str, Asked] = {
    "withdraw": lambda store, place: keeping.withdraw(store, "b", now=NOW + DAY),
    "iys": lambda store, place: keeping.record_iys(
        store, "b", PURPOSE, channel="sms", status="RET"
    ),
    "erase": lambda store, place: close_request(store, 1, now=NOW + DAY),
    "object": lambda store, place: open_request(store, "objection", "b", purposes=[PURPOSE]),
    "dispose": lambda store, place: disposal.dispose(store, 3, NOW + 9999 * DAY),
    "acknowledge": lambda store, place: marking.acknowledge(store, 1),
    "told": lambda store, place: incidents.told(store, 2, "board", NOW + DAY),
    "concern": lambda store, place: incidents.concern(store, 2, [1, 2]),
}
LARGE: dict[str, Asked] = {
    "import": lambda store, place: load(store, place, [row(name) for name in MANY]),
    "import withdrawals": lambda store, place: load(
        store, place, [withdrawal("b"), *(row(name) for name in MANY)]
    ),
    "export": lambda store, place: exports.record_export(store, "x", "y", MANY, NOW),
}
TRIED = [
    (fault, asked)
    for fault in FAULTS
    for asked in (LARGE if fault == "full" else {**SMALL, **LARGE})
]


@pytest.mark.parametrize(("fault", "asked"), TRIED)
def test_what_is_refused_changes_nothing_and_works_later(
    store: ConsentStore, tmp_path: Path, fault: str, asked: str
) -> None:
    act = {**SMALL, **LARGE}[asked]
    before = everything(store)
    with FAULTS[fault](store):
        with pytest.raises(ConsentStoreError, match=fault) as error:
            act(store, tmp_path)
        assert "nothing was changed" in error.value.cause
        assert error.value.remedy
        assert everything(store) == before
    assert everything(store) == before
    act(store, tmp_path)
    assert everything(store) != before


def test_a_withdrawal_of_a_full_store_is_not_lost_in_part(store: ConsentStore) -> None:
    """As many as fit are recorded whole, with their marks; the first that does not is not there."""
    load(store, Path(store.name).parent, [row(name) for name in MANY])
    exports.record_export(store, "Call centre", "codes", MANY, NOW)
    done: list[str] = []

    def all_of_them() -> None:
        for name in MANY:
            keeping.withdraw(store, name, now=NOW + DAY)
            done.append(name)

    with full(store), pytest.raises(ConsentStoreError, match="full"):
        all_of_them()
    last = MANY[len(done)]
    assert [found.type.word for found in keeping.history(store, last)] == ["given"]
    assert sorted(str(mark.principal) for mark in marking.marks(store, 2)) == sorted(done)
