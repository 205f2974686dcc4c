"""What a person's events amount to: the definition, one person at a time.

The store's fast filter (`standing`) must say the same for a million people; a property test holds
the two together. Only the set of events and the moment count, never the order of arrival:

- The latest refusal, withdrawal, expiry or erasure ends every ground that was recorded at that
  moment or before it. What is given later counts anew.
- An end counts as soon as it is recorded, even if it is dated after `now`: neither a clock that is
  behind nor one that was set back lets anybody in who left.
- Of the grounds of the wanted kind the latest one counts, and it must hold by itself: not past its
  validity, not bundled, its text not the notice's, no special category without a recorded ground
  (and where the study reads one, given for it), and a notice shown before it (before the sum, for
  grounds other than consent).
- A minor is never counted. An open objection to automated decisions excludes where the ground is
  not consent.

Times are compared in UTC alone, so that no clock change and no time zone brings a consent back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from kesit_client.consent.events import Event
from kesit_client.consent.terms import (
    CONSENT,
    END_ORDER,
    ENDS,
    FOREVER,
    REASON_OF_END,
    EventType,
    Reason,
)
from kesit_privacy.model_file import ScoringModel
from kesit_privacy.segment_file import SegmentModel
from kesit_privacy.study import Study


@dataclass(frozen=True)
class ConsentState:
    """How one person stands towards one purpose. `since` (µs): of the event that decides."""

    reason: Reason
    since: int | None = None

    @property
    def eligible(self) -> bool:
        """Whether the person counts in a sum."""
        return self.reason is Reason.GIVEN


def state(
    events: Iterable[Event],
    now: int,
    *,
    purpose: str,
    basis: str = CONSENT,
    special: bool = False,
) -> ConsentState:
    """The state at `now` (µs) of the one person whose events these are.

    Args:
        events: all of the person's events, of every purpose, in any order.
        basis: the ground that a study needs.
        special: whether it reads special categories (`reads_special`): then only what was given
            for them, with a recorded ground, counts.
    """
    past = [event for event in events if event.time <= now or event.type in ENDS]
    if _is_minor(past, now):
        return ConsentState(Reason.MINOR)
    own = [event for event in past if event.purpose == purpose or event.type is EventType.ERASED]
    ends = [event for event in own if event.type in ENDS]
    end = max(ends, key=lambda e: (e.time, END_ORDER.index(e.type)), default=None)
    grants = [event for event in own if event.grants and event.basis == basis]
    last = max((event.time for event in grants), default=None)
    if end is not None and (last is None or last <= end.time):
        return ConsentState(REASON_OF_END[end.type], end.time)
    if last is None:
        return ConsentState(Reason.UNKNOWN)
    latest = [event for event in grants if event.time == last]
    return ConsentState(_standing(latest, own, past, now, special), last)


def reads_special(source: Study | ScoringModel | SegmentModel) -> bool:
    """Whether a feature of the study or its result is a special category (art. 6)."""
    return any("special-category" in feature.tags for feature in source.features)


def _is_minor(events: Collection[Event], now: int) -> bool:
    """By the latest statements of age; of several at one moment the strictest counts."""
    stated = [event for event in events if event.adult_from is not None]
    last = max((event.time for event in stated), default=None)
    return any(e.time == last and e.adult_from is not None and e.adult_from > now for e in stated)


def _standing(
    latest: Collection[Event],
    own: Collection[Event],
    past: Collection[Event],
    now: int,
    special: bool,
) -> Reason:
    """What stands against the latest grants, all given at one moment; the first that applies."""
    if any(grant.valid_until <= now for grant in latest):
        return Reason.EXPIRED
    if any((special or grant.special) and not _covers_special(grant) for grant in latest):
        return Reason.SPECIAL_CATEGORY
    if any(_same_text(grant) for grant in latest):
        return Reason.NOTICE_IS_CONSENT
    if any(_bundled(grant, past) for grant in latest):
        return Reason.BUNDLED
    if not all(_was_informed(grant, own, now) for grant in latest):
        return Reason.NO_NOTICE
    if any(grant.basis != CONSENT for grant in latest) and _objects(own):
        return Reason.OBJECTED
    return Reason.GIVEN


def _covers_special(grant: Event) -> bool:
    return grant.special and grant.special_ground is not None


def _same_text(grant: Event) -> bool:
    return grant.notice_hash is not None and grant.notice_hash == grant.consent_text_hash


def _bundled(grant: Event, past: Collection[Event]) -> bool:
    """Whether the same action gave something for another purpose, too."""
    return grant.event_id is not None and any(
        other.grants and other.event_id == grant.event_id and other.purpose != grant.purpose
        for other in past
    )


def _was_informed(grant: Event, own: Collection[Event], now: int) -> bool:
    """Whether a notice was shown strictly before a consent, or by now for another ground."""
    latest = grant.time if grant.basis == CONSENT else now + 1
    shown = [grant.notice_shown_at] if grant.notice_shown_at is not None else []
    shown += [
        event.time
        for event in own
        if event.type is EventType.NOTICE_SHOWN
        and event.notice_hash is not None
        and event.notice_hash == grant.notice_hash
    ]
    return min(shown, default=FOREVER) < latest


def _objects(own: Collection[Event]) -> bool:
    opened = max((e.time for e in own if e.type is EventType.OBJECTED), default=None)
    closed = max((e.time for e in own if e.type is EventType.OBJECTION_CLOSED), default=None)
    return opened is not None and (closed is None or closed <= opened)
