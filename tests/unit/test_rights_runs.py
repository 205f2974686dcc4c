"""What a person is told of runs of which no leaf speaks: counted with everybody, or unknown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consentkit import NOW, Attesting, row
from kesit_client.consent.attesting import place_of
from kesit_client.consent.events import SECOND, show_time
from kesit_client.consent.gate import MOMENTS
from kesit_client.consent.settings import STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.witness import WITNESS
from kesit_client.home import BOOKS
from kesit_client.ledger.store import Store
from kesit_client.rights import access
from kesit_client.rows.cache import CachedRows
from kesit_client.rows.sources import FileSource
from kit import keep_books

EVERYBODY = "run(s) were made while no consents were kept: every customer of the source was counted"
TURKISH = "çalıştırma, rıza kaydı tutulmadığı sırada yapıldı: kaynaktaki bütün müşteriler sayıldı"
UNRECORDED = "1 run(s) of which it is not recorded whether your row was counted:\n  "


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Attesting]:
    """A member whose books lie in its folder, as a node's do."""
    member = Attesting(tmp_path)
    keep_books(member.node, tmp_path / BOOKS)
    yield member
    member.place.gate.close()
    member.node.store.close()


def run_without_consents(member: Attesting) -> str:
    """A run as the node makes it where the policy says "not-kept": no gate."""
    place, gated = member.place, member.nodes[0]

    def rows(study: object) -> CachedRows:
        source = FileSource(place.home / "customers.csv", "id")
        return CachedRows(source, place.study, place.home / "ungated")

    member.nodes[0] = member.node = replace(gated, rows=rows, _secrets={})
    run = member.run()
    member.nodes[0] = member.node = gated
    return run


def report(member: Attesting, person: str = "p0") -> dict[str, Any]:
    with closing(ConsentStore.open(member.place.home)) as store:
        found = access.access_report(store, person, NOW)
    assert json.loads(access.as_json(found)) == found
    return found


def runs_of(found: dict[str, Any]) -> str:
    """The part of the English text that speaks of runs."""
    text = access.as_text(found, "en")
    return text.split("counted or left out\n")[1].split("\n\n")[0]


def began(member: Attesting, run: str) -> str:
    with member.node.store.transaction() as books:
        return show_time(int(books.charges(run)[0].charged_at * SECOND))


@pytest.mark.parametrize("attested", [True, False])
def test_a_run_without_consents_counted_everybody(member: Attesting, attested: bool) -> None:
    """Whether the end of the run was attested or, for a reason of the disk, not."""
    assert runs_of(report(member)) == "- nothing"
    if not attested:
        member.node.attest = None
    run = run_without_consents(member)
    assert place_of(member.place.home, run).exists() == attested
    when, found = began(member, run), report(member)
    assert found["runs_that_counted_everybody"] == [{"run": run, "at": when}]
    assert found["runs"] == found["runs_not_recorded"] == []
    assert found["books_are_whole"]
    assert runs_of(found) == f"- 1 {EVERYBODY}:\n  {run} ({when})"
    assert f"- 1 {TURKISH}:\n  {run} ({when})\n" in access.as_text(found)


def test_a_run_with_consents_is_told_by_its_leaves_alone(member: Attesting) -> None:
    run = member.run()
    found = report(member)
    assert [(item["run"], item["decision"]) for item in found["runs"]] == [(run, "included")]
    assert runs_of(found) == f"- {run}: included"
    member.place.load(row("later"))  # not known then, and so not counted: that is certain
    assert runs_of(report(member, "later")) == "- nothing"


def test_a_run_that_is_not_attested_yet_is_not_recorded(member: Attesting) -> None:
    member.node.attest = None
    run = member.run()
    assert runs_of(report(member)) == f"- {UNRECORDED}{run} ({began(member, run)})"
    member.attest(run)
    assert runs_of(report(member)) == f"- {run}: included"


def test_who_was_erased_and_came_again_is_not_told_that_it_was_left_out(
    member: Attesting,
) -> None:
    run = member.run()
    with closing(ConsentStore.open(member.place.home)) as store:
        store.erase("p0", int(member.place.now + 1) * SECOND)
    member.place.now += 60
    again = {"event_id": "again", "event_time": "2026-06-01T00:00:30+03:00"}
    member.place.load(row("p0", notice_shown_at="2026-06-01T00:00:20+03:00", **again))
    assert runs_of(report(member)) == f"- {UNRECORDED}{run} ({began(member, run)})"


def test_a_tree_that_is_gone_is_not_taken_for_a_run_without_consents(member: Attesting) -> None:
    run = member.run()
    member.place.gate.close()
    home = member.place.home
    for name in (STORE, WITNESS):
        (home / name).unlink()
    shutil.rmtree(home / MOMENTS)
    member.place.load(row("p0"))
    told = f"- {UNRECORDED}{run} ({began(member, run)})"
    assert runs_of(report(member)) == told
    place_of(home, run).write_bytes(b"{}")  # a statement that cannot be read states nothing
    assert runs_of(report(member)) == told


def test_what_a_coordinator_s_log_alone_knows_is_not_recorded(member: Attesting) -> None:
    run = run_without_consents(member)
    place_of(member.place.home, run).unlink()
    with member.node.store.transaction() as books:
        charge = books.charges(run)[0]
        books.add_charge(replace(charge, run="ab" * 16, origin="merged"))
        books.add_charge(replace(charge, run="cd" * 16))  # was charged, and never answered
    found = report(member)
    assert [item["run"] for item in found["runs_that_counted_everybody"]] == [run]
    assert [item["run"] for item in found["runs_not_recorded"]] == ["ab" * 16]


def test_without_whole_books_nothing_is_not_said(member: Attesting) -> None:
    home, words = member.place.home, "- not recorded: the books of the runs are missing, or may"
    member.run()
    member.node.store.close()
    (home / BOOKS).rename(home / "away")
    assert not report(member)["books_are_whole"]
    assert words in runs_of(report(member))
    assert "kayıtlı değil: çalıştırmaların defteri" in access.as_text(report(member))
    (home / "away").rename(home / BOOKS)
    (home / f"{BOOKS}.witness").unlink()
    with closing(Store.open(home / BOOKS)) as books:
        assert books.restored is not None
    assert words in runs_of(report(member))
