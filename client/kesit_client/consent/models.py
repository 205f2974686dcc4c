"""Tables of the consent store: the same for SQLite and PostgreSQL.

Whoever changes one adds a script to `migrations`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite numbers rows by itself only where the type is exactly INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """All tables that a consent store holds, those of `kesit_client.rights` included."""


class Meta(Base):
    """Facts about the store: schema, id, the key of its pseudonyms."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class WrittenRow(Base):
    """One change of the store, whatever it was; see `witness`. Rows are only added.

    `events`: how many there were after it.
    """

    __tablename__ = "written"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    token: Mapped[str] = mapped_column(String(32))
    events: Mapped[int] = mapped_column(BigInteger)


class Person(Base):
    """One person. Erasure empties `principal`; `key` (a keyed hash of the id) stays.

    Without it, importing an old file again would bring an erased person's consent back.
    """

    __tablename__ = "person"
    no: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    key: Mapped[bytes] = mapped_column(LargeBinary(16), unique=True)
    principal: Mapped[str | None] = mapped_column(Text)


class Terms(Base):
    """Values of the fields that many records share, as JSON, by their hash."""

    __tablename__ = "terms"
    hash: Mapped[str] = mapped_column(String(32), primary_key=True)
    fields: Mapped[str] = mapped_column(Text)


class EventRow(Base):
    """One event; see `events.Event`. Rows are added and, by an erasure, removed; never changed.

    `digest`: SHA-256 over the record's id and all of its fields: a second import changes nothing.
    """

    __tablename__ = "event"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    person: Mapped[int] = mapped_column(Number, ForeignKey("person.no"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    recorded_at: Mapped[int] = mapped_column(BigInteger)
    record_id: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    type: Mapped[int] = mapped_column(SmallInteger)
    time: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(Integer)
    basis: Mapped[str] = mapped_column(Text)
    event_id: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str | None] = mapped_column(Text)
    validity_duration: Mapped[str | None] = mapped_column(Text)
    valid_until: Mapped[int] = mapped_column(BigInteger)
    entity_id: Mapped[str | None] = mapped_column(Text)
    notice_hash: Mapped[str | None] = mapped_column(Text)
    consent_text_hash: Mapped[str | None] = mapped_column(Text)
    notice_shown_at: Mapped[int | None] = mapped_column(BigInteger)
    channel: Mapped[str | None] = mapped_column(Text)
    iys_channel: Mapped[str | None] = mapped_column(Text)
    iys_status: Mapped[str | None] = mapped_column(Text)
    iys_checked_at: Mapped[int | None] = mapped_column(BigInteger)
    profiling: Mapped[bool | None]
    adult_from: Mapped[int | None] = mapped_column(BigInteger)
    special: Mapped[bool]
    special_ground: Mapped[str | None] = mapped_column(Text)
    terms: Mapped[str] = mapped_column(String(32), ForeignKey("terms.hash"))

    # A number is never given twice: what an erasure removed must not look like what came after it.
    __table_args__ = (Index("event_by_action", "event_id"), {"sqlite_autoincrement": True})


class TreeRow(Base):
    """The consent snapshot under one attestation.

    `seed` makes the padding, and the tree, again; nothing in it tells who a leaf belongs to.
    """

    __tablename__ = "tree"
    run: Mapped[str] = mapped_column(String(32), primary_key=True)
    depth: Mapped[int] = mapped_column(Integer)
    seed: Mapped[bytes] = mapped_column(LargeBinary(32))
    root: Mapped[str] = mapped_column(String(64))
    moment: Mapped[int] = mapped_column(BigInteger)


class LeafRow(Base):
    """One person's leaf. Erasure empties all but `run`, `position` and `leaf`."""

    __tablename__ = "leaf"
    run: Mapped[str] = mapped_column(String(32), ForeignKey("tree.run"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    leaf: Mapped[bytes] = mapped_column(LargeBinary(32))
    person: Mapped[int | None] = mapped_column(Number, ForeignKey("person.no"), index=True)
    salt: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    decision: Mapped[str | None] = mapped_column(Text)
    digest: Mapped[str | None] = mapped_column(String(64))
