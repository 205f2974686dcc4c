"""Checks of clocks and of persons' objections."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from kesit_privacy.features import STRICT
from kesit_privacy.rules.checks.studies import NoParams
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.records import Incident
from kesit_privacy.rules.verdicts import Outcome, Words, failed, listed, not_known, passed, unknown


@dataclass(frozen=True, config=STRICT)
class HoursParams:
    """`hours`: from the time at which a breach became known to the authority's notice."""

    hours: Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True, config=STRICT)
class DaysParams:
    """`days`: from the time at which a breach became known until the persons must be told."""

    days: Annotated[int, Field(ge=1, le=365)]


def breach_notified(facts: Facts, params: HoursParams) -> Outcome:
    """The authority was told of each breach in time; one that is not told, and is late, fails."""
    if facts.incidents is None:
        return not_known(Words("whether there was a breach", "veri ihlali olup olmadığı"))
    if facts.now is None:
        return not_known(Words("the time", "şimdiki zaman"))
    limit = datetime.timedelta(hours=params.hours)
    now = facts.now
    told = [(each, _happened(each.notified_at, now)) for each in facts.incidents]
    late = [each.name for each, at in told if (at or now) - each.known_at > limit]
    if late:
        names = listed(late)
        return failed(
            f"Not notified within {params.hours} hours: {names}.",
            f"{params.hours} saat içinde bildirilmemiş: {names}.",
        )
    waiting = [each for each, at in told if at is None]
    if waiting:
        ends = min(incident.known_at for incident in waiting) + limit
        names = listed(incident.name for incident in waiting)
        return unknown(
            f"The clock runs until {ends:%Y-%m-%d %H:%M %Z}: {names}.",
            f"Süre {ends:%d.%m.%Y %H:%M %Z} tarihinde doluyor: {names}.",
        )
    return passed(
        f"{len(facts.incidents)} breaches, all notified in time.",
        f"Veri ihlali sayısı: {len(facts.incidents)}; hepsi süresinde bildirilmiş.",
    )


def _happened(moment: datetime.datetime | None, now: datetime.datetime) -> datetime.datetime | None:
    """The moment, or None if it has not come: what is planned is not done."""
    return moment if moment is not None and moment <= now else None


def persons_told(facts: Facts, params: DaysParams) -> Outcome:
    """The persons whom a breach concerns were told in time; whom nobody told in time fails."""
    if facts.incidents is None:
        return not_known(Words("whether there was a breach", "veri ihlali olup olmadığı"))
    if facts.now is None:
        return not_known(Words("the time", "şimdiki zaman"))
    limit = datetime.timedelta(days=params.days)
    now = facts.now
    concerning = [(i, _happened(i.told_at, now)) for i in facts.incidents if i.persons != 0]
    late = [each.name for each, at in concerning if (at or now) - each.known_at > limit]
    if late:
        names = listed(late)
        return failed(
            f"The persons were not told within {params.days} days: {names}.",
            f"İlgili kişilere {params.days} gün içinde bildirilmemiş: {names}.",
        )
    waiting = [f"{each.name} ({_how_many(each)})" for each, at in concerning if at is None]
    if waiting:
        names = listed(waiting)
        return unknown(
            f"Persons must still be told: {names}.",
            f"Henüz bildirilmeyen ilgili kişiler var: {names}.",
        )
    return passed(
        f"{len(facts.incidents)} breaches; {len(concerning)} concern persons, all told in time.",
        f"Veri ihlali sayısı: {len(facts.incidents)}; kişileri ilgilendiren: {len(concerning)},"
        " hepsi süresinde bildirilmiş.",
    )


def _how_many(incident: Incident) -> str:
    return "?" if incident.persons is None else str(incident.persons)


def objections_suppressed(facts: Facts, params: NoParams) -> Outcome:
    """At least as many codes are held back as there are open objections."""
    open_ones = None if facts.requests is None else facts.requests.objections_open
    if open_ones is None:
        return not_known(Words("how many objections are open", "açık itiraz sayısı"))
    if open_ones == 0:
        return passed("No objection is open.", "Açık itiraz yok.")
    held = None if facts.release is None else facts.release.codes_suppressed
    if held is None:
        return not_known(
            Words("how many segment codes are held back", "kaç segment kodunun verilmediği")
        )
    outcome = passed if held >= open_ones else failed
    return outcome(
        f"{open_ones} objections are open; {held} segment codes are held back.",
        f"Açık itiraz: {open_ones}; verilmeyen segment kodu: {held}.",
    )
