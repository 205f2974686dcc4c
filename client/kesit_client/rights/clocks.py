"""Deadlines: days, hours and business days on the calendar of Turkey."""

from __future__ import annotations

import datetime
from typing import Final

from kesit_client.consent.events import ISTANBUL, SECOND, from_us, to_us
from kesit_privacy import business_days

ACCESS: Final = "access"
RECTIFICATION: Final = "rectification"
ERASURE: Final = "erasure"
OBJECTION: Final = "objection"
BREACH: Final = "breach"
TRANSFER: Final = "transfer-notification"
IYS_TRANSFER: Final = "iys-transfer"

DAYS: Final = {ACCESS: 30, RECTIFICATION: 30, ERASURE: 30, OBJECTION: 30}
HOURS: Final = {BREACH: 72}
BUSINESS_DAYS: Final = {TRANSFER: 5, IYS_TRANSFER: 3}
KINDS: Final = (*DAYS, *HOURS, *BUSINESS_DAYS)
OF_PERSONS: Final = frozenset(DAYS)
"""Kinds that one person asks for."""


def due(kind: str, opened: int) -> int:
    """Last moment (µs) for a request or an incident that was opened at `opened`.

    Days run to the same clock time; a deadline that falls on a holiday is not put off, which is the
    strict reading. Business days end with their last day in Istanbul; the first is the day after.
    """
    if kind in HOURS:
        return opened + HOURS[kind] * 3600 * SECOND
    local = from_us(opened).astimezone(ISTANBUL)
    if kind in DAYS:
        return to_us(local + datetime.timedelta(days=DAYS[kind]))
    return end_of(business_days.after(local.date(), BUSINESS_DAYS[kind]))


def end_of(day: datetime.date) -> int:
    """The last moment (µs) of a day in Istanbul."""
    start = datetime.datetime(day.year, day.month, day.day, tzinfo=ISTANBUL)
    return to_us(start + datetime.timedelta(days=1)) - 1
