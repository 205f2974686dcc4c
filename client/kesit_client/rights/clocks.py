"""Deadlines: days, hours and business days on the calendar of Turkey."""

from __future__ import annotations

import datetime
from functools import lru_cache
from typing import Final

import holidays

from kesit_client.consent.events import ISTANBUL, SECOND, from_us, to_us

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
    day = after_business_days(local.date(), BUSINESS_DAYS[kind])
    end = datetime.datetime(day.year, day.month, day.day, tzinfo=ISTANBUL)
    return to_us(end + datetime.timedelta(days=1)) - 1


def after_business_days(day: datetime.date, count: int) -> datetime.date:
    """The `count`-th business day after `day`. Half holidays are business days."""
    while count:
        day += datetime.timedelta(days=1)
        if is_business_day(day):
            count -= 1
    return day


def is_business_day(day: datetime.date) -> bool:
    """Neither Saturday, Sunday nor a public holiday of Turkey."""
    return day.weekday() < 5 and day not in _holidays(day.year)


@lru_cache(maxsize=64)
def _holidays(year: int) -> frozenset[datetime.date]:
    """Public holidays of a year, those of religion (partly estimated) included."""
    return frozenset(holidays.country_holidays("TR", years=year))
