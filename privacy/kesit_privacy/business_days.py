"""Business days: neither Saturday, Sunday nor a public holiday of a country.

Public holidays are those of the `holidays` library; half holidays are business days. Feasts that
follow the moon are known for the years that an authority announced, and estimated beyond: there a
day near a feast may be a holiday or not, and counts say so by their two ends.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import holidays

TURKEY: Final = "TR"
_DRIFT: Final = 2
"""By how many days an estimated feast may lie elsewhere."""
_DAY: Final = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Count:
    """How many business days there are: at least, and at most, for all that is announced."""

    least: int
    most: int


@lru_cache(maxsize=1)
def calendars() -> frozenset[str]:
    """Countries (two letters) whose public holidays are known."""
    return frozenset(holidays.list_supported_countries(include_aliases=False))


def is_business_day(day: datetime.date, country: str = TURKEY) -> bool:
    """Whether work is done on that day, estimated feasts taken as they are estimated."""
    return day.weekday() < 5 and day not in _known(country, day.year)[0]


def after(day: datetime.date, count: int, country: str = TURKEY) -> datetime.date:
    """The `count`-th business day after `day`."""
    while count:
        day += _DAY
        if is_business_day(day, country):
            count -= 1
    return day


def between(start: datetime.date, end: datetime.date, country: str = TURKEY) -> Count:
    """Business days after `start`, up to and including `end`; none if `end` is not later."""
    least = most = 0
    for day in _days(start, end):
        if day.weekday() < 5:
            certain = day not in _known(country, day.year)[1]
            most += certain
            least += certain and not _near_a_feast(day, country)
    return Count(least, most)


def _days(start: datetime.date, end: datetime.date) -> Iterator[datetime.date]:
    for step in range(1, (end - start).days + 1):
        yield start + step * _DAY


def _near_a_feast(day: datetime.date, country: str) -> bool:
    """Whether a feast whose date is estimated may fall on that day."""
    for step in range(-_DRIFT, _DRIFT + 1):
        near = day + step * _DAY
        every, certain = _known(country, near.year)
        if near in every and near not in certain:
            return True
    return False


@lru_cache(maxsize=256)
def _known(country: str, year: int) -> tuple[frozenset[datetime.date], frozenset[datetime.date]]:
    """Public holidays of a year; and those among them whose date is certain."""
    found = holidays.country_holidays(country, years=year, language="en_US")
    return (
        frozenset(found),
        frozenset(day for day, name in found.items() if "(estimated)" not in name),
    )
