"""Versions of the books' schema. Append a script; never change one that was released."""

from __future__ import annotations

import sqlite3

from kesit_client.errors import StoreError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE node (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
        "CREATE TABLE approval (study TEXT PRIMARY KEY, copy BLOB NOT NULL,"
        " approved_at REAL NOT NULL) STRICT",
        "CREATE TABLE run (run TEXT PRIMARY KEY, study TEXT NOT NULL, server TEXT NOT NULL,"
        " hello BLOB NOT NULL, ephemeral BLOB, canary_seed BLOB, started_at REAL NOT NULL,"
        " transcript TEXT, last_roster BLOB) STRICT",
        "CREATE TABLE charge (id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL,"
        " step TEXT NOT NULL, attempt INTEGER NOT NULL, instruction BLOB NOT NULL,"
        " study TEXT NOT NULL, purpose TEXT NOT NULL, units INTEGER NOT NULL CHECK (units >= 0),"
        " charged_at REAL NOT NULL, origin TEXT NOT NULL, UNIQUE (run, step, attempt)) STRICT",
        "CREATE TRIGGER charges_stay BEFORE DELETE ON charge"
        " BEGIN SELECT raise(ABORT, 'charges are never deleted'); END",
        "CREATE TRIGGER charges_stand BEFORE UPDATE ON charge"
        " BEGIN SELECT raise(ABORT, 'charges are never changed'); END",
        "CREATE TABLE answer (run TEXT NOT NULL, step TEXT NOT NULL, attempt INTEGER NOT NULL,"
        " reply BLOB NOT NULL, PRIMARY KEY (run, step, attempt)) STRICT",
        "CREATE TABLE refusal (id INTEGER PRIMARY KEY, at REAL NOT NULL, run TEXT NOT NULL,"
        " code INTEGER NOT NULL, cause TEXT NOT NULL) STRICT",
    ),
    # What was asked, for the owner's log; null for older charges and for merged ones.
    ("ALTER TABLE charge ADD COLUMN request BLOB",),
    # Whose sum it was; older charges were paid by all customers.
    (
        "ALTER TABLE charge ADD COLUMN side TEXT NOT NULL DEFAULT 'all'"
        " CHECK (side IN ('all', 'train', 'held'))",
    ),
    # Trainings by DP-SGD: the event beside a charge of 0 units (see `pots`).
    (
        "CREATE TABLE training (instruction BLOB PRIMARY KEY, study TEXT NOT NULL,"
        " purpose TEXT NOT NULL, rate INTEGER NOT NULL, noise INTEGER NOT NULL,"
        " steps INTEGER NOT NULL) STRICT",
        "CREATE TRIGGER trainings_stay BEFORE DELETE ON training"
        " BEGIN SELECT raise(ABORT, 'trainings are never deleted'); END",
        "CREATE TRIGGER trainings_stand BEFORE UPDATE ON training"
        " BEGIN SELECT raise(ABORT, 'trainings are never changed'); END",
    ),
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file to the newest version, each step in its own transaction.

    Raises:
        StoreError: the file was written by a newer Kesit.
    """
    if _version(connection) == len(MIGRATIONS):
        return
    while True:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)
        if version >= len(MIGRATIONS):
            connection.execute("ROLLBACK")
            break
        try:
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    if version > len(MIGRATIONS):
        raise StoreError(
            f"The books have version {version}; this Kesit knows {len(MIGRATIONS)}.",
            remedy="Update Kesit on this machine.",
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
