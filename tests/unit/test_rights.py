"""Requests, clocks, exports and disposal."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from consentkit import DAY, NOW, PURPOSE, load, row, withdrawal
from kesit_client.consent import keeping
from kesit_client.consent.events import SECOND, read_time, show_time
from kesit_client.consent.exporting import all_events
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import BASES, EventType, Reason
from kesit_client.errors import ConsentError
from kesit_client.rights import access, clocks, disposal, exports
from kesit_client.rights.report_words import TURKISH
from kesit_client.rights.requests import (
    close_request,
    of_person,
    open_request,
    requests,
    suppressed,
)
from kesit_privacy import business_days


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    store = ConsentStore.open(tmp_path)
    load(store, tmp_path, [row("ayşe"), row("b"), row("c")])
    yield store
    store.close()


def at(text: str) -> int:
    return read_time(text)[0]


# --- clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "opened", "due"),
    [
        ("access", "2026-06-01T10:00:00+03:00", "2026-07-01 10:00:00"),
        ("erasure", "2026-01-31T23:30:00+03:00", "2026-03-02 23:30:00"),
        ("breach", "2026-05-29T18:00:00+03:00", "2026-06-01 18:00:00"),  # over a weekend
        ("transfer-notification", "2026-06-05T10:00:00+03:00", "2026-06-12 23:59:59"),
        ("iys-transfer", "2026-04-21T10:00:00+03:00", "2026-04-27 23:59:59"),  # 23 April, weekend
        ("iys-transfer", "2026-10-27T10:00:00+03:00", "2026-11-02 23:59:59"),  # 29 October
        ("iys-transfer", "2026-03-18T22:30:00Z", "2026-03-25 23:59:59"),  # the feast of Ramadan
    ],
)
def test_deadlines(kind: str, opened: str, due: str) -> None:
    assert show_time(clocks.due(kind, at(opened))).startswith(due)


@pytest.mark.parametrize(
    ("answered", "until"),
    [
        (None, "2026-07-31 10:00:00"),  # no answer: 60 days from the request
        ("2026-06-05T10:00:00+03:00", "2026-07-05 10:00:00"),  # 30 days from the answer
        ("2026-07-20T10:00:00+03:00", "2026-07-31 10:00:00"),  # 60 from the request at most
    ],
)
def test_a_complaint_to_the_board_has_two_clocks(answered: str | None, until: str) -> None:
    told = None if answered is None else at(answered)
    last = clocks.complaint_until(at("2026-06-01T10:00:00+03:00"), told)
    assert show_time(last).startswith(until)


def test_business_days_are_turkey_s() -> None:
    for day in ((2026, 1, 1), (2026, 4, 23), (2026, 5, 1), (2026, 7, 15), (2026, 10, 29)):
        assert not business_days.is_business_day(datetime.date(*day))
    assert not business_days.is_business_day(datetime.date(2026, 6, 6))
    assert business_days.is_business_day(datetime.date(2026, 6, 8))


# --- requests -----------------------------------------------------------------------------------


def test_an_objection_suppresses_until_a_person_has_looked(store: ConsentStore) -> None:
    made = open_request(store, "objection", "ayşe", purposes=[PURPOSE], now=NOW)
    assert (made.principal, made.due_at) == ("ayşe", NOW + 30 * DAY)
    assert suppressed(store, ["ayşe", "b", "x"]) == {"ayşe"}
    assert keeping.states(store, "ayşe", [PURPOSE], NOW)[PURPOSE].eligible  # consent stands
    for nobody in ("", "  "):
        with pytest.raises(ConsentError, match="a human being has looked at it"):
            close_request(store, made.id, "rejected", note=nobody, now=NOW + DAY)
    assert suppressed(store, ["ayşe"]) == {"ayşe"}
    closed = close_request(store, made.id, "rejected", note="Can: the code holds", now=NOW + DAY)
    assert closed.note == "Can: the code holds"
    assert suppressed(store, ["ayşe"]) == frozenset()
    again = open_request(store, "objection", "ayşe", purposes=[PURPOSE], now=NOW + 2 * DAY)
    assert suppressed(store, ["ayşe"]) == {"ayşe"}
    assert [item.id for item in of_person(store, "ayşe")] == [made.id, again.id]


def test_requests_are_listed_by_their_deadline(store: ConsentStore) -> None:
    first = open_request(store, "access", "b", now=NOW)
    urgent = open_request(store, "breach", note="laptop", now=NOW + DAY)
    assert [item.id for item in requests(store)] == [urgent.id, first.id]
    assert urgent.due_at == NOW + 4 * DAY
    assert not urgent.late(NOW + 2 * DAY)
    assert urgent.late(NOW + 5 * DAY)
    closed = close_request(store, urgent.id, "rejected", now=NOW + 5 * DAY)
    assert closed.late(NOW + 9 * DAY)
    assert [item.id for item in requests(store, only_open=True)] == [first.id]


def test_what_is_no_request(store: ConsentStore) -> None:
    for arguments, options in (
        (("apology",), {}),
        (("access",), {}),
        (("breach", "b"), {}),
        (("objection", "b"), {}),
    ):
        with pytest.raises(ConsentError) as error:
            open_request(store, *arguments, **options)
        assert error.value.remedy
    made = open_request(store, "access", "b", now=NOW)
    with pytest.raises(ConsentError, match="no outcome"):
        close_request(store, made.id, "perhaps")
    close_request(store, made.id)
    with pytest.raises(ConsentError, match="is closed"):
        close_request(store, made.id)
    with pytest.raises(ConsentError, match="no request 99"):
        close_request(store, 99)


def test_an_erasure_erases_and_every_recipient_must_follow(
    store: ConsentStore, tmp_path: Path
) -> None:
    exports.record_export(store, "Call centre", "segment codes", ["ayşe", "b"], NOW)
    exports.record_export(store, "Printer", "addresses", ["b"], NOW)
    made = open_request(store, "erasure", "ayşe", now=NOW)
    assert exports.notices(store) == []
    close_request(store, made.id, now=NOW + DAY)
    [notice] = exports.notices(store, only_open=True)
    assert (notice.recipient, notice.kind) == ("Call centre", "erasure")
    with pytest.raises(ConsentError, match="No record speaks of"):
        keeping.history(store, "ayşe")
    assert requests(store)[0].principal is None
    exports.acknowledge(store, notice.id, NOW + 2 * DAY)
    assert exports.notices(store, only_open=True) == []
    with pytest.raises(ConsentError, match="No notice"):
        exports.acknowledge(store, notice.id)
    assert [item.persons for item in exports.list_exports(store)] == [2, 1]
    new = row("ayşe", event_time="2026-06-10T00:00:00+03:00", event_id="anew", record_id="r9")
    load(store, tmp_path, [new], now=NOW + 20 * DAY)  # who comes back is a person like any other
    assert len(keeping.history(store, "ayşe")) == 1
    assert all_events(store)["principal"].to_list() == ["b", "c", "ayşe"]
    assert keeping.states(store, "ayşe", [PURPOSE], NOW + 20 * DAY)[PURPOSE].eligible


def test_a_rectification_reaches_the_recipients_and_a_rejection_does_not(
    store: ConsentStore,
) -> None:
    exports.record_export(store, "Printer", "addresses", ["b"], NOW)
    first = open_request(store, "rectification", "b", now=NOW)
    close_request(store, first.id, "rejected")
    assert exports.notices(store) == []
    second = open_request(store, "rectification", "b", now=NOW)
    close_request(store, second.id)
    assert [notice.kind for notice in exports.notices(store)] == ["rectification"]
    with pytest.raises(ConsentError, match="needs a recipient"):
        exports.record_export(store, " ", "x", ["b"])


def test_ids_are_read_one_a_line(store: ConsentStore, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_bytes("\ufeffb\r\n\r\n 007 \r\n".encode())  # as Windows' editor saves it
    assert exports.read_ids(file) == ["b", "007"]
    made = exports.record_export(store, "Printer", "addresses", exports.read_ids(file), NOW)
    assert (made.persons, made.unknown) == (2, 1)
    close_request(store, open_request(store, "erasure", "b", now=NOW).id, now=NOW)
    assert [notice.recipient for notice in exports.notices(store)] == ["Printer"]
    for data, problem in (
        (b"id;name\n7;a\n", "line 1 is more than an id"),
        (b"7\n8,9\n", "line 2 is more than an id"),
        ("ayşe\n".encode("cp1254"), r"Windows-1254 \(Turkish\), first in line 1"),
    ):
        file.write_bytes(data)
        with pytest.raises(ConsentError, match=problem):
            exports.read_ids(file)
    file.write_bytes("47\u202811\n".encode())  # no end of a line: 47 and 11 are other persons
    with pytest.raises(ConsentError, match="cannot be seen"):
        exports.read_ids(file)
    with pytest.raises(ConsentError, match="No such file"):
        exports.read_ids(tmp_path / "none.txt")


def test_a_person_is_told_everything_in_two_languages(store: ConsentStore) -> None:
    exports.record_export(store, "Call centre", "segment codes", ["ayşe"], NOW)
    open_request(store, "access", "ayşe", now=NOW)
    keeping.withdraw(store, "ayşe", now=NOW)
    report = access.access_report(store, "ayşe", NOW + DAY)
    assert json.loads(access.as_json(report)) == report
    consent = {"purpose": PURPOSE, "lawful_basis": "explicit-consent", "state": "withdrawn"}
    assert report["states"] == [consent]
    assert [item["event_type"] for item in report["events"]] == ["given", "withdrawn"]
    assert report["events"][0]["fields"]["jurisdiction"] == "TR"
    turkish, english = access.as_text(report), access.as_text(report, "en")
    for words in ("Hakkınızda", "geri alındı", "Call centre", "son tarih"):
        assert words in turkish
    assert report["requests"][0]["complaint_until"].startswith("2026-07-31")
    assert requests(store)[0].complaint_until == NOW + 60 * DAY
    assert open_request(store, "breach", now=NOW).complaint_until is None
    for words in ("What is kept about", "withdrawn", "Call centre", "due", "complaint to the"):
        assert words in english
    assert "1: bilgi talebi, açık (son tarih: 2026-07-01" in turkish
    assert "verildi (işleme şartı: açık rıza; geçerlilik: 2028-03-02" in turkish
    report["runs"] = [
        {"run": run, "decision": decision, "withdrawn_at": None}
        for run, decision in (
            ("aa", "included"),
            ("bb", "excluded: withdrawn at 2026-11-24 21:16:03 +0300"),
            ("cc", "excluded: unknown"),
        )
    ]
    words = {*Reason, *EventType} - {EventType.ERASED}
    assert {item.word for item in words} - {"unknown"} <= set(TURKISH)
    assert {*clocks.OF_PERSONS, *BASES, "done", "rejected", "open"} <= set(TURKISH)
    lines = access.as_text(report).splitlines()
    assert lines[lines.index("- aa: sayıldı") + 1 :][:2] == [
        "- bb: dışarıda bırakıldı: geri alındı (2026-11-24 21:16:03 +0300)",
        "- cc: dışarıda bırakıldı: kayıt yok",
    ]


def test_who_asks_or_was_exported_is_answered_without_records(store: ConsentStore) -> None:
    with pytest.raises(ConsentError, match="No record speaks of"):
        access.access_report(store, "nobody", NOW)
    exports.record_export(store, "Printer", "addresses", ["nobody"], NOW)
    open_request(store, "access", "asker", now=NOW)
    told = access.as_text(access.access_report(store, "nobody", NOW), "en")
    assert "Printer: addresses" in told
    assert "Kayıtlar\n- yok" in access.as_text(access.access_report(store, "asker", NOW))


# --- disposal -----------------------------------------------------------------------------------


def test_disposal_waits_for_the_retention_and_leaves_a_note(
    store: ConsentStore, tmp_path: Path
) -> None:
    load(store, tmp_path, [withdrawal("b")])
    years = 365 * DAY
    assert disposal.ended(store, 3, NOW) == []
    assert disposal.ended(store, 3, NOW + 3 * years) == ["b"]  # withdrawn in April 2026
    assert disposal.ended(store, 3, NOW + 6 * years) == ["ayşe", "b", "c"]  # ended in March 2028
    asked = open_request(store, "access", "b", now=NOW)
    assert disposal.ended(store, 3, NOW + 3 * years) == []
    close_request(store, asked.id, now=NOW)
    assert disposal.overdue(store, NOW)
    done = disposal.dispose(store, 3, NOW + 3 * years)
    assert (done.persons, done.events) == (1, 2)
    assert not disposal.overdue(store, done.disposed_at + DAY)
    assert disposal.overdue(store, done.disposed_at + 200 * DAY)
    assert disposal.disposals(store) == [done]
    with pytest.raises(ConsentError, match="must be kept until"):
        disposal.delete_note(store, done.id, done.keep_until - SECOND)
    disposal.delete_note(store, done.id, done.keep_until)
    assert disposal.disposals(store) == []
    with pytest.raises(ConsentError, match="no disposal"):
        disposal.delete_note(store, done.id)


def test_a_record_s_own_retention_period_counts(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("d", retention_period="P1M"), withdrawal("d")])
    assert disposal.ended(store, 3, NOW) == []  # the withdrawal has no period of its own
    load(store, tmp_path, [row("e", retention_period="P1M", validity_duration="P1D")])
    assert disposal.ended(store, 3, NOW) == ["e"]


def test_standing_names_what_ends_soon(store: ConsentStore, tmp_path: Path) -> None:
    load(store, tmp_path, [row("soon", validity_duration="P100D")])
    load(store, tmp_path, [row("b", lawful_basis="contract", record_id="r2", event_id="s")])
    [found] = keeping.stand(store, [PURPOSE], now=NOW)
    assert (found.eligible, found.soon, found.needless) == (4, 1, 1)
    assert found.counts == {Reason.GIVEN: 4}
    with pytest.raises(ConsentError, match="gave nothing"):
        keeping.withdraw(store, "b", ["marketing"])


# --- ways around --------------------------------------------------------------------------------


def closing(person: str, at_: str) -> dict[str, object]:
    return withdrawal(person, at_, event_type="objection_closed", record_id="crm-1")


def test_no_record_of_another_system_ends_an_objection_that_is_open_here(
    store: ConsentStore, tmp_path: Path
) -> None:
    ahead = closing("ayşe", "2026-06-01T00:04:00+03:00")  # before the objection, clock ahead
    assert load(store, tmp_path, [ahead]).new == 1
    made = open_request(store, "objection", "ayşe", purposes=[PURPOSE], now=NOW)
    assert suppressed(store, ["ayşe"]) == {"ayşe"}
    later = closing("ayşe", "2026-06-02T00:00:00+03:00")
    found = load(store, tmp_path, [later], now=NOW + 2 * DAY)
    assert "use `rights close`" in found.refused["reason"][0]
    close_request(store, made.id, note="Can: looked at it", now=NOW + 3 * DAY)
    assert suppressed(store, ["ayşe"]) == frozenset()


def test_one_of_two_objections_that_is_closed_opens_neither(
    store: ConsentStore, tmp_path: Path
) -> None:
    basis = row("d", lawful_basis="legitimate-interest")
    load(store, tmp_path, [basis])
    first = open_request(store, "objection", "d", purposes=["marketing"], now=NOW)
    second = open_request(store, "objection", "d", purposes=[PURPOSE], now=NOW)

    def counted(now: int) -> bool:
        [found] = keeping.stand(store, [PURPOSE], "legitimate-interest", now)
        return found.counts.get(Reason.GIVEN, 0) == 1

    close_request(store, first.id, note="Can: looked at it", now=NOW + DAY)
    assert not counted(NOW + 2 * DAY)
    assert suppressed(store, ["d"]) == {"d"}
    close_request(store, second.id, note="Can: looked at it", now=NOW + 3 * DAY)
    assert counted(NOW + 4 * DAY)
    assert suppressed(store, ["d"]) == frozenset()


def test_a_clock_runs_from_when_a_request_came_in(store: ConsentStore) -> None:
    made = open_request(store, "breach", received=NOW - 2 * DAY, now=NOW)
    assert made.due_at == NOW + DAY
    asked = open_request(store, "objection", "b", purposes=[PURPOSE], received=NOW - DAY, now=NOW)
    assert asked.due_at == NOW + 29 * DAY
    assert keeping.history(store, "b")[-1].time == NOW  # suppressed from the moment it is known
    with pytest.raises(ConsentError, match="not come yet"):
        open_request(store, "breach", received=NOW + SECOND, now=NOW)


def test_who_consents_while_a_disposal_begins_stays(
    store: ConsentStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is disposed of is looked up when no other writer can come between."""
    load(store, tmp_path, [withdrawal("b")])
    later, inner = NOW + 1200 * DAY, store.writing
    anew = row("b", event_time="2029-06-01T00:00:00+03:00", record_id="r9", event_id="anew")

    def after_an_import() -> object:
        monkeypatch.undo()
        load(store, tmp_path, [anew], now=later)
        return inner()

    monkeypatch.setattr(store, "writing", after_an_import)
    assert disposal.dispose(store, 3, later).persons == 0
    assert len(keeping.history(store, "b")) == 3


