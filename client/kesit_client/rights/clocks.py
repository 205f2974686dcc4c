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
ANSWERED_DAYS: Final = 30
COMPLAINT_DAYS: Final = 60
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
        return _days_after(opened, DAYS[kind])
    return end_of(business_days.after(local.date(), BUSINESS_DAYS[kind]))


def complaint_until(opened: int, answered: int | None) -> int:
    """Last moment (µs) for a complaint to the Board about a person's request (Law 6698 art. 14).

    30 days from the answer, and in any case 60 days from the request.
    """
    last = _days_after(opened, COMPLAINT_DAYS)
    return last if answered is None else min(last, _days_after(answered, ANSWERED_DAYS))


def _days_after(moment: int, days: int) -> int:
    return to_us(from_us(moment).astimezone(ISTANBUL) + datetime.timedelta(days=days))


def end_of(day: datetime.date) -> int:
    """The last moment (µs) of a day in Istanbul."""
    start = datetime.datetime(day.year, day.month, day.day, tzinfo=ISTANBUL)
    return to_us(start + datetime.timedelta(days=1)) - 1
