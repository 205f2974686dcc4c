"""Duties that software cannot see: a person stands for them, with a document."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Annotated, Final

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from kesit_privacy.features import STRICT
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.named import LABELS, MEASURES, kind_tr, value_of
from kesit_privacy.rules.records import Attestation, Kind
from kesit_privacy.rules.verdicts import Outcome, Words, failed, not_known, passed, unknown


@dataclass(frozen=True, config=STRICT)
class AttestedParams:
    """Any of `kinds` will do.

    Attributes:
        months: how long it holds, if not for ever; its own `expires` may be sooner.
        for_study: whether it must name the study's hash.
        clock, clock_days: a measure after so many days of which a missing attestation fails.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    months: Annotated[int, Field(ge=1, le=120)] | None = None
    for_study: bool = False
    clock: str | None = None
    clock_days: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _whole_clock(self) -> AttestedParams:
        if (self.clock is None) != (self.clock_days is None):
            raise ValueError("clock and clock_days go together")
        if self.clock is not None and self.clock not in MEASURES:
            raise ValueError(f"clock {self.clock!r} is none of {', '.join(sorted(MEASURES))}")
        return self


_FUTURE: Final = Words(
    "One that is dated in the future does not count yet.", "İleri tarihli beyan henüz sayılmaz."
)
_ELSEWHERE: Final = Words(
    "One for another study, or for none, does not count.",
    "Başka bir çalışma için olan ya da çalışma belirtmeyen beyan sayılmaz.",
)


def attested(facts: Facts, params: AttestedParams) -> Outcome:
    """Missing is inconclusive (or fails, if a clock has run out); expired fails."""
    if facts.today is None:
        return not_known(Words("today's date", "bugünün tarihi"))
    kinds = Words(", ".join(params.kinds), ", ".join(map(kind_tr, params.kinds)))
    of_kind = named = [a for a in facts.attestations or () if a.kind in params.kinds]
    if params.for_study:
        if facts.study is None:
            return not_known(Words("the study", "çalışma"))
        named = [a for a in named if a.study == facts.study.hash]
    begun = [a for a in named if a.date <= facts.today]
    if not begun:
        missing = _missing(facts, params, kinds)
        why = _FUTURE if named else _ELSEWHERE if of_kind else None
        return missing if why is None else replace(missing, evidence=missing.evidence + why)
    best = max(begun, key=lambda a: _end(a, params.months))
    end = _end(best, params.months)
    if end < facts.today:
        return failed(
            f"{best.kind}: expired on {end:%Y-%m-%d}.",
            f"{kind_tr(best.kind)}: süresi {end:%d.%m.%Y} tarihinde doldu.",
        )
    return passed(
        f"{best.kind}: {best.name}, {best.role}, {best.date:%Y-%m-%d},"
        f" SHA-256 {best.sha256[:16]}...",
        f"{kind_tr(best.kind)}: {best.name}, {best.role}, {best.date:%d.%m.%Y},"
        f" SHA-256 {best.sha256[:16]}...",
    )


def _missing(facts: Facts, params: AttestedParams, kinds: Words) -> Outcome:
    if params.clock is not None and params.clock_days is not None:
        passed_days = value_of(facts, params.clock)
        if passed_days is not None and passed_days > params.clock_days:
            label = LABELS[params.clock]
            return failed(
                f"No attestation ({kinds.en}), and the time is over: {label.en}: {passed_days}.",
                f"Beyan yok ({kinds.tr}) ve süre dolmuş: {label.tr}: {passed_days}.",
            )
    what = Words("for this study ", "bu çalışma için ") if params.for_study else Words(" ", " ")
    return unknown(
        f"No attestation {what.en.lstrip()}is kept: {kinds.en}.",
        f"Kayıtlı beyan {what.tr.lstrip()}yok: {kinds.tr}.",
    )


def _end(attestation: Attestation, months: int | None) -> datetime.date:
    """The last day on which it holds."""
    own = attestation.expires or datetime.date.max
    return own if months is None else min(own, later(attestation.date, months))


def later(day: datetime.date, months: int) -> datetime.date:
    """The same day so many months later, or the last day of a month that is too short."""
    years, month = divmod(day.month - 1 + months, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return datetime.date(day.year + years, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError(day)  # every month has 28 days
