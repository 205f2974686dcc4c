"""Checks of the study itself, and of the study beside the policy and the release."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from kesit_privacy.features import STRICT, Tag
from kesit_privacy.processing import SpecialGround
from kesit_privacy.rules.facts import Facts
from kesit_privacy.rules.named import ground_tr, tagged
from kesit_privacy.rules.verdicts import (
    Outcome,
    Words,
    counsel,
    failed,
    listed,
    not_known,
    passed,
    unknown,
)
from kesit_privacy.study import LegalBasis, Study

STUDY: Final = Words("the study", "çalışma")
POLICY: Final = Words("the member's policy", "üyenin politikası")
DESCRIPTION: Final = Words("the purpose in a sentence", "amacın cümleyle açıklaması")
_ANONYMOUS: Final = re.compile(r"anonym|anonim", re.IGNORECASE)


@dataclass(frozen=True, config=STRICT)
class NoParams:
    """No parameters."""


@dataclass(frozen=True, config=STRICT)
class GroundParams:
    """Grounds that are refused, and grounds that a lawyer must confirm; the others pass."""

    refused: tuple[LegalBasis, ...] = ()
    counsel: tuple[LegalBasis, ...] = ()


@dataclass(frozen=True, config=STRICT)
class TagGroundParams:
    """Features with one of `tags` need one of `grounds`."""

    tags: Annotated[tuple[Tag, ...], Field(min_length=1)]
    grounds: Annotated[tuple[LegalBasis, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class SpecialParams:
    """Grounds for special categories that pass, and those that a lawyer must confirm."""

    grounds: tuple[SpecialGround, ...]
    counsel: tuple[SpecialGround, ...] = ()


@dataclass(frozen=True, config=STRICT)
class TagParams:
    """Features with one of `tags` are for a lawyer."""

    tags: Annotated[tuple[Tag, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class WordParams:
    """Parts of names, in small letters, that hint at special categories."""

    words: Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, config=STRICT)
class RetentionParams:
    """`days`: beyond this a lawyer should look at the retention period."""

    days: Annotated[int, Field(ge=1)]


def ground_allowed(facts: Facts, params: GroundParams) -> Outcome:
    """The study's ground in law."""
    if facts.study is None:
        return not_known(STUDY)
    ground = facts.study.legal_basis
    evidence = (
        f"The study's ground is {ground}.",
        f"Çalışmanın işleme şartı: {ground_tr(ground)}.",
    )
    if ground in params.refused:
        return failed(*evidence)
    return counsel(*evidence) if ground in params.counsel else passed(*evidence)


def tags_need_ground(facts: Facts, params: TagGroundParams) -> Outcome:
    """Features with certain tags, and the ground that they need."""
    if facts.study is None:
        return not_known(STUDY)
    found, untagged = tagged(facts.study, params.tags)
    ground = facts.study.legal_basis
    if found and ground not in params.grounds:
        names = listed(found)
        return failed(
            f"The ground is {ground}, but these features need another: {names}.",
            f"İşleme şartı: {ground_tr(ground)}."
            f" Şu öznitelikler başka bir şart gerektiriyor: {names}.",
        )
    if untagged:
        return _untagged(untagged)
    return passed(
        f"{len(found)} features are so tagged; the ground is {ground}.",
        f"Böyle etiketlenmiş öznitelik sayısı: {len(found)}; işleme şartı: {ground_tr(ground)}.",
    )


def special_ground(facts: Facts, params: SpecialParams) -> Outcome:
    """Special categories are blocked unless the study names a ground for them."""
    if facts.study is None:
        return not_known(STUDY)
    found, untagged = tagged(facts.study, ("special-category",))
    names = listed(found)
    ground = None if facts.study.processing is None else facts.study.processing.special_ground
    if found and (ground is None or ground not in (*params.grounds, *params.counsel)):
        return failed(
            f"Special categories without a ground that is accepted: {names}.",
            f"Kabul edilen bir şart gösterilmeden özel nitelikli veri: {names}.",
        )
    if untagged:
        return _untagged(untagged)
    if not found:
        return passed(
            "No feature is a special category.", "Özel nitelikli veri içeren öznitelik yok."
        )
    outcome = counsel if ground in params.counsel else passed
    return outcome(
        f"Special categories on the ground {ground}: {names}.",
        f"Özel nitelikli veri: {names}; şartı: {ground_tr(ground)}.",
    )


def no_tags(facts: Facts, params: TagParams) -> Outcome:
    """Features with certain tags are for a lawyer."""
    if facts.study is None:
        return not_known(STUDY)
    found, untagged = tagged(facts.study, params.tags)
    if found:
        names = listed(found)
        return counsel(f"So tagged: {names}.", f"Böyle etiketlenmiş: {names}.")
    if untagged:
        return _untagged(untagged)
    return passed("No feature is so tagged.", "Böyle etiketlenmiş öznitelik yok.")


