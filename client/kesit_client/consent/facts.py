"""Counts over the consent store that the rules of data protection look at; no person in them.

What the gate decides is counted here by another way (latest grant beside latest withdrawal, event
by event), so that a gate that failed would be seen.
"""

from __future__ import annotations

import datetime
import json
from typing import Final

import polars as pl
import sqlalchemy as sa
from sqlalchemy import Connection

from kesit_client.consent import standing
from kesit_client.consent.events import ISTANBUL, from_us
from kesit_client.consent.models import EventRow, Terms
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.state import reads_special
from kesit_client.consent.store import ConsentStore, fetch
from kesit_client.consent.terms import CONSENT, GRANTS, EventType, Reason
from kesit_client.rights import iys
from kesit_privacy.rules import ConsentFacts
from kesit_privacy.study import Study

_COLUMNS: Final = {
    "person": pl.Int64,
    "type": pl.Int64,
    "time": pl.Int64,
    "purpose": pl.String,
    "basis": pl.String,
    "action": pl.String,
    "notice": pl.String,
    "text": pl.String,
    "shown_at": pl.Int64,
    "profiling": pl.Boolean,
    "channel": pl.String,
    "checked_at": pl.Int64,
    "terms": pl.String,
}


def consent_facts(
    store: ConsentStore, study: Study, now: int, settings: ConsentSettings | None = None
) -> ConsentFacts:
    """The counts for a study at `now` (µs). What the store cannot tell stays unknown.

    Args:
        settings: of consent.toml, which say how long proof of approvals of messages is kept.

    Raises:
        ConsentStoreError: the store cannot be read.
    """
    with store.reading() as connection:
        read = standing.read(
            connection, study.purpose, study.legal_basis, special=reads_special(study)
        )
        decided = standing.decide(read, now, study.legal_basis)
        events = _events(connection).filter(pl.col("time") <= now)
        kept = _retention(connection)
        unapproved, late = iys.unapproved(connection, now), iys.late(connection, now)
    included = decided.filter(pl.col("reason") == Reason.GIVEN.value)["person"]
    grants = events.filter(pl.col("type").is_in([kind.value for kind in GRANTS]))
    own = grants.filter(pl.col("purpose") == study.purpose)
    consents = own.filter(pl.col("basis") == CONSENT)
    withdrawals = events.filter(
        (pl.col("type") == EventType.WITHDRAWN.value) & (pl.col("purpose") == study.purpose)
    )
    valid = own.filter(pl.col("basis") == study.legal_basis)
    latest = valid.group_by("person").agg(pl.col("time").max(), pl.col("profiling").last())
    gone = withdrawals.group_by("person").agg(left=pl.col("time").max())
    back = latest.join(gone, on="person").filter(pl.col("left") >= pl.col("time"))["person"]
    profiled = latest.filter(pl.col("profiling").fill_null(False))["person"]
    return ConsentFacts(
        without_valid=_outside(included, latest["person"]),
        without_purpose=int((grants["purpose"] == "").sum()),
        without_proof=_unproved(consents),
        withdrawn=withdrawals["person"].n_unique(),
        withdrawn_included=len(included) - _outside(included, back),
        same_text=int((consents["notice"] == consents["text"]).sum()),
        notice_in_action=_notice_in_action(events, consents),
        purposes_in_action=_several_purposes(grants),
        needless=0 if study.legal_basis == CONSENT else len(consents),
        notice_first=_notice_first(events, consents),
        profiling_without=_outside(included, profiled),
        retention_set=_all_kept(grants, kept),
        iys_checked=_iys_checked(events),
        iys_unapproved=unapproved,
        iys_late=late,
        iys_proof_days=None if settings is None else settings.iys_proof_years * 365,
    )


def _events(connection: Connection) -> pl.DataFrame:
    row = EventRow
    query = sa.select(
        *(row.person, row.type, row.time, row.purpose, row.basis, row.event_id, row.notice_hash),
        *(row.consent_text_hash, row.notice_shown_at, row.profiling, row.iys_channel),
        *(row.iys_checked_at, row.terms),
    ).order_by(row.time, row.id)
    return fetch(connection, query, dict(_COLUMNS))


def _retention(connection: Connection) -> frozenset[str]:
    """Hashes of the shared terms that state a retention period."""
    rows = connection.execute(sa.select(Terms.hash, Terms.fields)).fetchall()
    return frozenset(name for name, fields in rows if json.loads(fields).get("retention_period"))


def _outside(some: pl.Series, others: pl.Series) -> int:
    """How many of `some` are not among `others`."""
    return int((~some.is_in(others.implode())).sum())


def _unproved(consents: pl.DataFrame) -> int:
    """Consents without an action of their own, without a notice, or without the text agreed to."""
    return consents.filter(pl.any_horizontal(pl.col("action", "notice", "text").is_null())).height


def _several_purposes(grants: pl.DataFrame) -> int:
    """Records whose action stands under more than one purpose."""
    acted = grants.filter(pl.col("action").is_not_null())
    return acted.filter(pl.col("purpose").n_unique().over("action") > 1).height


def _notice_in_action(events: pl.DataFrame, consents: pl.DataFrame) -> int:
    """Consents whose action is also that by which the notice was shown."""
    shown = events.filter(pl.col("type") == EventType.NOTICE_SHOWN.value)["action"].drop_nulls()
    return int(consents["action"].is_in(shown.implode()).fill_null(False).sum())


def _notice_first(events: pl.DataFrame, consents: pl.DataFrame) -> float | None:
    """Share of consents before which their notice was shown; None without a consent."""
    if consents.is_empty():
        return None
    shown = (
        events.filter(pl.col("type") == EventType.NOTICE_SHOWN.value)
        .group_by("person", "notice")
        .agg(first=pl.col("time").min())
    )
    joined = consents.join(shown, on=["person", "notice"], how="left")
    stated = pl.col("shown_at") < pl.col("time")
    recorded = pl.col("first") < pl.col("time")
    informed = joined.filter(stated.fill_null(False) | recorded.fill_null(False))
    return informed.height / consents.height


def _all_kept(grants: pl.DataFrame, kept: frozenset[str]) -> bool | None:
    """Whether every grant states how long it is kept; None without a grant."""
    if grants.is_empty():
        return None
    return bool(grants["terms"].is_in(sorted(kept)).all())


def _iys_checked(events: pl.DataFrame) -> dict[str, datetime.date]:
    """Day (in Istanbul) of the oldest of the persons' latest IYS checks, by channel."""
    checks = events.filter(pl.col("channel").is_not_null() & pl.col("checked_at").is_not_null())
    last = checks.group_by("channel", "person").agg(pl.col("checked_at").max())
    oldest = last.group_by("channel").agg(pl.col("checked_at").min()).sort("channel")
    return {channel: from_us(at).astimezone(ISTANBUL).date() for channel, at in oldest.rows()}
