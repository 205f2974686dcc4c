"""Breaches: whose data were where, who was told, and what the rules make of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from consentkit import DAY, NOW, Attesting, load, row
from kesit_client.consent.events import SECOND, from_us
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ConsentError
from kesit_client.rights import access, exports, incidents
from kesit_client.rights.affected import Affected, Where, affected
from kesit_client.rights.requests import close_request, open_request
from kesit_privacy.rules import Facts, Incident, Verdict, evaluate, load_pack

HOUR = 3600 * SECOND


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConsentStore]:
    with closing(ConsentStore.open(tmp_path)) as opened:
        load(opened, tmp_path, [row("ayşe"), row("b"), row("c")])
        exports.record_export(opened, "Call centre", "segment codes", ["ayşe", "b"], NOW)
        exports.record_export(opened, "Printer", "addresses", ["b"], NOW + DAY)
        yield opened


def names(found: Affected) -> list[str]:
    return sorted(set(found.named()["pii_principal_id"]))


# --- whose data were where ----------------------------------------------------------------------


def test_the_persons_of_an_export_of_a_time_and_all(store: ConsentStore) -> None:
    assert names(affected(store, Where(exports=(1,)))) == ["ayşe", "b"]
    assert names(affected(store, Where(exports=(2,)))) == ["b"]
    both = affected(store, Where(since=NOW))
    assert both.places() == [("export 1", 2), ("export 2", 1)]
    assert names(affected(store, Where(since=NOW + 1))) == ["b"]
    assert names(affected(store, Where(until=NOW + DAY - 1))) == ["ayşe", "b"]
    assert affected(store, Where(until=NOW - 1)).people == []
    assert names(affected(store, Where(kept=True))) == ["ayşe", "b", "c"]
    load(store, Path(store.name).parent, [row("late")], now=NOW + DAY)
    assert names(affected(store, Where(kept=True, until=NOW))) == ["ayşe", "b", "c"]
    # Named things stand for themselves; the time is then that of the kept records alone.
    assert names(affected(store, Where(exports=(2,), kept=True, until=NOW - 1))) == ["b"]


def test_the_persons_who_were_counted_in_a_run(tmp_path: Path) -> None:
    setting = Attesting(tmp_path)
    run = setting.run()
    with closing(ConsentStore.open(tmp_path)) as store:
        found = affected(store, Where(runs=(run[:10],)))
        assert len(found.people) == 36
        assert "p0" in names(found)
        assert found.places() == [(f"run {run}", 36)]
        assert affected(store, Where(since=0)).people == found.people
        with pytest.raises(ConsentError, match="Nothing is kept of the run"):
            affected(store, Where(runs=("none",)))


def test_what_cannot_be_found(store: ConsentStore) -> None:
    for where, said in (
        (Where(), "Nothing says where"),
        (Where(exports=(1, 9)), "no export 9"),
        (Where(runs=("ab",)), "Nothing is kept of the run ab"),
    ):
        with pytest.raises(ConsentError, match=said) as error:
            affected(store, where)
        assert error.value.remedy


def test_who_was_erased_is_counted_and_not_named(store: ConsentStore) -> None:
    store.erase("b", NOW + 2 * DAY)
    found = affected(store, Where(exports=(1,)))
    assert (len(found.people), found.erased, names(found)) == (2, 1, ["ayşe"])


# --- the record ---------------------------------------------------------------------------------


def test_a_breach_is_closed_once_the_board_and_then_the_persons_were_told(
    store: ConsentStore,
) -> None:
    number = open_request(store, "breach", note="laptop", now=NOW).id
    with pytest.raises(ConsentError, match="the Board was not told"):
        close_request(store, number)
    assert incidents.told(store, number, "board", NOW + 10 * HOUR).board_at == NOW + 10 * HOUR
    with pytest.raises(ConsentError, match="the persons were not told"):
        close_request(store, number)
    found = incidents.concern(store, number, affected(store, Where(exports=(1,))).people, NOW)
    assert (found.persons, found.persons_wait) == (2, True)
    more = incidents.concern(store, number, affected(store, Where(kept=True)).people, NOW)
    assert more.persons == 3
    done = incidents.told(store, number, "persons", NOW + 3 * DAY)
    assert not done.persons_wait
    assert close_request(store, number, now=NOW + 90 * DAY).late(NOW + 99 * DAY) is False
    report = access.access_report(store, "ayşe", NOW)
    assert [item["what"] for item in report["incidents"]] == ["laptop"]
    assert "ihlaller" in access.as_text(report)


def test_a_breach_that_concerns_nobody_and_one_that_was_none(store: ConsentStore) -> None:
    number = open_request(store, "breach", now=NOW).id
    incidents.concern(store, number, [], NOW)
    incidents.told(store, number, "board", NOW)
    close_request(store, number)
    false = open_request(store, "breach", note="false alarm", now=NOW).id
    close_request(store, false, "rejected")
    assert [item.persons for item in incidents.incidents(store)] == [0, None]
    assert [item.persons for item in incidents.incident_facts(store, NOW)] == [0]
    assert incidents.incident_facts(store, NOW - 1) == ()


def test_what_cannot_be_noted(store: ConsentStore) -> None:
    number = open_request(store, "breach", now=NOW).id
    other = open_request(store, "access", "b", now=NOW).id
    for call, said in (
        (lambda: incidents.told(store, number, "press", NOW), "Nobody is called"),
        (lambda: incidents.told(store, number, "board", NOW - 1), "nobody was told before"),
        (lambda: incidents.told(store, other, "board", NOW), "no incident"),
        (lambda: incidents.concern(store, other, [1], NOW), "no incident"),
    ):
        with pytest.raises(ConsentError, match=said) as error:
            call()
        assert error.value.remedy
    incidents.told(store, number, "board", NOW)
    with pytest.raises(ConsentError, match="already"):
        incidents.told(store, number, "board", NOW + 1)


# --- the rules ----------------------------------------------------------------------------------


def verdict(rule: str, at: int, *found: Incident) -> Verdict:
    findings = evaluate(load_pack("kvkk"), Facts(now=from_us(at), incidents=found)).findings
    return next(finding.verdict for finding in findings if finding.rule.id == rule)


def test_the_rules_follow_the_register_to_the_hour(store: ConsentStore) -> None:
    number = open_request(store, "breach", note="laptop", now=NOW).id

    def now(rule: str, at: int) -> Verdict:
        return verdict(rule, at, *incidents.incident_facts(store, at))

    assert now("KVKK-12-BREACH", NOW + 72 * HOUR) is Verdict.INCONCLUSIVE
    assert now("KVKK-12-BREACH", NOW + 72 * HOUR + 1) is Verdict.FAIL
    assert now("KVKK-12-PERSONS", NOW + 10 * DAY) is Verdict.INCONCLUSIVE
    assert now("KVKK-12-PERSONS", NOW + 10 * DAY + 1) is Verdict.FAIL
    incidents.told(store, number, "board", NOW + 72 * HOUR)
    assert now("KVKK-12-BREACH", NOW + 99 * DAY) is Verdict.PASS
    incidents.told(store, number, "persons", NOW + 10 * DAY)
    assert now("KVKK-12-PERSONS", NOW + 99 * DAY) is Verdict.PASS


def test_a_breach_that_concerns_nobody_needs_no_word_to_persons() -> None:
    known = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
    nobody = Incident("x", known, known, persons=0)
    assert verdict("KVKK-12-PERSONS", NOW + 99 * DAY, nobody) is Verdict.PASS
    assert verdict("KVKK-12-PERSONS", NOW + 99 * DAY) is Verdict.PASS
