"""How a consent store's database is opened: PostgreSQL as it is, SQLite with what a store needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event

from kesit_client.errors import ConsentStoreError

CACHE_KB: Final = 200_000
"""SQLite's page cache: with its own 2 MB an import of a million rows takes many times as long."""


def make_engine(url: str | None, path: Path, busy: float) -> Engine:
    """The engine of a store: of the database at `url`, or of the SQLite file at `path`.

    Args:
        busy: seconds to wait for another writer.

    Raises:
        ConsentStoreError: the URL is none, or not PostgreSQL's.
    """
    try:
        if url is not None and sa.make_url(url).get_backend_name() != "postgresql":
            raise sa.exc.ArgumentError  # without this file's pragmas an erasure would leave traces
        if url is not None:
            return sa.create_engine(url)
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), connect_args={"timeout": busy}
        )
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise ConsentStoreError(
            f"The consent store's URL cannot be used ({type(error).__name__}).",
            remedy="Give one such as postgresql+psycopg://user@host/consents; its driver must be"
            " installed (`pip install 'kesit[postgresql]'`).",
        ) from None

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # BEGIN is said below, not guessed by the driver
        for pragma in (
            "journal_mode = WAL",  # an import never keeps a sum from reading
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
            f"cache_size = -{CACHE_KB}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("kesit_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
