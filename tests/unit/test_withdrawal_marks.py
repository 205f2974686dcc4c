"""Earlier exports of who withdrew: marked with the withdrawal, until the recipient knows."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from consentkit import DAY, NOW, PURPOSE, Attesting, load, row, withdrawal
from kesit_client.consent import keeping
from kesit_client.consent.events import SECOND, read_time, write_time
from kesit_client.consent.facts import consent_facts
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError, ConsentStoreError
from kesit_client.rights import access, exports, marking
from kesit_client.rights.facts import release_facts, request_facts, withdrawn_before_release
from kesit_client.rights.models import MarkRow
from kesit_client.rights.permitted import permitted
from kesit_client.rights.requests import open_request
from kesit_client.rights.traces import traces
from kesit_privacy.rules import (
    Attestation,
    Facts,
    Verdict,
    attested_release,
    evaluate,
    load_pack,
)
from kit import mixed_study

STUDY = replace(mixed_study(), purpose=PURPOSE, legal_basis="explicit-consent")
GIVEN = read_time("2026-03-02T10:00:00+03:00")[0]


def at(moment: int) -> str:
    return write_time(moment, 10_800)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    with closing(ConsentStore.open(tmp_path)) as opened:
        load(opened, tmp_path, [row(name) for name in ("ayşe", "b", "c")], now=GIVEN)
        exports.record_export(opened, "Call centre", "segment codes", ["ayşe", "b"], NOW)
        yield opened


def marked(store: ConsentStore, export: int = 1) -> list[str | None]:
    return [mark.principal for mark in marking.marks(store, export)]


# --- when a mark is made ------------------------------------------------------------------------


def test_a_withdrawal_by_command_and_one_by_import_mark_earlier_exports(
    store: ConsentStore, tmp_path: Path
) -> None:
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    assert marked(store) == ["ayşe"]
    load(store, tmp_path, [withdrawal("b", at(NOW + 2 * DAY))], now=NOW + 3 * DAY)
    assert [(m.principal, m.withdrawn_at) for m in marking.marks(store, 1)] == [
        ("ayşe", NOW + DAY),
        ("b", NOW + 2 * DAY),
    ]
    again = load(store, tmp_path, [withdrawal("b", at(NOW + 2 * DAY))], now=NOW + 4 * DAY)
    assert (again.known, len(marked(store))) == (1, 2)


def test_a_list_that_is_older_than_a_withdrawal_is_marked_when_it_is_noted(
    store: ConsentStore,
) -> None:
    """Drawn up, then somebody withdraws, then it is noted: its recipient has the person."""
    drawn_up = permitted(store, ["ayşe", "b"], PURPOSE, now=NOW).ids
    assert drawn_up == ["ayşe", "b"]
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    made = exports.record_export(store, "SMS", "list", drawn_up, NOW + 2 * DAY, purpose=PURPOSE)
    assert (made.withdrew, made.untold) == (1, 1)
    assert marked(store, made.id) == ["ayşe"]
    other = exports.record_export(store, "X", "list", drawn_up, NOW + 2 * DAY, purpose="marketing")
    assert (other.withdrew, marked(store, other.id)) == (0, [])


def test_whoever_came_back_before_the_list_is_not_marked(
    store: ConsentStore, tmp_path: Path
) -> None:
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    again = row("ayşe", record_id="r2", event_id="again", event_time=at(NOW + 2 * DAY))
    load(store, tmp_path, [again], now=NOW + 2 * DAY)
    made = exports.record_export(store, "SMS", "list", ["ayşe"], NOW + 3 * DAY, purpose=PURPOSE)
    assert (made.withdrew, marked(store, made.id)) == (0, [])


def test_a_withdrawal_that_was_not_known_at_the_export_marks_it(
    store: ConsentStore, tmp_path: Path
) -> None:
    load(store, tmp_path, [withdrawal("b", at(NOW - DAY))], now=NOW + DAY)
    assert marked(store) == ["b"]


def test_a_withdrawal_before_another_consent_marks_nothing_later(
    store: ConsentStore, tmp_path: Path
) -> None:
    again = row("b", event_time=at(NOW - DAY), record_id="r2", event_id="e2")
    load(store, tmp_path, [again, withdrawal("b", at(NOW - 2 * DAY))], now=NOW + DAY)
    assert marked(store) == []
    keeping.withdraw(store, "c", now=NOW + DAY)
    exports.record_export(store, "Printer", "addresses", ["c"], NOW + 2 * DAY)
    keeping.withdraw(store, "ayşe", now=NOW + 3 * DAY)
    assert (marked(store), marked(store, 2)) == (["ayşe"], [])  # c's was known at the export


def test_an_export_for_one_purpose_is_marked_by_its_withdrawals_alone(store: ConsentStore) -> None:
    exports.record_export(store, "SMS", "messages", ["ayşe"], NOW, purpose="marketing")
    exports.record_export(store, "Analysis", "codes", ["ayşe"], NOW, purpose=PURPOSE)
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    assert [marked(store, number) for number in (1, 2, 3)] == [["ayşe"], [], ["ayşe"]]


def test_what_cannot_be_recorded_marks_nothing(
    store: ConsentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark and the withdrawal are one transaction."""

    def full(*given: object) -> int:
        raise sa.exc.OperationalError("", {}, Exception("database or disk is full"))

    monkeypatch.setattr(keeping, "mark", full)
    with pytest.raises(ConsentStoreError, match="full"):
        keeping.withdraw(store, "ayşe", now=NOW + DAY)
    assert [event.type.word for event in keeping.history(store, "ayşe")] == ["given"]
    assert marked(store) == []


