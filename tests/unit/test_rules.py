"""Every rule of every pack: a case that passes, one that does not, one that nobody can tell."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from functools import cache
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rulekit as kit
from kesit_privacy.rules import (
    Facts,
    Incident,
    Pack,
    Place,
    Recipient,
    Rule,
    Verdict,
    judge,
    load_pack,
    pack_names,
)
from kesit_privacy.rules.judging import look
from kesit_privacy.rules.named import BASES_TR, KINDS_TR
from kesit_privacy.rules.records import TransferBasis
from rulekit import changed, good, redone, without

GOOD = good()
OLD = datetime.date(2020, 1, 1)
KVKK_ROWS = (
    *("KVKK-3", "KVKK-4", "KVKK-5", "KVKK-6", "KVKK-7", "KVKK-8", "KVKK-9", "KVKK-10"),
    *("KVKK-PD-2026-347", "KVKK-PD-2025-1072", "KVKK-11-g", "KVKK-11-def", "KVKK-12", "KVKK-13"),
    *("KVKK-16", "KVKK-W", "IYS", "LOYALTY", "BANK", "AI-REC", "KVKK-PROFILE"),
)
UNCONFIRMED = {"KVKK-8", "IYS-PROOF", "KVKK-PROFILE-GROUND", "KVKK-PROFILE-CONSENT", "KVKK-MINOR"}


NEVER_FAIL = {
    "KVKK-4-RETENTION": "the law names no longest time",
    "KVKK-5-GROUND": "every ground that a study can state is one of article 5",
    "KVKK-6-NAMES": "a name is a hint and no finding",
    "KVKK-MINOR": "whose consent counts for a minor is a lawyer's question",
    "GDPR-5-RETENTION": "as KVKK-4-RETENTION",
    "GDPR-8": "as KVKK-MINOR",
}
"""Rules whose worst verdict is NEEDS COUNSEL, and why; every other one has a case that fails."""


@dataclass(frozen=True)
class Case:
    """What spoils a rule, and what hides it. `spoilt`: what it comes to then."""

    bad: Facts
    hidden: Facts
    fine: Facts = field(default=GOOD)
    spoilt: Verdict = Verdict.FAIL


def fact(path: str, bad: object) -> Case:
    """One fact decides."""
    return Case(changed(path, bad), changed(path, None))


def word(*kinds: str, fine: Facts = GOOD) -> Case:
    """An attestation decides: expired it fails, missing nobody knows."""
    expired = redone(*kinds, facts=fine, date=OLD)
    return Case(expired, without(*kinds, facts=fine), fine)


def of_study(
    bad: dict[str, object],
    hidden: dict[str, object],
    spoilt: Verdict = Verdict.FAIL,
    fine: Facts = GOOD,
) -> Case:
    """The study decides; keys are those of the tables, `processing` is added to what is said."""
    return Case(good(kit.study(**bad)), good(kit.study(**hidden)), fine, spoilt)  # type: ignore[arg-type]


def _tagged(tag: str) -> dict[str, object]:
    return {"features": kit.features(["ordinary"], [tag])}


UNTAGGED: dict[str, object] = {"features": kit.features([], ["ordinary"])}
INTEREST = good(kit.study(legal_basis="legitimate-interest"))
NO_STUDY = changed("study", None)
ABROAD = Place("Berlin", "DE", "standard-contract", datetime.date(2026, 6, 1))
COUNSEL = Verdict.NEEDS_COUNSEL


def placed(*places: Place) -> Facts:
    return changed("places", places)


KVKK = {
    "KVKK-3-CONSENT": fact("consents.without_purpose", 1),
    "KVKK-3-ANONYMOUS": Case(
        changed("release.says_anonymous", True, changed("release.audit_passed", None)),
        changed("release.says_anonymous", None, changed("release.audit_passed", None)),
    ),
    "KVKK-4-PURPOSE": fact("policy.purposes", ("marketing",)),
    "KVKK-4-DESCRIBED": of_study(
        {"processing": {"description": "Segments"}}, {"processing": {"description": None}}
    ),
    "KVKK-4-FEATURES": fact("policy.features", ("x",)),
    "KVKK-4-FRESH": fact("rows_age_days", 366),
    "KVKK-4-RETENTION": of_study(
        {"processing": {"retention_days": 3651}}, {"processing": {"retention_days": None}}, COUNSEL
    ),
    "KVKK-5-GROUND": Case(good(kit.study(legal_basis="made-public")), NO_STUDY, GOOD, COUNSEL),
    "KVKK-5-COVERED": fact("consents.without_valid", 1),
    "KVKK-5-BALANCE": word("balancing-test", fine=INTEREST),
    "KVKK-6-GROUND": of_study(
        {**_tagged("special-category"), "processing": {"special_ground": None}},
        UNTAGGED,
        fine=good(kit.study(features=kit.features(["ordinary"], ["special-category"]))),
    ),
    "KVKK-6-NAMES": of_study(
        {"features": kit.features(["ordinary"], ["ordinary"], names=("x", "Sağlık_durumu"))},
        UNTAGGED,
        COUNSEL,
    ),
    "KVKK-7-PERIODIC": word("periodic-disposal"),
    "KVKK-7-REQUEST": fact("requests.oldest_erasure_days", 31),
    "KVKK-7-PASSED-ON": fact("requests.erasures_not_passed", 1),
    "KVKK-7-LOG": fact("disposal_log_days", 1000),
    "KVKK-7-RECORDS": fact("consents.retention_set", False),
    "KVKK-8": Case(
        changed("recipients", (Recipient("Agency", "none"),)),
        changed("recipients", (Recipient("Agency"),)),
    ),
    "KVKK-9-BASIS": Case(
        placed(Place("Berlin", "DE", "explicit-consent")), placed(Place("Berlin", "DE"))
    ),
    "KVKK-9-NOTIFY": Case(
        placed(Place("Berlin", "DE", "standard-contract", OLD)),
        placed(Place("Berlin", "DE", "standard-contract", kit.TODAY)),
    ),
    "KVKK-9-UNMODIFIED": word("transfer-review"),
    "KVKK-9-REGIONS": Case(placed(Place("Paris", "FR")), placed(Place("Paris"))),
    "KVKK-10-FIRST": fact("consents.notice_first", 0.9999),
    "KVKK-10-TEXT": word("privacy-notice"),
    "KVKK-PD-2026-347-TEXT": fact("consents.same_text", 1),
    "KVKK-PD-2026-347-ACTION": fact("consents.notice_in_action", 1),
    "KVKK-PD-2026-347-NEEDLESS": fact("consents.needless", 1),
    "KVKK-PD-2026-347-PROOF": fact("consents.without_proof", 1),
    "KVKK-PD-2025-1072": fact("consents.purposes_in_action", 1),
    "KVKK-PROFILE-GROUND": Case(
        good(kit.study(legal_basis="contract")),
        good(kit.study(**UNTAGGED)),  # type: ignore[arg-type]
    ),
    "KVKK-PROFILE-CONSENT": fact("consents.profiling_without", 1),
    "KVKK-MINOR": of_study(_tagged("minor"), UNTAGGED, COUNSEL),
    "KVKK-11-g-SUPPRESSED": fact("release.codes_suppressed", 1),
    "KVKK-11-g-REVIEW": word("human-review"),
    "KVKK-11-g-EXPLAINED": fact("release.explained", False),
    "KVKK-11-def": fact("requests.corrections_not_passed", 1),
    "KVKK-12-SECURITY": word("security-measures"),
    "KVKK-12-BREACH": Case(
        changed("incidents", (Incident("leak", kit.hours_ago(73)),)),
        changed("incidents", (Incident("leak", kit.hours_ago(71)),)),
    ),
    "KVKK-12-PERSONS": Case(
        changed("incidents", (Incident("leak", kit.hours_ago(241), kit.hours_ago(200), 3),)),
        changed("incidents", (Incident("leak", kit.hours_ago(239), kit.hours_ago(200), 3),)),
    ),
    "KVKK-13": fact("requests.oldest_days", 31),
    "KVKK-16-REGISTERED": word("verbis-registration", "verbis-exemption"),
    "KVKK-16-SCOPE": word("verbis-scope", "verbis-exemption"),
    "KVKK-W-EXCLUDED": fact("consents.withdrawn_included", 1),
    "KVKK-W-MARKED": fact("release.withdrawals_marked", False),
    "KVKK-W-PASSED-ON": fact("requests.withdrawals_not_passed", 1),
    "KVKK-W-AUDIT": fact("release.differencing_rerun", False),
    "KVKK-W-EASY": word("withdrawal-channel"),
    "IYS-APPROVAL": fact("consents.iys_unapproved", 1),
    "IYS-FRESH": fact("consents.iys_checked", {"sms": kit.days_ago(3), "email": kit.days_ago(6)}),
    "IYS-TRANSFER": fact("consents.iys_late", 1),
    "IYS-PROOF": fact("consents.iys_proof_days", 365),
    "LOYALTY": Case(good(kit.study(legal_basis="contract")), NO_STUDY),
    "BANK-PSEUDONYMS": fact("release.pseudonymised", False),
    "BANK-RULES": word("bank-review"),
    "AI-REC-IMPACT": word("impact-assessment"),
    "AI-REC-STOP": word("stop-and-delete"),
}

GDPR = {
    "GDPR-5-PURPOSE": KVKK["KVKK-4-DESCRIBED"],
    "GDPR-5-RETENTION": KVKK["KVKK-4-RETENTION"],
    "GDPR-6": Case(good(kit.study(legal_basis="made-public")), NO_STUDY),
    "GDPR-7-WITHDRAWN": KVKK["KVKK-W-EXCLUDED"],
    "GDPR-7-SEPARATE": KVKK["KVKK-PD-2025-1072"],
    "GDPR-8": KVKK["KVKK-MINOR"],
    "GDPR-9": KVKK["KVKK-6-GROUND"],
    "GDPR-13": KVKK["KVKK-10-FIRST"],
    "GDPR-17": KVKK["KVKK-7-REQUEST"],
    "GDPR-21": fact("requests.marketing_objections_included", 1),
    "GDPR-22": KVKK["KVKK-11-g-REVIEW"],
    "GDPR-28": word("processing-agreement"),
    "GDPR-30": word("processing-record"),
    "GDPR-33": KVKK["KVKK-12-BREACH"],
    "GDPR-34": KVKK["KVKK-12-PERSONS"],
    "GDPR-35": KVKK["AI-REC-IMPACT"],
    "GDPR-44": Case(
        placed(Place("Ankara", "TR", "undertaking")),
        placed(Place("Ankara", "TR")),
        placed(Place("Ankara", "TR", "standard-contract"), Place("server", "DE")),
    ),
}
CASES = {**KVKK, **GDPR}


@cache
def packs() -> tuple[Pack, ...]:
    return tuple(load_pack(name) for name in pack_names())


RULES = [rule for pack in packs() for rule in pack.rules]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def test_every_rule_has_a_case_and_every_case_a_rule() -> None:
    assert {rule.id for rule in RULES} == set(CASES)
    assert len(RULES) == len(CASES)


def test_every_rule_has_a_case_that_fails_or_a_reason_why_it_cannot() -> None:
    assert {name for name, case in CASES.items() if case.spoilt is COUNSEL} == set(NEVER_FAIL)


@each_rule
def test_a_rule_passes_where_all_is_well(rule: Rule) -> None:
    outcome = look(rule, CASES[rule.id].fine)
    assert outcome.verdict is Verdict.PASS, outcome
    assert not outcome.evidence.en.startswith("Does not apply"), "the case tests nothing"
    verdict = judge(rule, CASES[rule.id].fine).verdict
    assert verdict is (COUNSEL if rule.needs_counsel else Verdict.PASS)


@each_rule
def test_a_rule_fails_or_asks_for_counsel(rule: Rule) -> None:
    case = CASES[rule.id]
    found = judge(rule, case.bad)
    assert found.verdict is case.spoilt, found.evidence
    assert found.action is not None
    assert found.blocks == (case.spoilt is Verdict.FAIL and rule.severity == "blocking")


@each_rule
def test_a_rule_is_inconclusive_where_not_enough_is_known(rule: Rule) -> None:
    found = judge(rule, CASES[rule.id].hidden)
    assert found.verdict is Verdict.INCONCLUSIVE, found.evidence
    assert found.action is not None


@each_rule
def test_nothing_known_is_inconclusive(rule: Rule) -> None:
    assert judge(rule, Facts()).verdict is Verdict.INCONCLUSIVE


@each_rule
def test_a_rule_speaks_both_languages_and_names_its_source(rule: Rule) -> None:
    (pack,) = (pack for pack in packs() if rule in pack.rules)
    source = pack.sources[rule.source]
    assert source.dated < datetime.date(2027, 1, 1)
    for words in (rule.article, rule.duty, rule.remedy, source.name):
        assert words.en.strip()
        assert words.tr.strip()
        assert words.en != words.tr
    for words in (rule.duty, rule.remedy):
        assert words.en.endswith(".")
        assert words.tr.endswith(".")
        assert re.search("[çğıöşüİ]", words.tr), words.tr
    case = CASES[rule.id]
    for facts in (case.fine, case.bad, case.hidden):
        evidence = judge(rule, facts).evidence
        assert evidence.en != evidence.tr


ENGLISH = re.compile(
    r"\b(the|of|and|is|are|not|for|with|within|by|this|that|it|from|must|were|was|every|each|known"
    r"|unknown|found|days|no|place|ground|basis|study|test|review|standard|contract|policy)\b",
    re.IGNORECASE,
)
NO_PROSE = re.compile(
    r"`[^`]*`|\"[^\"]*\"|\[\[?[a-z]+\]\]?|[a-z]+\.toml"  # commands, quotations, tables, files
    r"|\(([a-z]+(-[a-z]+)*)\)|\([A-Z?]{1,2}, [^()]*"  # words of files, regions
)
"""Commands, names of fields and words of files, which are the same in every language."""


@each_rule
def test_no_english_is_left_in_turkish(rule: Rule) -> None:
    (pack,) = (pack for pack in packs() if rule in pack.rules)
    said = [rule.article.tr, rule.duty.tr, rule.remedy.tr, pack.sources[rule.source].name.tr]
    case = CASES[rule.id]
    for facts in (case.fine, case.bad, case.hidden, Facts()):
        found = judge(rule, facts)
        said += [found.evidence.tr, found.answer.tr]
        said += [] if found.action is None else [found.action.tr]
    for text in said:
        own = text.replace(kit.PROCESSING["description"], "")  # the study's own words
        assert not ENGLISH.search(NO_PROSE.sub("", own)), text


def test_every_word_of_the_records_has_a_turkish_one() -> None:
    assert set(KINDS_TR) == set(kit.KINDS)
    assert set(BASES_TR) == set(get_args(TransferBasis))


def test_every_row_of_the_requirements_is_covered() -> None:
    ids = [rule.id for rule in load_pack("kvkk").rules]
    for row in KVKK_ROWS:
        assert any(name == row or name.startswith(f"{row}-") for name in ids), row


def test_what_nobody_confirmed_needs_counsel() -> None:
    assert {rule.id for rule in load_pack("kvkk").rules if rule.needs_counsel} == UNCONFIRMED
    assert all(rule.needs_counsel for rule in load_pack("gdpr").rules)


# --- Removing a fact ------------------------------------------------------------------------

POOL = [facts for case in CASES.values() for facts in (case.fine, case.bad, case.hidden)]


@each_rule
def test_removing_a_fact_never_makes_a_rule_pass(rule: Rule) -> None:
    case = CASES[rule.id]
    for facts in (case.fine, case.bad, case.hidden):
        before = look(rule, facts).verdict
        for fewer in kit.removals(facts):
            after = look(rule, fewer).verdict
            assert after is not Verdict.PASS or before is Verdict.PASS


@given(st.data())
def test_removing_many_facts_never_makes_any_rule_pass(data: st.DataObject) -> None:
    first, second = data.draw(st.sampled_from(POOL)), data.draw(st.sampled_from(POOL))
    mixed = {
        name: getattr(data.draw(st.sampled_from([first, second])), name)
        for name in Facts.__dataclass_fields__
    }
    facts = fewer = Facts(**mixed)
    for _ in range(data.draw(st.integers(1, 4))):
        smaller = list(kit.removals(fewer))
        if smaller:
            fewer = data.draw(st.sampled_from(smaller))
    for rule in RULES:
        if look(rule, fewer).verdict is Verdict.PASS:
            assert look(rule, facts).verdict is Verdict.PASS, rule.id
