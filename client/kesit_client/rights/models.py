"""Tables of requests, exports and disposals; they live in the consent store."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from kesit_client.consent.models import Base, Number


class RequestRow(Base):
    """A request or an incident, and its clock. Times are µs since 1970, UTC."""

    __tablename__ = "rights_request"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    kind: Mapped[str] = mapped_column(Text)
    person: Mapped[int | None] = mapped_column(Number, ForeignKey("person.no"), index=True)
    note: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[int] = mapped_column(BigInteger)
    due_at: Mapped[int] = mapped_column(BigInteger)
    closed_at: Mapped[int | None] = mapped_column(BigInteger)
    outcome: Mapped[str | None] = mapped_column(Text)


class IncidentRow(Base):
    """What a request of the kind `breach` is beyond its clock.

    `board_at`, `persons_at`: when the Board and the persons were told. `looked_at`: when somebody
    last found out whose data it concerns; without that an empty list means nothing.
    """

    __tablename__ = "incident"
    request: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("rights_request.id"), primary_key=True, autoincrement=False
    )
    board_at: Mapped[int | None] = mapped_column(BigInteger)
    persons_at: Mapped[int | None] = mapped_column(BigInteger)
    looked_at: Mapped[int | None] = mapped_column(BigInteger)


class IncidentPersonRow(Base):
    """A person whose data an incident concerns."""

    __tablename__ = "incident_person"
    request: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("incident.request"), primary_key=True, autoincrement=False
    )
    person: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("person.no"),
        primary_key=True,
        autoincrement=False,
        index=True,
    )


class ExportRow(Base):
    """Something that was given to a recipient, whole or about one person.

    `purpose`: what for, if it was noted. `iys_channel`: it is a list for messages on this channel.
    """

    __tablename__ = "export"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    recipient: Mapped[str] = mapped_column(Text)
    what: Mapped[str] = mapped_column(Text)
    exported_at: Mapped[int] = mapped_column(BigInteger)
    purpose: Mapped[str | None] = mapped_column(Text)
    iys_channel: Mapped[str | None] = mapped_column(Text)


class ExportPersonRow(Base):
    """A person whose data an export held."""

    __tablename__ = "export_person"
    export: Mapped[int] = mapped_column(Number, ForeignKey("export.id"), primary_key=True)
    person: Mapped[int] = mapped_column(
        Number, ForeignKey("person.no"), primary_key=True, index=True
    )


class MarkRow(Base):
    """A person of an export who withdrew since, and when the recipient said that it knows."""

    __tablename__ = "withdrawal_mark"
    export: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("export.id"), primary_key=True, autoincrement=False
    )
    person: Mapped[int] = mapped_column(
        BigInteger,
        ForeignKey("person.no"),
        primary_key=True,
        autoincrement=False,
        index=True,
    )
    withdrawn_at: Mapped[int] = mapped_column(BigInteger)
    marked_at: Mapped[int] = mapped_column(BigInteger)
    acknowledged_at: Mapped[int | None] = mapped_column(BigInteger)


class NoticeRow(Base):
    """What a recipient must be told because of a request, and whether it said that it did it."""

    __tablename__ = "export_notice"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    export: Mapped[int] = mapped_column(Number, ForeignKey("export.id"))
    request: Mapped[int] = mapped_column(Number, ForeignKey("rights_request.id"))
    kind: Mapped[str] = mapped_column(Text)
    made_at: Mapped[int] = mapped_column(BigInteger)
    acknowledged_at: Mapped[int | None] = mapped_column(BigInteger)


class DisposalRow(Base):
    """One disposal run: how many persons' records were removed, and why. Names nobody."""

    __tablename__ = "disposal"
    id: Mapped[int] = mapped_column(Number, primary_key=True)
    disposed_at: Mapped[int] = mapped_column(BigInteger)
    persons: Mapped[int] = mapped_column(Integer)
    events: Mapped[int] = mapped_column(Integer)
    cause: Mapped[str] = mapped_column(Text)
    keep_until: Mapped[int] = mapped_column(BigInteger)