def test_who_only_asked_or_was_exported_is_forgotten_as_well(store: ConsentStore) -> None:
    asked = open_request(store, "access", "x", now=NOW)
    exports.record_export(store, "Printer", "addresses", ["y"], NOW)
    later = NOW + 1100 * DAY
    assert disposal.ended(store, 3, later) == ["y"]
    close_request(store, asked.id, now=NOW + DAY)
    assert disposal.ended(store, 3, later) == ["x", "y"]
    assert disposal.ended(store, 3, NOW + 1000 * DAY) == []
    disposal.dispose(store, 3, later)
    assert disposal.ended(store, 3, later) == []


def test_who_counts_on_another_ground_is_told_so(store: ConsentStore, tmp_path: Path) -> None:
    """Its state towards a consent, which nobody asked for, says nothing of it."""
    other = {"lawful_basis": "legitimate-interest", "validity_duration": None}
    load(store, tmp_path, [row("li", **other), row("both"), row("both", record_id="r2", **other)])
    stated = access.access_report(store, "li", NOW)["states"]
    assert stated == [{"purpose": PURPOSE, "lawful_basis": "legitimate-interest", "state": "given"}]
    text = access.as_text(access.access_report(store, "both", NOW), "tr")
    assert f"- {PURPOSE} (işleme şartı: açık rıza): verildi" in text
    assert f"- {PURPOSE} (işleme şartı: meşru menfaat): verildi" in text
    found = {each.basis: each.eligible for each in keeping.stand_on_each(store, [PURPOSE], NOW)}
    assert found["legitimate-interest"] == 2
    assert set(found) == {"explicit-consent", "legitimate-interest"}
