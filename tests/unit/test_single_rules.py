"""Single rules: business days, clocks, names that hint, attestations that do not count."""

from __future__ import annotations

import datetime

import pytest
from test_rules import COUNSEL, RULES, UNCONFIRMED, placed

import rulekit as kit
from kesit_privacy.rules import (
    Facts,
    Incident,
    Place,
    Verdict,
    evaluate,
    judge,
    load_pack,
)
from rulekit import changed, good, redone, without


def verdict_of(name: str, facts: Facts) -> Verdict:
    (rule,) = (rule for rule in RULES if rule.id == name)
    return judge(rule, facts).verdict


def notified(signed: tuple[int, int, int], day: tuple[int, int, int]) -> Verdict:
    """A standard contract that was signed and notified on these days."""
    dates = datetime.date(*signed), datetime.date(*day)
    facts = placed(Place("Berlin", "DE", "standard-contract", *dates))
    later = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    return verdict_of("KVKK-9-NOTIFY", changed("now", later, facts))


@pytest.mark.parametrize(
    ("signed", "last"),
    [
        ((2026, 6, 1), (2026, 6, 8)),  # Monday to Monday
        ((2026, 6, 6), (2026, 6, 12)),  # signed on a Saturday
        ((2026, 4, 20), (2026, 4, 28)),  # 23 April
        ((2026, 5, 25), (2026, 6, 4)),  # the feast of sacrifice, three of its days in the week
        ((2025, 10, 27), (2025, 11, 4)),  # 29 October; the half day before it is a business day
        ((2025, 12, 29), (2026, 1, 6)),  # New Year
    ],
)
def test_a_contract_has_five_business_days_of_turkey(
    signed: tuple[int, int, int], last: tuple[int, int, int]
) -> None:
    assert notified(signed, last) is Verdict.PASS
    day = datetime.date(*last) + datetime.timedelta(days=1)
    while day.weekday() > 4:
        day += datetime.timedelta(days=1)
    assert notified(signed, (day.year, day.month, day.day)) is Verdict.FAIL


def test_a_feast_that_nobody_announced_is_for_a_lawyer_to_count() -> None:
    """In 2035 the feast of sacrifice is estimated for Sunday 18 to Wednesday 21 February."""
    assert notified((2035, 2, 12), (2035, 2, 15)) is Verdict.PASS
    assert notified((2035, 2, 12), (2035, 2, 22)) is COUNSEL
    assert notified((2035, 2, 12), (2035, 3, 5)) is Verdict.FAIL


@pytest.mark.parametrize(
    ("checked", "today", "verdict"),
    [
        ((2026, 6, 10), (2026, 6, 15), Verdict.PASS),  # over a weekend
        ((2026, 6, 9), (2026, 6, 15), Verdict.FAIL),
        ((2026, 5, 25), (2026, 6, 2), Verdict.PASS),  # over a feast
        ((2026, 5, 25), (2026, 6, 3), Verdict.FAIL),
        ((2026, 7, 13), (2026, 7, 17), Verdict.PASS),  # 15 July
        ((2026, 7, 13), (2026, 7, 20), Verdict.FAIL),
    ],
)
def test_an_iys_status_is_as_old_as_its_business_days(
    checked: tuple[int, int, int], today: tuple[int, int, int], verdict: Verdict
) -> None:
    found = changed("consents.iys_checked", {"sms": datetime.date(*checked)})
    now = datetime.datetime(*today, 12, tzinfo=datetime.UTC)
    assert verdict_of("IYS-FRESH", changed("now", now, found)) is verdict


def test_three_years_may_have_no_leap_day() -> None:
    for path, rule in (
        ("disposal_log_days", "KVKK-7-LOG"),
        ("consents.iys_proof_days", "IYS-PROOF"),
    ):
        passes = COUNSEL if rule in UNCONFIRMED else Verdict.PASS
        assert verdict_of(rule, changed(path, 1095)) is passes
        assert verdict_of(rule, changed(path, 1094)) is Verdict.FAIL


