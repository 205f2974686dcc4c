"""Checks of one count, one measure or one flag, by its name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from kesit_privacy import business_days
from kesit_privacy.features import STRICT
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.named import COUNTS, FLAGS, LABELS, MEASURES, value_of
from kesit_privacy.rules.verdicts import Outcome, Words, counsel, failed, not_known, passed

Bound = Annotated[int, Field(ge=0, le=100_000)]


def _with_holidays(country: str) -> str:
    if country not in business_days.calendars():
        raise ValueError(f"no public holidays are known of {country!r}")
    return country


Calendar = Annotated[str, AfterValidator(_with_holidays)]
"""A country, two letters, whose public holidays are known."""


def _one_of(key: str, known: dict[str, Words]) -> None:
    if key not in known:
        raise ValueError(f"fact {key!r} is none of {', '.join(sorted(known))}")


@dataclass(frozen=True, config=STRICT)
class CountParams:
    """`fact`: a count by its name."""

    fact: str

    @model_validator(mode="after")
    def _known(self) -> CountParams:
        _one_of(self.fact, COUNTS)
        return self


@dataclass(frozen=True, config=STRICT)
class LimitParams:
    """`fact`: a measure by its name; `days`: the limit, which may be reached."""

    fact: str
    days: Bound

    @model_validator(mode="after")
    def _known(self) -> LimitParams:
        _one_of(self.fact, MEASURES)
        return self


@dataclass(frozen=True, config=STRICT)
class FlagParams:
    """`fact`: a flag by its name, which must be true."""

    fact: str

    @model_validator(mode="after")
    def _known(self) -> FlagParams:
        _one_of(self.fact, FLAGS)
        return self


@dataclass(frozen=True, config=STRICT)
class NoticeParams:
    """`share`: of records whose notice must have come first."""

    share: Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class AgeParams:
    """`days`: how many business days old the oldest check of a channel may be.

    `calendar`: the country whose public holidays are no business days.
    """

    days: Bound
    calendar: Calendar


def count_is_zero(facts: Facts, params: CountParams) -> Outcome:
    """Pass if the count is 0."""
    found, label = value_of(facts, params.fact), LABELS[params.fact]
    if found is None:
        return not_known(label)
    return _measured(label, found, good=found == 0)


def at_most(facts: Facts, params: LimitParams) -> Outcome:
    """Pass if the measure is at most `days`."""
    found, label = value_of(facts, params.fact), LABELS[params.fact]
    if found is None:
        return not_known(label)
    limit = Words(f"(at most {params.days})", f"(en çok {params.days})")
    return _measured(label + limit, found, good=found <= params.days)


def at_least(facts: Facts, params: LimitParams) -> Outcome:
    """Pass if the measure is at least `days`."""
    found, label = value_of(facts, params.fact), LABELS[params.fact]
    if found is None:
        return not_known(label)
    limit = Words(f"(at least {params.days})", f"(en az {params.days})")
    return _measured(label + limit, found, good=found >= params.days)


def _measured(label: Words, found: int, *, good: bool) -> Outcome:
    outcome = passed if good else failed
    return outcome(f"{upper_first(label.en)}: {found:,}.", f"{_upper_tr(label.tr)}: {dots(found)}.")


def is_true(facts: Facts, params: FlagParams) -> Outcome:
    """Pass if the flag is true."""
    found, label = value_of(facts, params.fact), LABELS[params.fact]
    if found is None:
        asked = Words(f"whether {label.en}", f"şunun doğru olup olmadığı: {label.tr}")
        return not_known(asked)
    if found:
        return passed(f"{upper_first(label.en)}: yes.", f"{_upper_tr(label.tr)}: evet.")
    return failed(f"{upper_first(label.en)}: no.", f"{_upper_tr(label.tr)}: hayır.")


def notice_first(facts: Facts, params: NoticeParams) -> Outcome:
    """Pass if the notice came before the consent in at least that share of records."""
    share = None if facts.consents is None else facts.consents.notice_first
    if share is None:
        return not_known(
            Words(
                "in how many records the notice came first",
                "aydınlatmanın kaç kayıtta önce yapıldığı",
            )
        )
    outcome = passed if share >= params.share else failed
    percent = int(share * 1000) / 10  # rounded down: 99.97 % is not all
    return outcome(
        f"The notice came first in {percent:g} % of the records.",
        f"Kayıtların %{percent:g}".replace(".", ",") + " kadarında aydınlatma önce yapılmış.",
    )


def iys_fresh(facts: Facts, params: AgeParams) -> Outcome:
    """Pass if no channel's oldest IYS check is older than `days` business days."""
    checked = None if facts.consents is None else facts.consents.iys_checked
    if not checked or facts.today is None:
        return not_known(Words("the age of the IYS checks", "İYS sorgularının tarihi"))
    ages = {
        channel: business_days.between(day, facts.today, params.calendar)
        for channel, day in sorted(checked.items())
    }
    late = {channel: age for channel, age in ages.items() if age.least > params.days}
    doubtful = {channel: age for channel, age in ages.items() if age.most > params.days}
    shown = _listed(late or doubtful or ages)
    outcome = failed if late else counsel if doubtful else passed
    return outcome(
        f"Oldest IYS check, in business days: {shown}.",
        f"En eski İYS sorgusu, iş günü olarak: {shown}.",
    )


def _listed(ages: dict[str, business_days.Count]) -> str:
    return ", ".join(
        f"{channel} {age.most}" if age.least == age.most else f"{channel} {age.least}-{age.most}"
        for channel, age in ages.items()
    )


def upper_first(text: str) -> str:
    """The text with a capital letter first."""
    return text[0].upper() + text[1:]


def _upper_tr(text: str) -> str:
    """The same for Turkish, whose capital i has a dot."""
    return ("İ" if text[0] == "i" else text[0].upper()) + text[1:]


def dots(number: int) -> str:
    """A whole number as Turkish writes it."""
    return f"{number:,}".replace(",", ".")
