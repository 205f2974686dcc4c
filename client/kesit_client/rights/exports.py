"""The register of exports: who received whose data, and who must still be told of a change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.events import now_us
from kesit_client.consent.keeping import person_id
from kesit_client.consent.models import Person
from kesit_client.consent.reading import not_utf8
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError
from kesit_client.rights.marking import mark
from kesit_client.rights.models import ExportPersonRow, ExportRow, MarkRow, NoticeRow

SEPARATORS: Final = (";", ",", "\t")
ONE_A_LINE: Final = "Give a UTF-8 text file of the ids alone, one a line, without a heading."


@dataclass(frozen=True)
class Export:
    """Something that a recipient got.

    Attributes:
        exported_at: µs. persons: how many it was about.
        purpose, channel: what for, and by which way of messages, if it was noted.
        withdrew: how many withdrew since; untold: of how many of them the recipient has not said
            that it knows.
        unknown: of whom nothing had been recorded before; known when it is recorded.
    """

    id: int
    recipient: str
    what: str
    exported_at: int
    persons: int
    purpose: str | None = None
    channel: str | None = None
    withdrew: int = 0
    untold: int = 0
    unknown: int = 0


@dataclass(frozen=True)
class Notice:
    """What a recipient must do because of a request (`kind`); None until it said that it did."""

    id: int
    export: int
    recipient: str
    what: str
    kind: str
    made_at: int
    acknowledged_at: int | None


def read_ids(path: Path) -> list[str]:
    """Persons' ids from a text file, one a line.

    A line of a table would be kept as the id of a person whom nobody knows, and whoever was meant
    would be missing when the recipient must be told. So it is refused.

    Raises:
        ConsentError: unreadable, not UTF-8, or a line is more than an id.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConsentError(
            f"{path}: cannot be read ({error.strerror}).", remedy="Check the path."
        ) from error
    if broken := not_utf8(data):
        raise ConsentError(f"{path}: {broken}.", remedy="Save the file as UTF-8.")
    lines = re.split("\r\n|\n|\r", data.decode("utf-8-sig"))  # no other sign ends a line
    for number, line in enumerate(lines, 1):
        if any(sign in line.strip() for sign in SEPARATORS) or "\0" in line:
            raise ConsentError(f"{path}: line {number} is more than an id.", remedy=ONE_A_LINE)
    return [person_id(line) for line in lines if line.strip()]


def record_export(
    store: ConsentStore,
    recipient: str,
    what: str,
    ids: Sequence[str],
    now: int | None = None,
    *,
    purpose: str | None = None,
    channel: str | None = None,
) -> Export:
    """Note that a recipient got data of these persons; `permitted` says who may be in it.

    What was given out is noted, whoever is in it: the register must be whole. Who had withdrawn for
    its purpose is marked at once.

    Args:
        purpose: only withdrawals for it mark the export; None for all.
        channel: of IYS, if it is a list for messages.

    Raises:
        ConsentError: no recipient, or nobody.
        ConsentStoreError: the store refuses.
    """
    if not recipient.strip() or not ids:
        raise ConsentError(
            "An export needs a recipient and at least one person.", remedy="Check the command."
        )
    moment, people = now_us() if now is None else now, list(dict.fromkeys(ids))
    with store.writing() as connection:
        values = {
            "recipient": recipient.strip(),
            "what": what,
            "exported_at": moment,
            "purpose": purpose,
            "iys_channel": None if channel is None else channel.lower(),
        }
        made = connection.execute(sa.insert(ExportRow).values(**values)).inserted_primary_key
        assert made is not None
        number = int(made[0])
        keys = pl.Series("key", store.pseudonyms(people), dtype=pl.Binary)
        known = store.numbers(connection, keys)["key"].is_in(keys.to_list()).sum()
        numbers = store.people(connection, people)
        rows = pl.DataFrame({"person": numbers}, schema={"person": pl.Int64})
        store.add(connection, ExportPersonRow, rows.with_columns(export=pl.lit(number)))
        late = 0 if purpose is None else mark(connection, moment, number)
    return Export(
        number,
        recipient.strip(),
        what,
        moment,
        len(people),
        purpose,
        channel,
        withdrew=late,
        untold=late,
        unknown=len(people) - int(known),
    )


def list_exports(store: ConsentStore, principal: str | None = None) -> list[Export]:
    """All exports, or those that held one person's data, oldest first."""
    marked = sa.select(sa.func.count()).where(MarkRow.export == ExportRow.id)
    query = sa.select(
        ExportRow.id,
        ExportRow.recipient,
        ExportRow.what,
        ExportRow.exported_at,
        sa.select(sa.func.count()).where(ExportPersonRow.export == ExportRow.id).scalar_subquery(),
        ExportRow.purpose,
        ExportRow.iys_channel,
        marked.scalar_subquery(),
        marked.where(MarkRow.acknowledged_at.is_(None)).scalar_subquery(),
    ).order_by(ExportRow.id)
    with store.reading() as connection:
        if principal is not None:
            key = store.pseudonyms([principal])[0]
            own = (
                sa.select(ExportPersonRow.export)
                .join(Person, Person.no == ExportPersonRow.person)
                .where(Person.key == key)
            )
            query = query.where(ExportRow.id.in_(own))
        return [Export(*row) for row in connection.execute(query)]


def tell_recipients(
    store: ConsentStore, connection: Connection, principal: str, request: int, kind: str, now: int
) -> int:
    """Make a notice to every recipient of the person's data; how many."""
    key = store.pseudonyms([principal])[0]
    query = (
        sa.select(ExportPersonRow.export)
        .join(Person, Person.no == ExportPersonRow.person)
        .where(Person.key == key)
    )
    rows = [
        {"export": export, "request": request, "kind": kind, "made_at": now}
        for (export,) in connection.execute(query)
    ]
    if rows:
        connection.execute(sa.insert(NoticeRow), rows)
    return len(rows)


def notices(store: ConsentStore, *, only_open: bool = False) -> list[Notice]:
    """What recipients were told or must be told, oldest first."""
    row = NoticeRow
    query = (
        sa.select(
            row.id,
            row.export,
            ExportRow.recipient,
            ExportRow.what,
            row.kind,
            row.made_at,
            row.acknowledged_at,
        )
        .join(ExportRow, ExportRow.id == row.export)
        .order_by(row.id)
    )
    if only_open:
        query = query.where(row.acknowledged_at.is_(None))
    with store.reading() as connection:
        return [Notice(*found) for found in connection.execute(query)]


def acknowledge(store: ConsentStore, number: int, now: int | None = None) -> None:
    """Note that the recipient did what the notice asks for.

    Raises:
        ConsentError: no such notice, or acknowledged already.
    """
    moment = now_us() if now is None else now
    with store.writing() as connection:
        change = (
            sa.update(NoticeRow)
            .where(NoticeRow.id == number, NoticeRow.acknowledged_at.is_(None))
            .values(acknowledged_at=moment)
        )
        if connection.execute(change).rowcount != 1:
            raise ConsentError(
                f"No notice {number} waits for an acknowledgement.",
                remedy="`kesit client exports list` shows them.",
            )