# --- until the recipient knows ------------------------------------------------------------------


def test_a_recipient_acknowledges_all_withdrawals_of_an_export(store: ConsentStore) -> None:
    for name in ("ayşe", "b"):
        keeping.withdraw(store, name, now=NOW + DAY)
    [export] = exports.list_exports(store)
    assert (export.withdrew, export.untold) == (2, 2)
    assert marking.waiting(store) == [(1, "Call centre", 2)]
    assert request_facts(store, NOW + DAY).withdrawals_not_passed == 2
    assert marking.acknowledge(store, 1, NOW + 2 * DAY) == 2
    assert marking.waiting(store) == []
    [export] = exports.list_exports(store)
    assert (export.withdrew, export.untold) == (2, 0)
    for number, said in ((1, "waits for an acknowledgement"), (9, "no export 9")):
        with pytest.raises(ConsentError, match=said):
            marking.acknowledge(store, number)
    with pytest.raises(ConsentError, match="no export 9"):
        marking.marks(store, 9)


def test_an_erased_person_s_mark_names_nobody(store: ConsentStore) -> None:
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    store.erase("ayşe", NOW + 2 * DAY)
    assert marked(store) == [None]


def test_a_person_sees_where_its_data_went_and_what_came_after(store: ConsentStore) -> None:
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    report = access.access_report(store, "ayşe", NOW + DAY)
    [export] = report["exports"]
    assert export["withdrawn_at"].startswith("2026-06-02")
    assert export["acknowledged_at"] is None
    marking.acknowledge(store, 1, NOW + 2 * DAY)
    report = access.access_report(store, "ayşe", NOW + DAY)
    assert "the recipient confirmed it at 2026-06-03" in access.as_text(report, "en")
    assert "rızanızı geri aldınız: 2026-06-02" in access.as_text(report)
    assert traces(store, "nobody") == []


def test_runs_before_a_withdrawal_say_so(tmp_path: Path) -> None:
    setting = Attesting(tmp_path)
    run = setting.run()
    with closing(ConsentStore.open(tmp_path)) as store:
        [trace] = traces(store, "p3")
        assert (trace.kind, trace.name, trace.withdrawn_at) == ("run", run, None)
        keeping.withdraw(store, "p3", now=NOW + DAY)
        [trace] = traces(store, "p3")
        assert (trace.what, trace.withdrawn_at) == ("included", NOW + DAY)


# --- the rules ----------------------------------------------------------------------------------


def verdict(store: ConsentStore, rule: str, **options: bool) -> Verdict:
    later = NOW + 9 * DAY
    facts = Facts(
        study=STUDY,
        consents=consent_facts(store, STUDY, later),
        requests=request_facts(store, later),
        release=release_facts(store, later, **options),
    )
    findings = evaluate(load_pack("kvkk"), facts).findings
    return next(finding.verdict for finding in findings if finding.rule.id == rule)


def test_the_rules_look_at_marks_and_acknowledgements(store: ConsentStore) -> None:
    for rule in ("KVKK-W-MARKED", "KVKK-W-PASSED-ON"):
        assert verdict(store, rule) is Verdict.PASS  # nobody withdrew
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    assert verdict(store, "KVKK-W-MARKED") is Verdict.PASS
    assert verdict(store, "KVKK-W-PASSED-ON") is Verdict.FAIL
    marking.acknowledge(store, 1)
    assert verdict(store, "KVKK-W-PASSED-ON") is Verdict.PASS
    with store.writing() as connection:  # marks that got lost are missed by the other way
        connection.execute(sa.delete(MarkRow))
    assert verdict(store, "KVKK-W-MARKED") is Verdict.FAIL


