"""The checks that a pack may name. A pack is data: it can choose from these and add none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kesit_privacy.rules.checks import attested, numbers, persons, places, studies
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.verdicts import Outcome


@dataclass(frozen=True)
class Check:
    """A pure function of facts and parameters, and the kind of its parameters."""

    look: Callable[[Facts, Any], Outcome]
    params: type


CATALOGUE: Final[dict[str, Check]] = {
    "anonymous-proved": Check(studies.anonymous_proved, studies.NoParams),
    "at-least": Check(numbers.at_least, numbers.LimitParams),
    "at-most": Check(numbers.at_most, numbers.LimitParams),
    "attested": Check(attested.attested, attested.AttestedParams),
    "breach-notified": Check(persons.breach_notified, persons.HoursParams),
    "count-is-zero": Check(numbers.count_is_zero, numbers.CountParams),
    "features-allowed": Check(studies.features_allowed, studies.NoParams),
    "ground-allowed": Check(studies.ground_allowed, studies.GroundParams),
    "is-true": Check(numbers.is_true, numbers.FlagParams),
    "iys-fresh": Check(numbers.iys_fresh, numbers.AgeParams),
    "names-hint": Check(studies.names_hint, studies.WordParams),
    "no-tags": Check(studies.no_tags, studies.TagParams),
    "notice-first": Check(numbers.notice_first, numbers.NoticeParams),
    "objections-suppressed": Check(persons.objections_suppressed, studies.NoParams),
    "persons-told": Check(persons.persons_told, persons.DaysParams),
    "places-agreed": Check(places.places_agreed, studies.NoParams),
    "purpose-allowed": Check(studies.purpose_allowed, studies.NoParams),
    "purpose-described": Check(studies.purpose_described, studies.NoParams),
    "recipients-grounded": Check(places.recipients_grounded, places.RecipientParams),
    "retention-stated": Check(studies.retention_stated, studies.RetentionParams),
    "special-ground": Check(studies.special_ground, studies.SpecialParams),
    "tags-need-ground": Check(studies.tags_need_ground, studies.TagGroundParams),
    "transfer-based": Check(places.transfer_based, places.TransferParams),
    "transfer-notified": Check(places.transfer_notified, places.NotifyParams),
}
