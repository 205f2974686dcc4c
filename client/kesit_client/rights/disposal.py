"""Disposal: what the retention period ended for is removed, and it is noted that it was.

The notes name nobody and are kept three years; until then they cannot be deleted.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent.columns import ends
from kesit_client.consent.events import ISTANBUL, from_us, now_us, show_time, to_us
from kesit_client.consent.exporting import shared_fields
from kesit_client.consent.models import EventRow, Person
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import ENDS, FOREVER, GRANTS, EventType
from kesit_client.errors import ConsentError
from kesit_client.rights.models import DisposalRow, ExportPersonRow, ExportRow, RequestRow

RECORD_YEARS: Final = 3
IYS_YEARS: Final = 3
"""For how long proof of approvals of messages is kept, unless consent.toml says otherwise."""
EVERY_MONTHS: Final = 6
"""The by-law's longest time between two periodic disposals."""


@dataclass(frozen=True)
class Disposal:
    """One disposal run. Times are µs; before `keep_until` the note cannot be deleted."""

    id: int
    disposed_at: int
    persons: int
    events: int
    cause: str
    keep_until: int


def ended(
    store: ConsentStore,
    retention_years: int,
    now: int | None = None,
    *,
    iys_years: int = IYS_YEARS,
) -> list[str]:
    """Persons of whom nothing may be kept any longer.

    A person's records go together, once every ground has ended (by its validity, a withdrawal, a
    refusal) and the longest retention period of all of them has passed since. The period is the
    record's own (`retention_period`, an ISO 8601 duration) or `retention_years`; a record of a
    channel of messages is proof for `iys_years` at least. Whoever has an open request stays. Of
    whom no record speaks, the latest request or export counts.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    moment = now_us() if now is None else now
    periods = {
        name: fields.get("retention_period", "") for name, fields in shared_fields(store).items()
    }
    with store.reading() as connection:
        events = _events(connection)
        silent = _without_records(connection, _later(moment, -retention_years))
    if events.is_empty():
        return silent
    grant = pl.col("type").is_in([kind.value for kind in GRANTS])
    end = pl.when(pl.col("type").is_in([kind.value for kind in ENDS])).then(pl.col("time"))
    stopped = end.max().over("person", "purpose")
    events = events.with_columns(
        over=pl.when(grant & (stopped >= pl.col("time")))
        .then(pl.min_horizontal("valid_until", stopped))
        .when(grant)
        .then("valid_until")
        .otherwise("time"),
        period=pl.col("terms").replace_strict(periods, default="", return_dtype=pl.String),
    )
    own = pl.col("period").str.contains(r"^P[0-9]")
    period = pl.when(own).then("period").otherwise(pl.lit(f"P{retention_years}Y"))
    proof = pl.when(pl.col("channel").is_not_null()).then(pl.lit(f"P{iys_years}Y"))
    events = events.with_columns(period=period, proof=proof, zero=pl.lit(0, dtype=pl.Int64))
    over = events["over"].set(events["over"] >= FOREVER, None)
    kept = ends(over, events["zero"], events["period"]).fill_null(FOREVER)
    until = ends(over, events["zero"], events["proof"]).fill_null(FOREVER)
    events = events.with_columns(kept=kept, proof=until.set(events["proof"].is_null(), None))
    last = events.group_by("principal").agg(pl.max_horizontal("kept", "proof").max().alias("kept"))
    return sorted([*last.filter(pl.col("kept") <= moment)["principal"], *silent])


def dispose(
    store: ConsentStore,
    retention_years: int,
    now: int | None = None,
    *,
    iys_years: int = IYS_YEARS,
) -> Disposal:
    """Remove what `ended` names, and note it; also if it names nobody: that is a proof, too.

    Raises:
        ConsentStoreError: the store refuses; nothing was removed.
    """
    moment = now_us() if now is None else now
    cause = f"retention ended ({retention_years} years where a record states none)"
    keep_until = _later(moment)
    with store.writing() as connection:
        # Who consents or asks for something meanwhile must wait for its turn, and stays.
        people = ended(store, retention_years, moment, iys_years=iys_years)
        removed = sum(store.erase_within(connection, person, moment) for person in people)
        values = {
            "disposed_at": moment,
            "persons": len(people),
            "events": removed,
            "cause": cause,
            "keep_until": keep_until,
        }
        made = connection.execute(sa.insert(DisposalRow).values(**values)).inserted_primary_key
        assert made is not None
        number = int(made[0])
    store.settle()
    return Disposal(number, moment, len(people), removed, cause, keep_until)


def disposals(store: ConsentStore) -> list[Disposal]:
    """All disposal runs that are noted, oldest first."""
    query = sa.select(*DisposalRow.__table__.columns).order_by(DisposalRow.id)
    with store.reading() as connection:
        return [Disposal(*row) for row in connection.execute(query)]


def delete_note(store: ConsentStore, number: int, now: int | None = None) -> None:
    """Delete the note of a disposal run.

    Raises:
        ConsentError: no such note, or its three years have not passed.
    """
    moment = now_us() if now is None else now
    found = [note for note in disposals(store) if note.id == number]
    if not found:
        raise ConsentError(f"There is no disposal {number}.", remedy="`kesit client dispose`")
    if found[0].keep_until > moment:
        raise ConsentError(
            f"The note of the disposal {number} must be kept until"
            f" {show_time(found[0].keep_until)}.",
            remedy="Leave it: it names nobody.",
        )
    with store.writing() as connection:
        connection.execute(sa.delete(DisposalRow).where(DisposalRow.id == number))


def overdue(store: ConsentStore, now: int | None = None) -> bool:
    """Whether the last disposal run is more than six months ago, or there was none."""
    moment = now_us() if now is None else now
    last = max((note.disposed_at for note in disposals(store)), default=None)
    return last is None or moment - last > EVERY_MONTHS * 30 * 86_400_000_000


def _events(connection: Connection) -> pl.DataFrame:
    row = EventRow
    waiting = sa.select(RequestRow.person).where(
        RequestRow.closed_at.is_(None), RequestRow.person.is_not(None)
    )
    query = (
        sa.select(
            row.person,
            Person.principal,
            row.purpose,
            row.type,
            row.time,
            row.valid_until,
            row.terms,
            row.iys_channel,
        )
        .join(Person, Person.no == row.person)
        .where(
            Person.principal.is_not(None),
            row.type != EventType.ERASED.value,
            Person.no.not_in(waiting),
        )
    )
    schema = {
        "person": pl.Int64,
        "principal": pl.String,
        "purpose": pl.String,
        "type": pl.Int64,
        "time": pl.Int64,
        "valid_until": pl.Int64,
        "terms": pl.String,
        "channel": pl.String,
    }
    return fetch(connection, query, schema)


def _without_records(connection: Connection, before: int) -> list[str]:
    """Persons who are known by closed requests and by exports alone, all of them before that."""
    record = sa.select(EventRow.person).where(EventRow.type != EventType.ERASED.value)
    asked = sa.select(RequestRow.person).where(
        RequestRow.person.is_not(None),
        sa.or_(RequestRow.closed_at.is_(None), RequestRow.closed_at > before),
    )
    given = (
        sa.select(ExportPersonRow.person)
        .join(ExportRow, ExportRow.id == ExportPersonRow.export)
        .where(ExportRow.exported_at > before)
    )
    query = sa.select(Person.principal).where(
        Person.principal.is_not(None),
        *(Person.no.not_in(kept) for kept in (record, asked, given)),
    )
    return [str(principal) for principal in connection.scalars(query)]


def _later(moment: int, years: int = RECORD_YEARS) -> int:
    local = from_us(moment).astimezone(ISTANBUL)
    try:
        return to_us(local.replace(year=local.year + years))
    except ValueError:  # 29 February
        return to_us((local + datetime.timedelta(days=1)).replace(year=local.year + years))
