"""Versions of the consent store's tables. Append a script; never change one that was released.

A new store is made from the models. One of an earlier version is brought to the newest by scripts,
all of them in one transaction; a test holds that both ways lead to the same tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.models import Meta
from kesit_client.errors import ConsentStoreError

FIRST: Final = 1
"""The version to which no script leads."""

SCRIPTS: tuple[tuple[str, ...], ...] = (
    # 2: incidents. A breach that was closed as done before was one of which the Board was told.
    (
        "CREATE TABLE incident ("
        " request BIGINT NOT NULL PRIMARY KEY REFERENCES rights_request (id),"
        " board_at BIGINT, persons_at BIGINT, looked_at BIGINT)",
        "CREATE TABLE incident_person ("
        " request BIGINT NOT NULL REFERENCES incident (request),"
        " person BIGINT NOT NULL REFERENCES person (no), PRIMARY KEY (request, person))",
        "CREATE INDEX ix_incident_person_person ON incident_person (person)",
        "INSERT INTO incident (request, board_at)"
        " SELECT id, CASE WHEN outcome = 'done' THEN closed_at END"
        " FROM rights_request WHERE kind = 'breach'",
    ),
    # 3: exports have a purpose and a channel of messages, and are marked where somebody withdrew.
    (
        "ALTER TABLE export ADD COLUMN purpose TEXT",
        "ALTER TABLE export ADD COLUMN iys_channel TEXT",
        "CREATE TABLE withdrawal_mark ("
        " export BIGINT NOT NULL REFERENCES export (id),"
        " person BIGINT NOT NULL REFERENCES person (no),"
        " withdrawn_at BIGINT NOT NULL, marked_at BIGINT NOT NULL, acknowledged_at BIGINT,"
        " PRIMARY KEY (export, person))",
        "CREATE INDEX ix_withdrawal_mark_person ON withdrawal_mark (person)",
        "INSERT INTO withdrawal_mark (export, person, withdrawn_at, marked_at)"
        " SELECT h.export, h.person, MIN(e.time), MAX(e.recorded_at)"
        " FROM export_person h JOIN export x ON x.id = h.export JOIN event e ON e.person = h.person"
        " WHERE e.type = 3 AND (e.time >= x.exported_at OR e.recorded_at >= x.exported_at)"
        " AND NOT EXISTS (SELECT 1 FROM event g WHERE g.person = e.person"
        " AND g.purpose = e.purpose AND g.type IN (1, 5)"
        " AND g.time > e.time AND g.time <= x.exported_at)"
        " GROUP BY h.export, h.person",
    ),
    # 4: an event's number is never given twice, and leaves lie in no order of persons.
    (
        "CREATE TABLE event_anew ("
        " id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL,"
        " digest BLOB NOT NULL, recorded_at BIGINT NOT NULL, record_id TEXT NOT NULL,"
        " purpose TEXT NOT NULL, type SMALLINT NOT NULL, time BIGINT NOT NULL,"
        ' "offset" INTEGER NOT NULL, basis TEXT NOT NULL, event_id TEXT, state TEXT,'
        " validity_duration TEXT, valid_until BIGINT NOT NULL, entity_id TEXT, notice_hash TEXT,"
        " consent_text_hash TEXT, notice_shown_at BIGINT, channel TEXT, iys_channel TEXT,"
        " iys_status TEXT, iys_checked_at BIGINT, profiling BOOLEAN, adult_from BIGINT,"
        " special BOOLEAN NOT NULL, special_ground TEXT, terms VARCHAR(32) NOT NULL,"
        " FOREIGN KEY(person) REFERENCES person (no), UNIQUE (digest),"
        " FOREIGN KEY(terms) REFERENCES terms (hash))",
        "INSERT INTO event_anew SELECT * FROM event ORDER BY id",
        "DROP TABLE event",
        "ALTER TABLE event_anew RENAME TO event",
        "CREATE INDEX ix_event_person ON event (person)",
        "CREATE INDEX event_by_action ON event (event_id)",
        "CREATE TABLE leaf_anew ("
        " run VARCHAR(32) NOT NULL, position BIGINT NOT NULL, leaf BLOB NOT NULL, person INTEGER,"
        " salt BLOB, decision TEXT, digest VARCHAR(64), PRIMARY KEY (run, position),"
        " FOREIGN KEY(run) REFERENCES tree (run), FOREIGN KEY(person) REFERENCES person (no))",
        "INSERT INTO leaf_anew SELECT * FROM leaf ORDER BY run, position",
        "DROP TABLE leaf",
        "ALTER TABLE leaf_anew RENAME TO leaf",
        "CREATE INDEX ix_leaf_person ON leaf (person)",
    ),
    # 5: changes are numbered, so that a restored store is noticed.
    (
        "CREATE TABLE written (number BIGINT NOT NULL PRIMARY KEY, token VARCHAR(32) NOT NULL,"
        " events BIGINT NOT NULL)",
    ),
)
ONLY: Final = {4: "sqlite"}
"""Versions whose script is for one kind of database alone; the other kind is so already."""

SCHEMA: Final = FIRST + len(SCRIPTS)
"""Version of the tables that the models describe."""


def checked_version(meta: Mapping[str, str], name: str) -> int:
    """The version that a store states, if this Kesit can work with it.

    Args:
        meta: the store's facts about itself.
        name: what to call it.

    Raises:
        ConsentStoreError: it is no consent store, or of a newer Kesit.
    """
    try:
        version = int(meta["schema"])
        complete = version >= FIRST and {"id", "pseudonyms", "removals"} <= meta.keys()
    except (KeyError, ValueError):
        complete = False
    if not complete:
        raise ConsentStoreError(
            f"{name}: this is no consent store, or a damaged one.",
            remedy="Name another place in consent.toml, or restore the store from a backup.",
        )
    if version > SCHEMA:
        raise ConsentStoreError(
            f"{name}: the consent store has version {version}; this Kesit knows {SCHEMA}.",
            remedy="Update Kesit on this machine.",
        )
    return version


def migrate(connection: Connection, name: str) -> None:
    """Bring a store to the newest version.

    Args:
        connection: of `ConsentStore.writing`: all of it happens or nothing.

    Raises:
        ConsentStoreError: as `checked_version`.
    """
    version = checked_version(read_meta(connection), name)  # once more: others may have been first
    for number, script in enumerate(SCRIPTS[version - FIRST :], version + 1):
        if ONLY.get(number, connection.dialect.name) != connection.dialect.name:
            continue
        for statement in script:
            connection.exec_driver_sql(statement)
    change = sa.update(Meta).where(Meta.key == "schema")
    connection.execute(change.values(value=str(SCHEMA)))


def read_meta(connection: Connection) -> dict[str, str]:
    """The store's facts about itself."""
    found = connection.execute(sa.select(Meta.key, Meta.value))
    return {row.key: row.value for row in found}
