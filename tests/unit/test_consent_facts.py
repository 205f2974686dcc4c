"""What the rules are told of consents and requests: counts by hand, and no person in them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from branchkit import Branches
from consentkit import DAY, NOTICE, NOW, PURPOSE, lasting, load, row, withdrawal
from kesit_client.consent.events import SECOND, to_us
from kesit_client.consent.facts import consent_facts
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import PolicyError
from kesit_client.owner import approvals
from kesit_client.owner.rule_facts import SETTLED, blocking, gather, settled
from kesit_client.rights import incidents, requests
from kesit_client.rights.facts import request_facts
from kesit_privacy.processing import Processing
from kesit_privacy.rules import Facts, Verdict, evaluate, load_pack
from kesit_privacy.study import Study
from kit import mixed_study

STUDY = replace(mixed_study(), purpose=PURPOSE, legal_basis="explicit-consent")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    with closing(ConsentStore.open(tmp_path)) as opened:
        yield opened


def facts_of(store: ConsentStore, study: Study = STUDY) -> dict[str, Any]:
    return asdict(consent_facts(store, study, NOW))


def test_records_in_order_have_nothing_against_them(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [lasting("ayşe", profiling_consent="true"), lasting("can")])
    found = facts_of(store)
    assert {
        name: found[name] for name in ("without_valid", "without_purpose", "without_proof")
    } == {
        "without_valid": 0,
        "without_purpose": 0,
        "without_proof": 0,
    }
    assert (found["withdrawn"], found["withdrawn_included"]) == (0, 0)
    assert (found["same_text"], found["notice_in_action"], found["purposes_in_action"]) == (0, 0, 0)
    assert (found["notice_first"], found["needless"]) == (1.0, 0)
    assert found["profiling_without"] == 1
    assert found["retention_set"] is True
    assert found["iys_checked"] == {}
    assert [found[name] for name in ("iys_unapproved", "iys_late", "iys_proof_days")] == [None] * 3


def test_withdrawals_are_counted_and_none_of_them_is_included(
    store: ConsentStore, tmp_path: Path
) -> None:
    again = row("can", record_id="r2", event_id="e2", event_time="2026-05-01T10:00:00+03:00")
    load(store, tmp_path, [row(name) for name in ("ayşe", "can", "ece")])
    load(store, tmp_path, [withdrawal("ayşe"), withdrawal("can"), again])
    found = facts_of(store)
    assert (found["withdrawn"], found["withdrawn_included"]) == (2, 0)
    assert found["without_valid"] == 0


def test_a_gate_that_let_withdrawn_persons_in_would_be_seen(
    store: ConsentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count goes by another way than the gate's decision."""
    from kesit_client.consent import standing
    from kesit_client.consent.terms import Reason

    load(store, tmp_path, [row("ayşe"), row("can"), withdrawal("can"), withdrawal("nobody")])
    honest = standing.decide

    def everybody(*given: Any) -> Any:
        return honest(*given).with_columns(reason=Reason.GIVEN.value)

    monkeypatch.setattr(standing, "decide", everybody)
    found = facts_of(store)
    assert found["withdrawn_included"] == 1  # can; nobody had nothing to withdraw
    assert found["without_valid"] == 1


def test_a_ground_that_needs_no_consent_makes_consents_needless(
    store: ConsentStore, tmp_path: Path
) -> None:
    load(store, tmp_path, [row("ayşe"), row("can", lawful_basis="contract")])
    found = facts_of(store, replace(STUDY, legal_basis="contract"))
    assert found["needless"] == 1
    assert found["without_valid"] == 0


def test_iys_checks_are_as_old_as_the_oldest_of_the_latest(
    store: ConsentStore, tmp_path: Path
) -> None:
    def checked(person: str, day: str, number: int) -> dict[str, Any]:
        return row(
            person,
            record_id=f"i{number}",
            event_id=f"i{number}",
            event_type="iys_status",
            event_time=f"{day}T10:00:00+03:00",
            iys_channel="sms",
            iys_status="ONAY",
            iys_checked_at=f"{day}T10:00:00+03:00",
        )

    load(
        store,
        tmp_path,
        [
            checked("ayşe", "2026-01-01", 1),
            checked("ayşe", "2026-05-25", 2),
            checked("can", "2026-05-20", 3),
        ],
    )
    assert facts_of(store)["iys_checked"] == {"sms": datetime.date(2026, 5, 20)}


def test_open_requests_are_as_old_as_they_are(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("ayşe")])
    assert request_facts(store, NOW).oldest_days == 0
    requests.open_request(store, "access", "ayşe", now=NOW - 12 * DAY)
    requests.open_request(store, "objection", "ayşe", purposes=(PURPOSE,), now=NOW - 3 * DAY)
    found = request_facts(store, NOW)
    assert (found.oldest_days, found.oldest_erasure_days, found.objections_open) == (12, 0, 1)