def _untagged(names: list[str]) -> Outcome:
    few = listed(names)
    return unknown(
        f"Nobody said what these features are to the law: {few}.",
        f"Şu özniteliklerin hukuki niteliği belirtilmemiş: {few}.",
    )


def names_hint(facts: Facts, params: WordParams) -> Outcome:
    """A lawyer looks at features whose names hint at a special category, but are not tagged so."""
    if facts.study is None:
        return not_known(STUDY)
    hints = [
        feature.name
        for feature in facts.study.features
        if "special-category" not in feature.tags
        and any(word in _small(feature.name) for word in params.words)
    ]
    if hints:
        names = listed(hints)
        return counsel(
            f"These names hint at special categories: {names}.",
            f"Şu adlar özel nitelikli veriyi çağrıştırıyor: {names}.",
        )
    if any(not feature.tags for feature in facts.study.features):
        return _untagged([f.name for f in facts.study.features if not f.tags])
    return passed(
        "No feature's name hints at a special category.",
        "Hiçbir özniteliğin adı özel nitelikli veriyi çağrıştırmıyor.",
    )


def _small(text: str) -> str:
    """Small letters, with I and İ as i: names mix both alphabets."""
    return text.replace("İ", "i").replace("I", "i").replace("ı", "i").lower()


def purpose_described(facts: Facts, params: NoParams) -> Outcome:
    """The study says its purpose in a sentence; whether it is specific, a person judges."""
    if facts.study is None:
        return not_known(STUDY)
    said = None if facts.study.processing is None else facts.study.processing.description
    if said is None:
        return not_known(DESCRIPTION)
    if len(said.split()) < 3:
        return failed(f"That is no sentence: {said}", f"Bu bir cümle değil: {said}")
    return passed(f"It says: {said}", f"Açıklama: {said}")


def purpose_allowed(facts: Facts, params: NoParams) -> Outcome:
    """The study's purpose is one that the policy allows."""
    if facts.study is None:
        return not_known(STUDY)
    if facts.policy is None or facts.policy.purposes is None:
        return not_known(POLICY)
    purpose = facts.study.purpose
    if purpose in facts.policy.purposes:
        return passed(
            f"The policy allows the purpose {purpose}.",
            f"Politika şu amaca izin veriyor: {purpose}.",
        )
    return failed(
        f"The policy does not allow the purpose {purpose}.",
        f"Politika şu amaca izin vermiyor: {purpose}.",
    )


def features_allowed(facts: Facts, params: NoParams) -> Outcome:
    """Every feature of the study is one that the policy allows."""
    if facts.study is None:
        return not_known(STUDY)
    if facts.policy is None or facts.policy.features is None:
        return not_known(POLICY)
    beyond = [f.name for f in facts.study.features if f.name not in facts.policy.features]
    if beyond:
        names = listed(beyond)
        return failed(
            f"Features beyond the policy: {names}.",
            f"Politikanın dışında kalan öznitelik: {names}.",
        )
    return passed("The policy allows every feature.", "Politika her özniteliğe izin veriyor.")


def retention_stated(facts: Facts, params: RetentionParams) -> Outcome:
    """The study says how long data are kept; a very long period is for a lawyer."""
    processing = None if facts.study is None else facts.study.processing
    days = None if processing is None else processing.retention_days
    if days is None:
        return not_known(Words("how long the data are kept", "verilerin saklama süresi"))
    outcome = counsel if days > params.days else passed
    return outcome(f"Data are kept for {days} days.", f"Veriler {days} gün saklanıyor.")


def anonymous_proved(facts: Facts, params: NoParams) -> Outcome:
    """The word "anonymous", in the study or the release, only with an audit that proves it."""
    said = None if facts.release is None else facts.release.says_anonymous
    proof = None if facts.release is None else facts.release.audit_passed
    if facts.study is not None and _speaks_of_anonymity(facts.study):
        said = True
    if proof:
        return passed("An audit proves it.", "Denetimle kanıtlanmış.")
    if said is None:
        return not_known(
            Words('whether the release is called "anonymous"', 'çıktıya "anonim" denip denmediği')
        )
    if not said:
        if facts.study is None:
            return not_known(STUDY)
        if facts.study.processing is None or facts.study.processing.description is None:
            return not_known(DESCRIPTION)
        return passed(
            "The release is not called anonymous.", "Çıktı için anonim ifadesi kullanılmıyor."
        )
    return failed(
        'It is called "anonymous", and no audit proves it.',
        '"Anonim" deniyor; ancak bunu kanıtlayan bir denetim yok.',
    )


def _speaks_of_anonymity(study: Study) -> bool:
    described = study.processing.description if study.processing else None
    return any(_ANONYMOUS.search(text or "") for text in (study.name, study.purpose, described))
