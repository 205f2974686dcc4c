"""Consent state: no order of arrival matters, withdrawal wins, clocks resurrect nothing."""

from __future__ import annotations

import datetime
import random
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from consentkit import DAY, NOW, PURPOSE
from kesit_client.consent import columns, frames, standing
from kesit_client.consent.events import Event, read_time, to_us, write_time
from kesit_client.consent.state import ConsentState, state
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import FOREVER, EventType, Reason

HASHES = ("a" * 64, "b" * 64, "c" * 64)
TIMES = st.integers(0, 12).map(lambda step: NOW + (step - 8) * DAY)

EVENTS = st.builds(
    Event,
    record_id=st.uuids().map(str),
    principal=st.sampled_from(["ayşe", "İbrahim", "c3"]),
    purpose=st.sampled_from([PURPOSE, PURPOSE, "marketing"]),
    type=st.sampled_from([*EventType, EventType.GIVEN, EventType.GIVEN, EventType.RENEWED]),
    time=TIMES,
    offset=st.sampled_from([0, 10_800, 7_200, -18_000]),
    basis=st.sampled_from(["explicit-consent", "explicit-consent", "legitimate-interest"]),
    valid_until=st.one_of(st.just(FOREVER), TIMES),
    notice_hash=st.sampled_from([None, *HASHES]),
    consent_text_hash=st.sampled_from([None, *HASHES]),
    notice_shown_at=st.one_of(st.none(), TIMES.map(lambda t: t - DAY)),
    adult_from=st.sampled_from([None, None, None, 0, NOW + DAY, FOREVER]),
    special=st.booleans(),
    special_ground=st.sampled_from([None, "6(3)(a)"]),
)
MOMENTS = st.integers(-10, 8).map(lambda step: NOW + step * DAY)
BASES = st.sampled_from(["explicit-consent", "legitimate-interest"])


def through_the_store(
    events: list[Event], now: int, basis: str, special: bool
) -> dict[str, tuple[Reason, int | None]]:
    """What the fast filter says, after the events arrived in two files."""
    with tempfile.TemporaryDirectory() as folder:
        store = ConsentStore.open(Path(folder))
        with store.writing() as connection:
            half = len(events) // 2
            for part in (events[:half], events[half:]):
                store.append(connection, frames.frame_of(part), {"": "{}"})
            read = standing.read(connection, PURPOSE, basis, special=special)
            table = standing.decide(read, now, basis)
            names = {event.principal: event.principal for event in events}
            keys = pl.Series("key", store.pseudonyms(list(names)), dtype=pl.Binary)
            people = pl.DataFrame({"principal": list(names), "key": keys})
            numbers = people.join(store.numbers(connection, keys), on="key")
        store.close()
    found = numbers.join(table, left_on="no", right_on="person")
    return {
        name: (Reason(reason), since)
        for name, reason, since in found.select("principal", "reason", "since").rows()
    }


@settings(max_examples=150, deadline=None)
@given(
    st.lists(EVENTS, max_size=14), MOMENTS, BASES, st.booleans(), st.randoms(use_true_random=False)
)
def test_the_fast_filter_is_the_definition(
    events: list[Event], now: int, basis: str, special: bool, chance: random.Random
) -> None:
    shuffled = list(events)
    chance.shuffle(shuffled)
    fast = through_the_store(shuffled, now, basis, special)
    for person in {event.principal for event in events}:
        own = [event for event in events if event.principal == person]
        slow = state(own, now, purpose=PURPOSE, basis=basis, special=special)
        if slow == ConsentState(Reason.UNKNOWN):
            assert person not in fast or fast[person][0] is Reason.UNKNOWN
        else:
            assert fast[person] == (slow.reason, slow.since)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=14), MOMENTS, st.randoms(use_true_random=False))