def test_an_empty_register_proves_nothing(tmp_path: Path) -> None:
    with closing(ConsentStore.open(tmp_path)) as store:
        load(store, tmp_path, [row("a"), withdrawal("a")])
        assert verdict(store, "KVKK-W-MARKED") is Verdict.INCONCLUSIVE
        assert verdict(store, "KVKK-W-MARKED", nothing_given=True) is Verdict.PASS


def test_codes_that_were_given_out_despite_an_objection_are_seen(store: ConsentStore) -> None:
    open_request(store, "objection", "b", purposes=[PURPOSE], now=NOW + DAY)
    assert verdict(store, "KVKK-11-g-SUPPRESSED") is Verdict.PASS  # the export was before it
    exports.record_export(store, "Call centre", "segment codes", ["b"], NOW + 2 * DAY)
    assert verdict(store, "KVKK-11-g-SUPPRESSED") is Verdict.FAIL


def test_an_objection_that_another_system_recorded_holds_a_code_back_too(
    store: ConsentStore, tmp_path: Path
) -> None:
    objected = withdrawal("c", "2026-05-02T10:00:00+03:00", event_type="objected")
    load(store, tmp_path, [objected])
    assert verdict(store, "KVKK-11-g-SUPPRESSED") is Verdict.PASS
    exports.record_export(store, "Call centre", "segment codes", ["c"], NOW + DAY)
    assert verdict(store, "KVKK-11-g-SUPPRESSED") is Verdict.FAIL


def test_the_differencing_audit_must_follow_the_last_withdrawal_before_a_release(
    store: ConsentStore,
) -> None:
    assert withdrawn_before_release(store, NOW - DAY) is None
    assert withdrawn_before_release(store, NOW) == datetime.date.min
    keeping.withdraw(store, "ayşe", now=NOW + DAY)
    assert withdrawn_before_release(store, NOW + 2 * DAY) == datetime.date.min  # none after it
    exports.record_export(store, "Call centre", "anonim codes", ["b"], NOW + 3 * DAY)
    last = withdrawn_before_release(store, NOW + 4 * DAY)
    assert last == datetime.date(2026, 6, 2)
    seen = release_facts(store, NOW + 4 * DAY)
    assert seen is not None
    assert seen.says_anonymous

    def rerun(day: int, until: datetime.date | None = last) -> bool | None:
        word = Attestation(
            *("differencing-audit", "Ayşe", "auditor", datetime.date(2026, 6, day), "ab" * 32),
            study=STUDY.hash,
        )
        found = attested_release(seen, [word], STUDY, datetime.date(2026, 6, 5), until)
        return None if found is None else found.differencing_rerun

    assert [rerun(day) for day in (1, 2, 5, 6)] == [False, None, True, None]
    assert rerun(2, None) is None


def test_flags_of_a_release_are_attested_for_this_study() -> None:
    today = datetime.date(2026, 6, 5)

    def said(**changes: Any) -> bool | None:
        word = Attestation(
            *("segment-explanations", "Ayşe", "analyst", today, "ab" * 32), study=STUDY.hash
        )
        found = attested_release(None, [replace(word, **changes)], STUDY, today)
        return None if found is None else found.explained

    assert said() is True
    assert said(expires=today - datetime.timedelta(days=1)) is False
    assert said(study="cd" * 32) is None
    assert said(date=today + datetime.timedelta(days=1)) is None
    assert attested_release(None, [], None, today) is None


# --- who may be exported ------------------------------------------------------------------------


def test_nothing_is_given_out_unless_the_store_says_so(
    store: ConsentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_request(store, "objection", "b", purposes=[PURPOSE], now=NOW)
    keeping.withdraw(store, "c", now=NOW)
    load(store, tmp_path, [row("d", minor="true")])
    with monkeypatch.context() as patch:
        patch.setattr("kesit_client.rights.permitted.now_us", lambda: NOW - DAY)  # set back
        with pytest.raises(ConsentStoreError, match="clock says"):
            permitted(store, ["ayşe"], PURPOSE)
    people = ["ayşe", "b", "c", "d", "nobody", "ayşe"]
    found = permitted(store, people, PURPOSE, now=NOW + SECOND)
    assert found.ids == ["ayşe"]
    assert found.refused == {"minor": 1, "objected": 1, "unknown": 1, "withdrawn": 1}
    assert permitted(store, ["ayşe"], "marketing", now=NOW).refused == {"unknown": 1}
    assert permitted(store, ["ayşe"], PURPOSE, basis="contract", now=NOW).ids == []
    assert permitted(store, ["ayşe"], PURPOSE, channel="sms", now=NOW).refused == {
        "no IYS approval": 1
    }
