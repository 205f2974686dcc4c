"""What a member, or a coordinator, is told to do where not enough is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

import rulekit as kit
from kesit_privacy.rules import Facts, Verdict, evaluate, load_pack, pack_names
from kesit_privacy.rules.answers import ASK_MEMBERS


def told(pack: str, facts: Facts) -> dict[str, str]:
    """What to do about each rule of which not enough is known."""
    findings = evaluate(load_pack(pack), facts, {"bank"}).findings
    return {
        found.rule.id: found.action.en
        for found in findings
        if found.verdict is Verdict.INCONCLUSIVE and found.action is not None
    }


EMPTY = replace(kit.good(), consents=None, requests=None, release=None, disposal_log_days=None)
"""A member that has imported nothing."""


@pytest.mark.parametrize("pack", pack_names())
def test_a_member_is_not_told_to_ask_the_members(pack: str) -> None:
    asked = {words.en for words in ASK_MEMBERS.values()}
    unknown = replace(EMPTY, rows_age_days=None, rows_kept_days=None)
    for facts in (unknown, replace(unknown, study=None), replace(kit.good(), release=None)):
        actions = told(pack, facts)
        assert actions
        assert not asked & set(actions.values())
    by_coordinator = told(pack, replace(unknown, policy=None))
    assert asked & set(by_coordinator.values())


def test_each_fact_names_what_makes_it_known() -> None:
    empty = told("kvkk", replace(EMPTY, rows_age_days=None))
    assert "rows_updated" in empty["KVKK-4-FRESH"]
    for rule in ("IYS-APPROVAL", "KVKK-11-g-SUPPRESSED", "KVKK-7-LOG", "KVKK-W-AUDIT"):
        assert "consent import" in empty[rule]
    without = replace(kit.good(), release=None, disposal_log_days=None)
    without = kit.changed("consents.iys_unapproved", None, without)
    without = kit.changed("consents.iys_late", None, without)
    without = kit.changed("requests.objections_open", 1, without)
    without = kit.changed("consents.withdrawn", 1, without)
    found = told("kvkk", without)
    assert "`release-audit`" in found["KVKK-3-ANONYMOUS"]
    assert "exports add" in found["KVKK-11-g-SUPPRESSED"]
    assert "recipients = []" in found["KVKK-W-MARKED"]
    assert "`differencing-audit`" in found["KVKK-W-AUDIT"]
    assert "dispose --yes" in found["KVKK-7-LOG"]
    assert "--channel" in found["IYS-APPROVAL"]
    assert "iys-transfer" in found["IYS-TRANSFER"]
    assert "pseudonymisation" in found["BANK-PSEUDONYMS"]


def test_an_audit_that_is_attested_answers_for_the_word_anonymous() -> None:
    unseen = kit.changed("release.says_anonymous", None)
    assert "KVKK-3-ANONYMOUS" not in told("kvkk", kit.changed("release.audit_passed", True, unseen))
    assert "KVKK-3-ANONYMOUS" in told("kvkk", kit.changed("release.audit_passed", None, unseen))
