"""One event of a consent record, and times as records write them.

Times are whole microseconds since 1970 in UTC; the offset that the record was written with is kept
beside them. A time without an offset is no time: the same clock reading happens twice a year.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from kesit_client.consent.terms import CONSENT, FOREVER, GRANTS, EventType

ISTANBUL: Final = ZoneInfo("Europe/Istanbul")
SECOND: Final = 1_000_000
SKEW_SECONDS: Final = 300
"""A record may be so much ahead of this machine's clock."""
DURATION: Final = re.compile(
    r"P(?=.)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?"
    r"(?:T(?=.)(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,7})S)?)?"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Event:
    """One event, checked and ready to be stored.

    Attributes:
        time, notice_shown_at, iys_checked_at, valid_until, adult_from: µs since 1970, UTC.
        offset: seconds east of UTC, as the record was written.
        event_id: the one action (a click, a code, a signature) by which it happened.
        valid_until: first moment at which a grant holds no longer; `FOREVER` without a duration.
        adult_from: the 18th birthday, if the record states a birth date; `FOREVER` for "minor", 0
            for "no minor"; None if it says nothing.
        special: it covers a special category (art. 6); `special_ground` is the recorded ground.
        terms: hash of the record's shared fields (`TERMS`).
    """

    record_id: str
    principal: str
    purpose: str
    type: EventType
    time: int
    offset: int = 0
    basis: str = CONSENT
    event_id: str | None = None
    state: str | None = None
    validity_duration: str | None = None
    valid_until: int = FOREVER
    entity_id: str | None = None
    notice_hash: str | None = None
    consent_text_hash: str | None = None
    notice_shown_at: int | None = None
    channel: str | None = None
    iys_channel: str | None = None
    iys_status: str | None = None
    iys_checked_at: int | None = None
    profiling: bool | None = None
    adult_from: int | None = None
    special: bool = False
    special_ground: str | None = None
    terms: str = ""

    @property
    def grants(self) -> bool:
        """Whether it gives or renews a ground."""
        return self.type in GRANTS


def now_us() -> int:
    """The present, µs since 1970, UTC."""
    return to_us(datetime.datetime.now(datetime.UTC))


def to_us(moment: datetime.datetime) -> int:
    """An aware datetime in µs, exactly.

    Raises:
        ValueError: it has no offset.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a UTC offset")
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)


def read_time(text: str) -> tuple[int, int]:
    """(µs since 1970 in UTC, seconds east of UTC) of an ISO 8601 time with its offset.

    Raises:
        ValueError: it is none, or has no offset.
    """
    moment = datetime.datetime.fromisoformat(text)
    offset = moment.utcoffset()
    if offset is None:
        raise ValueError("a time without a UTC offset")
    return to_us(moment), int(offset.total_seconds())


def show_time(moment: int, zone: datetime.tzinfo = ISTANBUL) -> str:
    """A moment as people read it, by default on the clocks of Istanbul; "never" for `FOREVER`."""
    if moment >= FOREVER:
        return "never"
    return f"{from_us(moment).astimezone(zone):%Y-%m-%d %H:%M:%S %z}"


def write_time(moment: int, offset: int) -> str:
    """ISO 8601, with the offset that the record was written with."""
    zone = datetime.timezone(datetime.timedelta(seconds=offset))
    return from_us(moment).astimezone(zone).isoformat()


def from_us(moment: int) -> datetime.datetime:
    """A moment as an aware datetime in UTC."""
    return _EPOCH + datetime.timedelta(microseconds=moment)


def polars_duration(text: str) -> str:
    """An ISO 8601 duration in the form that polars adds to dates ("P1Y6M" is "1y6mo").

    Raises:
        ValueError: it is none.
    """
    found = DURATION.fullmatch(text)
    if found is None:
        raise ValueError("no ISO 8601 duration")
    units = ("y", "mo", "w", "d", "h", "m", "s")
    return "".join(
        f"{int(n)}{unit}" for n, unit in zip(found.groups(), units, strict=True) if n is not None
    )


def birthday(born: datetime.date, years: int) -> int:
    """µs at which a birthday begins in Istanbul; of 29 February in a common year, on 1 March."""
    try:
        day = born.replace(year=born.year + years)
    except ValueError:
        day = datetime.date(born.year + years, 3, 1)
    return to_us(datetime.datetime(day.year, day.month, day.day, tzinfo=ISTANBUL))