def test_the_packs_find_what_is_wrong_with_records(store: ConsentStore, tmp_path: Path) -> None:
    """From the file to the verdict: one action for two purposes."""
    load(store, tmp_path, [row("ayşe")])
    moment = datetime.datetime.fromtimestamp(NOW // SECOND, datetime.UTC)

    def verdict(rule: str) -> Verdict:
        facts = Facts(now=moment, study=STUDY, consents=consent_facts(store, STUDY, NOW))
        findings = evaluate(load_pack("kvkk"), facts).findings
        return next(finding.verdict for finding in findings if finding.rule.id == rule)

    assert verdict("KVKK-PD-2025-1072") is Verdict.PASS
    assert verdict("KVKK-PD-2026-347-TEXT") is Verdict.PASS
    assert NOTICE  # the notice is not the consent's own text


def test_only_settings_are_attested(tmp_path: Path) -> None:
    place = Branches(tmp_path)
    home = place.homes[0]
    (pack, version), verdicts = settled(home, place.study)
    rules = {rule.id: rule.subject for rule in load_pack(pack).rules}
    assert version == load_pack(pack).version
    assert verdicts
    assert {rules[one["rule"]] for one in verdicts} <= SETTLED
    assert all(set(one) == {"rule", "verdict"} for one in verdicts)
    # How many persons a breach concerns is counted from their records.
    assert "KVKK-12-PERSONS" not in {one["rule"] for one in verdicts}


def test_objections_of_other_systems_are_open_as_well(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("ayşe", automated_decision_objection="true"), row("can")])
    assert request_facts(store, NOW).objections_open == 1


def test_a_breach_of_the_register_blocks_and_is_attested(tmp_path: Path) -> None:
    """The file says that there was none; the register knows better."""
    place = Branches(tmp_path)
    home, study = place.homes[0], place.study
    (home / "attestations.toml").write_text("incidents = []\n")
    now = datetime.datetime(2026, 6, 15, tzinfo=datetime.UTC)

    def verdict() -> str:
        _, verdicts = settled(home, study, now)
        return next(one["verdict"] for one in verdicts if one["rule"] == "KVKK-12-BREACH")

    assert verdict() == "PASS"
    with closing(ConsentStore.open(home)) as store:
        requests.open_request(store, "breach", note="laptop", now=to_us(now) - 4 * DAY)
        assert verdict() == "FAIL"
        assert "KVKK-12-BREACH" in [found.rule.id for found in blocking(home, study, ["kvkk"], now)]
        incidents.told(store, 1, "board", to_us(now) - 3 * DAY)
        assert verdict() == "PASS"
        assert blocking(home, study, ["kvkk"], now) == ()


def test_consents_without_profiling_block_the_approval(tmp_path: Path) -> None:
    place = Branches(tmp_path)
    home, study = place.homes[0], place.study
    study = replace(study, processing=Processing(profiling=True))
    policy = home / "policy.toml"
    policy.write_text(f'consent = "required"\n{policy.read_text()}')
    approvals.require_rules(home, study)  # nothing was imported yet: nothing is known
    with closing(ConsentStore.open(home)) as store:
        load(store, tmp_path, [lasting("ayşe", profiling_consent="true"), lasting("can")])
    with pytest.raises(PolicyError, match=r"KVKK-PROFILE-CONSENT: .* profiling: 1"):
        approvals.require_rules(home, study)
    policy.write_text(policy.read_text().replace('"required"', '"not-kept"'))
    approvals.require_rules(home, study)


def test_a_folder_s_counts_reach_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a member keeps, in one set of facts."""
    monkeypatch.setattr("kesit_client.owner.rule_facts.own_request", lambda home: None)
    place = Branches(tmp_path)
    home, study = place.homes[0], place.study
    (home / "attestations.toml").write_text("recipients = []\nrows_updated = 2026-06-05\n")
    (home / "consent.toml").write_text('marketing_purposes = ["marketing"]\n')
    policy = home / "policy.toml"
    policy.write_text(f'consent = "required"\n{policy.read_text()}')
    now = datetime.datetime(2026, 6, 15, tzinfo=datetime.UTC)
    assert gather(home, study, now=now).consents is None  # before the first import
    with closing(ConsentStore.open(home)) as store:
        load(store, tmp_path, [row("ayşe"), row("can"), withdrawal("can")])
    found = gather(home, study, now=now)
    assert found.consents is not None
    assert found.requests is not None
    assert found.release is not None
    assert (found.rows_age_days, found.rows_kept_days) == (10, None)
    assert (found.consents.withdrawn, found.consents.iys_proof_days) == (1, 1095)
    assert found.requests.marketing_objections_included == 0
    assert found.requests.withdrawals_not_passed == 0
    assert found.release.withdrawals_marked is True  # nobody was given data: it is written down
    policy.write_text(policy.read_text().replace('"required"', '"not-kept"'))
    assert gather(home, study, now=now).consents is None
