"""The consent store: events are added, read, and removed only by an erasure.

SQLite (a file in the client's folder, readable by its owner alone) or PostgreSQL, through the same
models. Each change is one transaction: a full disk, a lock or a crash leaves what was there before.
Writers take turns, so that an event's number tells what was recorded before it. A store that was
restored from a backup is noticed (`witness`): it can be read and written, but counts nobody.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import postgresql, sqlite

from kesit_client.consent import frames, migrations, witness
from kesit_client.consent.engine import make_engine
from kesit_client.consent.events import Event, now_us
from kesit_client.consent.models import Base, EventRow, LeafRow, Meta, Person, Terms
from kesit_client.consent.settings import STORE, ConsentSettings
from kesit_client.consent.terms import EventType
from kesit_client.errors import ConsentStoreError
from kesit_client.rights.models import ExportPersonRow, IncidentPersonRow, MarkRow, RequestRow

BUSY_SECONDS: Final = 30.0
CHUNK: Final = 20_000
"""Rows that are handed to the driver at a time."""
FEW: Final = 500
"""Up to so many values are looked up by name; of more the whole column is read."""
_WRITERS: Final = 0x6B657369
"""PostgreSQL's advisory lock under which writers take turns."""


class ConsentStore:
    """Open with `ConsentStore.open(home)`."""

    def __init__(self, engine: Engine, name: str, home: Path, busy: float = BUSY_SECONDS) -> None:
        self.engine = engine
        self.home = home
        self.name = name
        self.busy = busy
        self.id = ""
        self._file: tuple[Path, int] | None = None
        self._key = b""

    @classmethod
    def open(
        cls,
        home: Path,
        settings: ConsentSettings | None = None,
        *,
        create: bool = True,
        busy: float = BUSY_SECONDS,
    ) -> ConsentStore:
        """The store of a client's folder.

        Args:
            create: make it if it is not there.
            busy: seconds to wait for another writer.

        Raises:
            ConsentError: consent.toml is wrong.
            ConsentStoreError: missing, no store, unreachable, read-only, locked, or of a newer
                Kesit.
        """
        settings = ConsentSettings.load(home) if settings is None else settings
        path = home / STORE
        if settings.url is None and not create and not path.is_file():
            raise ConsentStoreError(
                f"{path}: there is no consent store.",
                remedy="`kesit client consent import FILE` makes it.",
            )
        name = "the database" if settings.url else str(path)
        store = cls(make_engine(settings.url, path, busy), name, home, busy)
        try:
            store._prepare(path if settings.url is None else None)
            store._file = None if settings.url else (path, path.stat().st_ino)
            store._bear_witness()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One moment of the store, for several reads.

        Raises:
            ConsentStoreError: the database refuses.
        """
        # PostgreSQL would show each query a moment of its own; SQLite knows no other way than one.
        postgres = self.engine.dialect.name == "postgresql"
        options = {"isolation_level": "REPEATABLE READ"} if postgres else {}
        with (
            self._errors("read"),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def counting(self) -> Iterator[Connection]:
        """`reading`, for what decides who is counted or given out: not by a restored store.

        Raises:
            ConsentStoreError: the database refuses, or the store looks restored.
        """
        with self._errors("read"):
            seen = witness.read(self.home)
        with self.reading() as connection:
            reason = witness.doubt(connection, self.id, seen)
            if reason is not None:
                raise ConsentStoreError(
                    f"{self.name}: the consent store looks restored from a backup: {reason}."
                    " Withdrawals and objections may be missing.",
                    remedy="Import every file since the backup again, note what persons asked for"
                    " since then, and say so: `kesit client consent accept-restored`.",
                )
            yield connection

    @property
    def replaced(self) -> bool:
        """Whether another file lies in the place of the one that is open; then open it anew."""
        if self._file is None:
            return False
        path, inode = self._file
        try:
            return path.stat().st_ino != inode
        except OSError:
            return True

    def require_whole(self) -> None:
        """Refuse a store that looks restored.

        Raises:
            ConsentStoreError: as for `counting`.
        """
        with self.counting():
            return

    @property
    def restored(self) -> str | None:
        """Why this store looks restored from a backup, or None."""
        with self._errors("read"):
            seen = witness.read(self.home)
        with self.reading() as connection:
            return witness.doubt(connection, self.id, seen)

    def accept_restored(self) -> None:
        """The owner says that the store is up to date again.

        Raises:
            ConsentStoreError: the disk refuses.
        """
        with self.writing():  # a change that says how many events there are now
            pass
        self._bear_witness(trust=True)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, whole or not at all.

        Raises:
            ConsentStoreError: the database refuses; nothing was changed.
        """
        with (
            self._errors("written"),
            self.engine.connect().execution_options(kesit_writes=True) as connection,
            connection.begin(),
        ):
            if connection.dialect.name == "postgresql":
                wait = f"SET LOCAL lock_timeout = {max(1, round(self.busy * 1000))}"
                connection.exec_driver_sql(wait)
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS)))
            yield connection
            witness.add(connection)
        if self.id:  # else the store is still being made
            self._bear_witness()

    def _bear_witness(self, *, trust: bool = False) -> None:
        """The witness sees what was committed; one that lags because of a crash does so later."""
        try:
            witness.bring_up(self.home, self.id, self.reading, trust=trust)
        except OSError as error:
            raise ConsentStoreError(
                f"{self.home / witness.WITNESS}: cannot be written ({error.strerror}); what was to"
                " be recorded is recorded.",
                remedy="Check the folder and the room on the disk.",
            ) from error

    def pseudonyms(self, principals: Sequence[str]) -> list[bytes]:
        """Keyed hashes (16 bytes) of ids; without the store nobody can link them."""
        key = self._key
        return [
            hashlib.blake2b(principal.encode(), key=key, digest_size=16).digest()
            for principal in principals
        ]

    def append(
        self,
        connection: Connection,
        events: pl.DataFrame,
        terms: dict[str, str],
        now: int | None = None,
    ) -> int:
        """Add events (columns of `frames.SCHEMA`) that are not there yet; how many were new.

        Args:
            connection: of `writing`.
            terms: the shared fields, as JSON, by the hash that the events name.
        """
        if terms:
            rows = [{"hash": name, "fields": fields} for name, fields in terms.items()]
            connection.execute(self._insert(Terms), rows)
        numbered = self._numbered(connection, events)
        recorded = now_us() if now is None else now
        new = 0
        for chunk in numbered.iter_slices(CHUNK):
            chunk = chunk.with_columns(frames.digests(chunk), recorded_at=pl.lit(recorded))
            new += self.add(connection, EventRow, chunk.drop("principal"))
        return new

    def events(self, principal: str, connection: Connection | None = None) -> pl.DataFrame:
        """All events of one person, oldest first, with `id`, `digest` and `recorded_at`."""
        if connection is None:
            with self.reading() as own:
                return self.events(principal, own)
        query = (
            sa.select(*EventRow.__table__.columns, Person.principal)
            .join(Person, Person.no == EventRow.person)
            .where(Person.key == self.pseudonyms([principal])[0])
            .order_by(EventRow.time, EventRow.id)
        )
        rows = [dict(row._mapping) for row in connection.execute(query)]
        schema = {
            "id": pl.Int64,
            "digest": pl.Binary,
            "recorded_at": pl.Int64,
            **frames.SCHEMA,
        }
        return pl.DataFrame(rows, schema=schema)

    def erase(self, principal: str, now: int | None = None) -> int:
        """Remove all that is known of a person; how many events that were.

        What stays: a keyed hash of the id with the time of the erasure, so that old files bring
        nothing back. The salts of the person's leaves go: old commitments belong to nobody. So does
        the person's number.
        """
        moment = now_us() if now is None else now
        with self.writing() as connection:
            removed = self.erase_within(connection, principal, moment)
        self.settle()
        return removed

    def erase_within(self, connection: Connection, principal: str, now: int) -> int:
        """`erase` within a transaction of `writing`; call `settle` after it."""
        key = self.pseudonyms([principal])[0]
        removed, at = 0, now
        no = connection.scalar(sa.select(Person.no).where(Person.key == key))
        if no is not None:
            # A record may be ahead of this clock; importing it again must not bring it back.
            last = connection.scalar(
                sa.select(sa.func.max(EventRow.time)).where(EventRow.person == no)
            )
            at = max(now, last or now)
            removed = connection.execute(sa.delete(EventRow).where(EventRow.person == no)).rowcount
            empty = {"person": None, "salt": None, "decision": None, "digest": None}
            connection.execute(sa.update(LeafRow).where(LeafRow.person == no).values(**empty))
            self._number_anew(connection, no, key)
        # The random record id keeps the marker's digest from being a guessable hash of the id.
        name = f"erased-{secrets.token_hex(16)}"
        marker = Event(name, principal, "", EventType.ERASED, at)
        self.append(connection, frames.frame_of([marker]), {"": "{}"}, now)
        connection.execute(sa.update(Person).where(Person.key == key).values(principal=None))
        change = sa.update(Meta).where(Meta.key == "removals")
        connection.execute(change.values(value=secrets.token_hex(8)))
        return removed

    def _number_anew(self, connection: Connection, no: int, key: bytes) -> None:
        """Another number for an erased person: lists of who was counted must lead to nobody."""
        top = connection.scalar(sa.select(sa.func.max(Person.no))) or 0
        anew = top + 1
        other = secrets.token_bytes(16)  # a key is one person's
        connection.execute(sa.insert(Person).values(no=anew, key=other, principal=None))
        requests = sa.update(RequestRow).where(RequestRow.person == no)
        connection.execute(requests.values(person=anew, note=""))  # free text: names, telephones
        for model in (ExportPersonRow, MarkRow, IncidentPersonRow):
            change = sa.update(model).where(model.person == no)
            connection.execute(change.values(person=anew))
        connection.execute(sa.delete(Person).where(Person.no == no))
        connection.execute(sa.update(Person).where(Person.no == anew).values(key=key))

    def removals(self, connection: Connection) -> str:
        """Changes with every erasure: a copy of events must then be read anew, all of it."""
        found = connection.scalar(sa.select(Meta.value).where(Meta.key == "removals"))
        return found or ""

    def last_recorded(self, connection: Connection) -> int | None:
        """When (µs) the newest event was recorded; None without any."""
        query = sa.select(EventRow.recorded_at).order_by(EventRow.id.desc()).limit(1)
        return connection.scalar(query)

    def settle(self) -> None:
        """After an erasure: leave nothing of it in SQLite's log of recent writes.

        Raises:
            ConsentStoreError: it was erased, but the log could not be emptied.
        """
        if self.engine.dialect.name != "sqlite":
            return
        with self._errors("written"), self.engine.connect() as connection:
            busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy is None or busy[0]:
            raise ConsentStoreError(
                f"{self.name}: it was erased, but another program still reads what was there"
                " before, and traces lie in the log of recent writes.",
                remedy="End that program, then run `kesit client dispose --yes`.",
            )

    def people(self, connection: Connection, principals: Sequence[str]) -> list[int]:
        """Numbers of persons; new ones get theirs here. Within a transaction of `writing`."""
        names = pl.DataFrame({"principal": principals}, schema={"principal": pl.String})
        return self._numbered(connection, names)["person"].to_list()

    def _numbered(self, connection: Connection, events: pl.DataFrame) -> pl.DataFrame:
        """The events with `person`, their person's number; new persons get one."""
        names = events["principal"].unique(maintain_order=True)
        people = pl.DataFrame(
            {
                "principal": names,
                "key": pl.Series(self.pseudonyms(names.to_list()), dtype=pl.Binary),
            }
        )
        known = people.join(self.numbers(connection, people["key"]), on="key", how="left")
        top = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(Person.no), 0)))
        new = known.filter(pl.col("no").is_null()).with_row_index("no_new", offset=(top or 0) + 1)
        for chunk in new.iter_slices(CHUNK):
            rows = chunk.select("principal", "key", no=pl.col("no_new").cast(pl.Int64))
            self.add(connection, Person, rows)
        self._name_again(connection, known)
        numbers = pl.concat(
            [
                known.filter(pl.col("no").is_not_null()).select("principal", person="no"),
                new.select("principal", person=pl.col("no_new").cast(pl.Int64)),
            ]
        )
        return events.join(numbers, on="principal", how="left", maintain_order="left")

    def _name_again(self, connection: Connection, known: pl.DataFrame) -> None:
        """Persons whose data were erased, and of whom a new record speaks now."""
        query = sa.select(Person.no).where(Person.principal.is_(None))
        nameless = fetch(connection, query, {"no": pl.Int64})
        for principal, no in known.join(nameless, on="no").select("principal", "no").rows():
            change = sa.update(Person).where(Person.no == no)
            connection.execute(change.values(principal=principal))

    def numbers(self, connection: Connection, keys: pl.Series) -> pl.DataFrame:
        """`key` and `no` of the known persons among these pseudonyms, and perhaps of others."""
        query = sa.select(Person.key, Person.no)
        if len(keys) <= FEW:
            query = query.where(Person.key.in_(keys.to_list()))
        return fetch(connection, query, {"key": pl.Binary, "no": pl.Int64})

    def add(self, connection: Connection, model: type[Base], rows: pl.DataFrame) -> int:
        """Insert many rows, those that are there already left out; how many were new.

        The statement goes to the driver as text: SQLAlchemy's own way takes four times as long.
        """
        mark = "%s" if self.engine.dialect.name == "postgresql" else "?"
        names = ", ".join(f'"{name}"' for name in rows.columns)
        marks = ", ".join([mark] * rows.width)
        statement = (  # every name is one of the models' own
            f"INSERT INTO {model.__tablename__} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608
        )
        return connection.exec_driver_sql(statement, rows.rows()).rowcount if len(rows) else 0

    def _insert(self, model: type[Base]) -> Any:
        """INSERT that leaves what is there already as it is."""
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(model).on_conflict_do_nothing()

    def _prepare(self, path: Path | None) -> None:
        """Make the tables where there are none, and learn the store's id and key."""
        with self._errors("opened"):
            if path is not None and not path.exists():
                path.touch(mode=0o600)
            if not sa.inspect(self.engine).has_table(Meta.__tablename__):
                with self.writing() as connection:
                    self._make(connection)
            with self.reading() as connection:
                meta = migrations.read_meta(connection)
        if migrations.checked_version(meta, self.name) < migrations.SCHEMA:
            with self.writing() as connection:
                migrations.migrate(connection, self.name)
        self.id, self._key = meta["id"], bytes.fromhex(meta["pseudonyms"])

    def _make(self, connection: Connection) -> None:
        """All tables, and the store's facts about itself."""
        Base.metadata.create_all(connection)
        facts = {
            "schema": str(migrations.SCHEMA),
            "id": secrets.token_hex(16),
            "pseudonyms": secrets.token_hex(32),
            "removals": secrets.token_hex(8),
        }
        rows = [{"key": key, "value": value} for key, value in facts.items()]
        connection.execute(self._insert(Meta), rows)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except ConsentStoreError:
            raise
        except (sa.exc.SQLAlchemyError, OSError) as error:
            # A driver's text may hold the URL, and so its password; SQLAlchemy's holds the rows.
            reason = getattr(error, "orig", None)
            plain = str(reason) if self.engine.dialect.name == "sqlite" and reason else ""
            raise ConsentStoreError(
                f"{self.name}: the consent store cannot be {what}"
                f" ({plain or type(reason or error).__name__}); nothing was changed.",
                remedy="Check that it is there and writable, that no other program holds it, and"
                " that the disk has room.",
            ) from None


def fetch(connection: Connection, query: Any, schema: dict[str, Any]) -> pl.DataFrame:
    """The rows of a query as a table with these columns."""
    result = connection.execute(query)
    assert result.cursor is not None
    # The driver's own tuples: a million of SQLAlchemy's rows take seconds.
    return pl.DataFrame(result.cursor.fetchall(), schema=schema, orient="row")