def test_a_clock_that_ran_out_fails_without_any_attestation() -> None:
    kept_long = changed("rows_kept_days", 185, without("periodic-disposal"))
    assert verdict_of("KVKK-7-PERIODIC", kept_long) is Verdict.FAIL
    # The next disposal is due six months after the last one, to the day.
    for day, verdict in ((15, Verdict.PASS), (14, Verdict.FAIL)):
        done = redone("periodic-disposal", date=datetime.date(2025, 12, day))
        assert verdict_of("KVKK-7-PERIODIC", done) is verdict


def test_attestations_of_tomorrow_or_of_another_study_do_not_count() -> None:
    tomorrow = redone("security-measures", date=kit.days_ago(-1))
    assert verdict_of("KVKK-12-SECURITY", tomorrow) is Verdict.INCONCLUSIVE
    other = redone("impact-assessment", study="cd" * 32)
    assert verdict_of("AI-REC-IMPACT", other) is Verdict.INCONCLUSIVE
    ended = redone("impact-assessment", expires=kit.days_ago(1))
    assert verdict_of("AI-REC-IMPACT", ended) is Verdict.FAIL


def test_the_word_anonymous_in_the_study_needs_proof_too() -> None:
    named = good(kit.study(name="Anonim segmentler"))
    assert verdict_of("KVKK-3-ANONYMOUS", named) is Verdict.PASS
    assert verdict_of("KVKK-3-ANONYMOUS", changed("release", None, named)) is Verdict.FAIL


@pytest.mark.parametrize("name", ["Race", "IRK", "dini_mezhep", "Sağlık", "ENGELLİ", "kan_grubu"])
def test_names_that_hint_at_special_categories_are_found(name: str) -> None:
    hinting = kit.study(features=kit.features(["ordinary"], ["ordinary"], names=("x", name)))
    assert verdict_of("KVKK-6-NAMES", good(hinting)) is Verdict.NEEDS_COUNSEL


def test_protected_features_are_special_categories_too() -> None:
    fair = kit.study(
        {"special_ground": None},
        features=[
            *kit.features(["ordinary"], ["ordinary"]),
            {
                "kind": "categorical",
                "name": "z",
                "levels": ["a", "b"],
                "tags": ["special-category"],
            },
        ],
        protected=["z"],
    )
    assert verdict_of("KVKK-6-GROUND", good(fair)) is Verdict.FAIL


def test_a_report_begins_with_the_worst_and_leaves_profiles_out() -> None:
    pack = load_pack("kvkk")
    mixed = changed("consents.needless", 1, changed("consents.same_text", 2))
    report = evaluate(pack, changed("rows_age_days", None, mixed))
    assert report.blocked
    assert [f.rule.id for f in report.findings[:3]] == [
        "KVKK-PD-2026-347-TEXT",
        "KVKK-PD-2026-347-NEEDLESS",
        "KVKK-4-FRESH",
    ]
    assert report.left_out == ("BANK-PSEUDONYMS", "BANK-RULES")
    assert sum(map(report.count, Verdict)) == len(report.findings) == len(pack.rules) - 2
    assert evaluate(pack, mixed, {"bank"}).left_out == ()
    assert not evaluate(pack, changed("consents.needless", 1)).blocked


def test_a_notice_that_is_dated_ahead_was_not_given() -> None:
    """What is planned is not done: it waits, and fails when its time is over."""
    breach = Incident(name="laptop", known_at=kit.hours_ago(10), notified_at=kit.hours_ago(-5))
    assert verdict_of("KVKK-12-BREACH", Facts(now=kit.NOW, incidents=(breach,))) is (
        Verdict.INCONCLUSIVE
    )
    old = Incident(name="laptop", known_at=kit.hours_ago(80), notified_at=kit.hours_ago(-5))
    assert verdict_of("KVKK-12-BREACH", Facts(now=kit.NOW, incidents=(old,))) is Verdict.FAIL
    place = Place(
        name="Berlin",
        region="DE",
        basis="standard-contract",
        signed=kit.days_ago(1),
        notified=kit.days_ago(-2),
    )
    facts = Facts(now=kit.NOW, places=(place,))
    assert verdict_of("KVKK-9-NOTIFY", facts) is Verdict.INCONCLUSIVE
