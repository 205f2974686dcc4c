"""The message registry: statuses by command and by file, and what the rules are told of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consentkit import DAY, NOW, PURPOSE, load, row, settings
from kesit_client.consent import keeping
from kesit_client.consent.events import read_time, write_time
from kesit_client.consent.facts import consent_facts
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError
from kesit_client.rights import disposal, exports
from kesit_client.rights.facts import request_facts
from kesit_client.rights.permitted import permitted
from kesit_client.rights.requests import close_request, open_request
from kesit_privacy.rules import Facts, Verdict, evaluate, load_pack
from kit import mixed_study

STUDY = replace(mixed_study(), purpose=PURPOSE, legal_basis="explicit-consent")
BOTH = settings(purposes=("marketing",))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    with closing(ConsentStore.open(tmp_path)) as opened:
        load(opened, tmp_path, [row(name) for name in ("ayşe", "b", "c")])
        yield opened


def say(store: ConsentStore, person: str, status: str, at: int = NOW, channel: str = "sms") -> None:
    keeping.record_iys(store, person, PURPOSE, channel=channel, status=status, checked_at=at)


def message_consent(person: str, at: str, **changes: Any) -> dict[str, Any]:
    """A consent to messages on a channel, collected outside of IYS."""
    return row(
        person,
        purpose="marketing",
        record_id=f"m-{person}",
        event_id=f"m-{person}",
        event_time=at,
        notice_shown_at="2026-01-01T00:00:00+03:00",
        iys_channel="SMS",
        **changes,
    )


def facts(store: ConsentStore, now: int = NOW, of: ConsentSettings | None = None) -> Any:
    return consent_facts(store, STUDY, now, of)


def verdict(store: ConsentStore, rule: str, pack: str = "kvkk", **counts: Any) -> Verdict:
    known = Facts(study=STUDY, consents=facts(store, NOW, ConsentSettings()), **counts)
    findings = evaluate(load_pack(pack), known).findings
    return next(finding.verdict for finding in findings if finding.rule.id == rule)


# --- one person's status ------------------------------------------------------------------------


def test_a_status_is_recorded_by_command(store: ConsentStore) -> None:
    say(store, "ayşe", " onay ", channel=" SMS ")
    [event] = [e for e in keeping.history(store, "ayşe") if e.type.word == "iys_status"]
    assert (event.iys_channel, event.iys_status, event.iys_checked_at) == ("sms", "ONAY", NOW)
    assert keeping.states(store, "ayşe", [PURPOSE], NOW)[PURPOSE].eligible
    for person, channel, status, said in (
        ("nobody", "sms", "ONAY", "No record speaks of"),
        ("ayşe", "sms", "perhaps", "no status 'perhaps'"),
        ("ayşe", " ", "ONAY", "no name"),
    ):
        with pytest.raises(ConsentError, match=said) as error:
            keeping.record_iys(store, person, PURPOSE, channel=channel, status=status)
        assert error.value.remedy


def test_the_latest_status_of_a_channel_decides_who_gets_messages(store: ConsentStore) -> None:
    say(store, "ayşe", "ONAY", NOW - 2 * DAY)
    say(store, "b", "ONAY", NOW - 2 * DAY)
    say(store, "b", "RET", NOW - DAY)
    say(store, "c", "ONAY", NOW - DAY, "email")
    found = permitted(store, ["ayşe", "b", "c"], PURPOSE, channel="SMS", now=NOW)
    assert (found.ids, found.refused) == (["ayşe"], {"no IYS approval": 2})
    assert permitted(store, ["b"], PURPOSE, channel="sms", now=NOW - 2 * DAY).ids == ["b"]


# --- message lists ------------------------------------------------------------------------------


def test_persons_on_message_lists_without_approval_are_counted(store: ConsentStore) -> None:
    assert facts(store).iys_unapproved is None
    assert verdict(store, "IYS-APPROVAL") is Verdict.INCONCLUSIVE
    exports.record_export(store, "Call centre", "codes", ["ayşe", "b"], NOW - 3 * DAY)
    assert facts(store).iys_unapproved == 0  # no list for messages
    say(store, "ayşe", "ONAY", NOW - 2 * DAY)
    say(store, "b", "ONAY", NOW - 2 * DAY)
    say(store, "b", "RET", NOW)  # after the list: the list was right when it was made
    exports.record_export(store, "SMS", "offer", ["ayşe", "b"], NOW - DAY, channel="SMS")
    assert facts(store).iys_unapproved == 0
    assert verdict(store, "IYS-APPROVAL") is Verdict.PASS
    exports.record_export(store, "SMS", "offer", ["ayşe", "b", "c"], NOW, channel="sms")
    assert facts(store).iys_unapproved == 2
    assert verdict(store, "IYS-APPROVAL") is Verdict.FAIL


# --- passed on in time --------------------------------------------------------------------------


def test_consents_that_came_to_iys_too_late_are_counted(
    store: ConsentStore, tmp_path: Path
) -> None:
    assert facts(store).iys_late is None
    given = "2026-05-25T10:00:00+03:00"  # before the feast: three business days end on 2 June
    load(store, tmp_path, [message_consent(name, given) for name in ("ayşe", "b")], settings=BOTH)
    last = read_time("2026-06-02T23:59:59.999999+03:00")[0]
    assert facts(store, last).iys_late == 0
    assert facts(store, last + 1).iys_late == 2
    say(store, "ayşe", "ONAY", last)
    say(store, "b", "RET", last, "email")  # another channel
    assert facts(store, last + DAY).iys_late == 1
    say(store, "b", "ONAY", last + DAY)  # too late stays too late
    assert facts(store, last + 2 * DAY).iys_late == 1
    again = message_consent("b", write_time(last + 2 * DAY, 10_800)) | {
        "record_id": "m2",
        "event_id": "m2",
    }
    load(store, tmp_path, [again], settings=BOTH, now=last + 2 * DAY)
    assert facts(store, last + 2 * DAY).iys_late == 0  # a consent that came anew, still in time
    assert verdict(store, "IYS-TRANSFER") is Verdict.PASS


def test_a_clock_of_a_transfer_that_ran_out_counts(store: ConsentStore) -> None:
    made = open_request(store, "iys-transfer", now=NOW)
    wrong = open_request(store, "iys-transfer", now=NOW)
    close_request(store, wrong.id, "rejected", now=NOW + 30 * DAY)
    assert facts(store, made.due_at).iys_late == 0
    assert facts(store, made.due_at + 1).iys_late == 1
    close_request(store, made.id, now=made.due_at + 1)
    assert facts(store, made.due_at + 30 * DAY).iys_late == 1


# --- proof --------------------------------------------------------------------------------------


def test_proof_is_kept_as_long_as_the_settings_say(store: ConsentStore, tmp_path: Path) -> None:
    assert facts(store).iys_proof_days is None
    assert facts(store, NOW, settings(iys_proof_years=1)).iys_proof_days == 365
    assert verdict(store, "IYS-PROOF") is Verdict.NEEDS_COUNSEL  # three years, unconfirmed
    ended = row(
        "d", retention_period="P1M", validity_duration="P1D", iys_channel="sms", event_id="d"
    )
    load(store, tmp_path, [ended])
    assert disposal.ended(store, 1, NOW + 300 * DAY, iys_years=3) == []
    assert disposal.ended(store, 1, NOW + 300 * DAY, iys_years=1) == ["d"]
    assert disposal.dispose(store, 1, NOW + 300 * DAY, iys_years=1).persons == 1


# --- objections to marketing --------------------------------------------------------------------


def test_who_objects_to_marketing_and_is_still_counted(store: ConsentStore) -> None:
    def counted(*marketing: str, at: int = NOW + DAY) -> int | None:
        return request_facts(store, at, STUDY, marketing).marketing_objections_included

    assert request_facts(store, NOW, STUDY).marketing_objections_included is None
    made = open_request(store, "objection", "ayşe", purposes=["marketing"], now=NOW)
    open_request(store, "objection", "b", purposes=[PURPOSE], now=NOW)
    assert (counted("marketing"), counted("marketing", PURPOSE), counted()) == (1, 2, 0)
    assert counted("marketing", at=NOW - 1) == 0
    keeping.withdraw(store, "b", now=NOW)
    assert counted(PURPOSE) == 0  # the gate leaves them out
    close_request(store, made.id, note="Can looked at it", now=NOW + DAY)
    assert counted("marketing", at=NOW + 2 * DAY) == 0


def test_gdpr_looks_at_objections_to_marketing(store: ConsentStore) -> None:
    open_request(store, "objection", "ayşe", purposes=["marketing"], now=NOW)
    for marketing, wanted in (
        (None, Verdict.INCONCLUSIVE),
        ((), Verdict.NEEDS_COUNSEL),
        (("marketing",), Verdict.FAIL),
    ):
        requests = request_facts(store, NOW, STUDY, marketing)
        assert verdict(store, "GDPR-21", "gdpr", requests=requests) is wanted
