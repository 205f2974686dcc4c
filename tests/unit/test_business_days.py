"""Business days of Turkey: weekends, public holidays, feasts whose dates are estimates."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kesit_privacy import business_days
from kesit_privacy.business_days import Count, after, between, is_business_day

DAYS = st.dates(datetime.date(2020, 1, 1), datetime.date(2028, 12, 31))


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [
        ((2026, 6, 1), (2026, 6, 8), 5),  # Monday to Monday
        ((2026, 6, 5), (2026, 6, 12), 5),  # Friday to Friday
        ((2026, 6, 6), (2026, 6, 8), 1),  # from a Saturday
        ((2026, 6, 5), (2026, 6, 7), 0),
        ((2026, 6, 8), (2026, 6, 1), 0),
        ((2026, 4, 22), (2026, 4, 24), 1),  # 23 April
        ((2026, 3, 18), (2026, 3, 25), 4),  # Ramadan's feast begins on Friday 20 March
        ((2026, 10, 27), (2026, 10, 30), 2),  # the afternoon before the 29th is a half holiday
    ],
)
def test_days_between(start: tuple[int, int, int], end: tuple[int, int, int], days: int) -> None:
    assert between(datetime.date(*start), datetime.date(*end)) == Count(days, days)


def test_an_estimated_feast_has_two_counts() -> None:
    found = between(datetime.date(2035, 2, 12), datetime.date(2035, 2, 23))
    assert (found.least, found.most) == (3, 9)


@given(DAYS, st.integers(1, 10))
def test_the_last_day_is_the_count_th(day: datetime.date, count: int) -> None:
    last = after(day, count)
    assert is_business_day(last)
    assert between(day, last).most == count


def test_the_calendar_is_the_country_s() -> None:
    unity = datetime.date(2025, 10, 3)
    assert is_business_day(unity)
    assert not is_business_day(unity, "DE")
    assert {"TR", "DE"} <= business_days.calendars()