def test_any_order_of_arrival_is_one_replay(
    events: list[Event], now: int, chance: random.Random
) -> None:
    before = state(events, now, purpose=PURPOSE)
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert state(shuffled, now, purpose=PURPOSE) == before
    assert state([*shuffled, *shuffled], now, purpose=PURPOSE) == before


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=14), TIMES, BASES, st.integers(0, 5))
def test_withdrawal_wins_from_its_time_on(
    events: list[Event], at: int, basis: str, days: int
) -> None:
    """Until something is given later, at whatever place in the pile the withdrawal lies."""
    withdrawn = Event("w", "p", PURPOSE, EventType.WITHDRAWN, at)
    now = at + days * DAY
    later = any(event.grants and at < event.time <= now for event in events)
    if not later:
        for pile in ([withdrawn, *events], [*events, withdrawn]):
            assert not state(pile, now, purpose=PURPOSE, basis=basis).eligible


@given(st.lists(EVENTS, max_size=10), MOMENTS, st.integers(-12, 14))
def test_the_offset_of_a_record_changes_nothing(events: list[Event], now: int, hours: int) -> None:
    moved = [Event(**{**vars(event), "offset": hours * 3600}) for event in events]
    assert state(moved, now, purpose=PURPOSE) == state(events, now, purpose=PURPOSE)
    for event in moved:
        assert read_time(write_time(event.time, event.offset))[0] == event.time


ZONES = st.sampled_from(["Europe/Istanbul", "Europe/Berlin", "America/New_York", "UTC"])


@given(
    st.datetimes(datetime.datetime(2010, 1, 1), datetime.datetime(2035, 1, 1)),
    ZONES,
    st.sampled_from(["P1Y", "P6M", "P30D", "PT1H", "P1Y2M3DT4H"]),
)
def test_no_change_of_clocks_brings_a_consent_back(
    local: datetime.datetime, zone: str, duration: str
) -> None:
    """Once it has ended a consent stays so, hour by hour over a change of clocks and beyond."""
    moment = local.replace(tzinfo=ZoneInfo(zone))
    text = moment.isoformat(timespec="microseconds")
    time, offset = columns.times(pl.Series([text]))
    assert (time[0], offset[0]) == (to_us(moment), int(moment.utcoffset().total_seconds()))  # type: ignore[union-attr]
    end = columns.ends(time, offset, pl.Series([duration]))[0]
    assert end > time[0]
    grant = Event("r", "p", PURPOSE, EventType.GIVEN, time[0], notice_shown_at=0, valid_until=end)
    hours = [end + step * 3_600_000_000 for step in range(-3, 4)]
    said = [state([grant], hour, purpose=PURPOSE).reason for hour in hours]
    assert said[3:] == [Reason.EXPIRED] * 4
    assert Reason.EXPIRED not in said[:3]


def test_two_purposes_of_one_action_are_both_void() -> None:
    grants = [
        Event("r", "p", purpose, EventType.GIVEN, NOW, event_id="sms", notice_shown_at=0)
        for purpose in (PURPOSE, "marketing")
    ]
    for purpose in (PURPOSE, "marketing"):
        assert state(grants, NOW, purpose=purpose).reason is Reason.BUNDLED
    assert state(grants[:1], NOW, purpose=PURPOSE).eligible


def test_another_ground_needs_a_notice_and_no_objection() -> None:
    ground = Event(
        "r", "p", PURPOSE, EventType.GIVEN, NOW, basis="legitimate-interest", notice_hash="a"
    )
    notice = Event("n", "p", PURPOSE, EventType.NOTICE_SHOWN, NOW + DAY, notice_hash="a")
    objection = Event("o", "p", PURPOSE, EventType.OBJECTED, NOW + 2 * DAY)
    closed = Event("c", "p", PURPOSE, EventType.OBJECTION_CLOSED, NOW + 3 * DAY)
    every = [ground, notice, objection, closed]

    def reason(day: int, basis: str = "legitimate-interest") -> Reason:
        return state(every, NOW + day * DAY, purpose=PURPOSE, basis=basis).reason

    assert [reason(day) for day in range(4)] == [
        Reason.NO_NOTICE,
        Reason.GIVEN,
        Reason.OBJECTED,
        Reason.GIVEN,
    ]
    assert reason(1, "explicit-consent") is Reason.UNKNOWN
