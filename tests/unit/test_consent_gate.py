"""The gate: only customers with a ground at that moment are in a sum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from consentkit import NOW, PEOPLE, Place, row, withdrawal
from kesit_client.consent.events import SECOND
from kesit_client.consent.gate import Gate, Moment
from kesit_client.consent.keeping import withdraw
from kesit_client.consent.settings import STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.consent.terms import Reason
from kesit_client.errors import ConsentStoreError, SourceError
from kesit_client.node import Node
from kesit_client.rows.cache import CachedRows
from kesit_client.rows.sources import FileSource, FrameSource
from kesit_privacy.wire import RefusalCode
from kit import ask, begin, instruct, mixed_study, opened, say_hello


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path, mixed_study())
    yield place
    place.gate.close()


def test_who_has_no_consent_is_in_no_sum(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    assert len(rows.codes("run")) == PEOPLE - 4
    assert place.gate.counts() == {Reason.GIVEN: PEOPLE - 4}
    everyone = CachedRows(rows.source, rows.study, place.home / "other")
    assert (rows.codes("run") == everyone.codes("x")[: PEOPLE - 4]).all()


def test_a_withdrawal_is_out_from_the_next_sum_on_and_a_new_consent_waits(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    before = rows.codes("run")
    place.now += 3600
    place.load(
        withdrawal("p0", "2026-06-01T00:30:00+03:00"),
        row("p39", event_time="2026-05-01T00:00:00+03:00"),  # dated before the run, but not known
    )
    assert (rows.codes("run") == before[1:]).all()
    rows.prepare("run")  # a hello that is asked again
    assert len(place.rows().codes("run")) == len(before) - 1
    rows.prepare("next")
    assert len(rows.codes("next")) == len(before)
    rows.release("run")
    rows.release("next")
    assert not list((place.home / "cache").glob("*-run-*"))


def test_a_consent_that_ends_during_a_run_is_out(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    place.now += 3 * 365 * 86_400
    assert len(rows.codes("run")) == 0
    assert place.gate.counts() == {Reason.EXPIRED: PEOPLE - 4}


def test_an_erasure_is_out_at_once_and_ids_are_not_in_the_cache(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    with closing(ConsentStore.open(place.home)) as store:
        store.erase("p3", int(place.now * SECOND))
    assert len(rows.codes("run")) == PEOPLE - 5
    for file in (place.home / "cache").iterdir():
        assert b"p3" not in file.read_bytes()


def test_the_moment_of_each_sum_is_kept(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    assert Moment.read(place.home, "run") is None
    rows.codes("run")
    first = Moment.read(place.home, "run")
    assert first is not None
    assert (first.at, first.head) == (NOW, PEOPLE - 4)
    place.now += 60
    rows.codes("run")
    second = Moment.read(place.home, "run")
    assert second == replace(first, at=NOW + 60 * SECOND)


def test_a_store_that_is_gone_or_another_excludes_nobody_silently(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    place.gate.close()
    for path in place.home.glob(f"{STORE}*"):
        path.unlink()
    with pytest.raises(ConsentStoreError):
        rows.codes("run")
    with pytest.raises(ConsentStoreError):
        rows.prepare("other")
    place.load(*(row(f"p{n}") for n in range(PEOPLE)))
    with pytest.raises(SourceError, match="another one"):
        rows.codes("run")


# --- in a node ----------------------------------------------------------------------------------


def gated(node: Node, place: Place) -> Node:
    return replace(node, rows=lambda study: place.rows(), _secrets={})


def test_a_node_sums_those_who_may_be_counted(place: Place) -> None:
    session = begin(place.study, clients=3, rows=0)
    nodes = [gated(session.nodes[0], place), *session.nodes[1:]]
    source = FileSource(place.home / "customers.csv", "id")
    everyone = CachedRows(source, place.study, place.home / "other").codes("x")
    for left_out in ([], [7, 8]):
        for person in left_out:
            place.load(withdrawal(f"p{person}", "2026-05-31T00:30:00+03:00"))
        transcript = say_hello(place.study, nodes)
        order = instruct(place.study, transcript, "marginals", session.query)
        replies = [ask(node, order, transcript) for node in nodes]
        assert {code for code, _ in replies} == {RefusalCode.OK}
        kept = np.delete(everyone[: PEOPLE - 4], left_out, axis=0)
        total = opened([payload for _, payload in replies], order)
        assert (total == session.query.sum(kept)).all()


def test_a_failing_store_is_unavailable_before_hello_and_within_a_run(place: Place) -> None:
    session = begin(place.study, clients=3, rows=0)
    nodes = [gated(session.nodes[0], place), *session.nodes[1:]]
    transcript = say_hello(place.study, nodes)
    order = instruct(place.study, transcript, "marginals", session.query)
    place.gate.close()
    hidden = place.home / "hidden"
    for path in place.home.glob(f"{STORE}*"):
        path.rename(hidden if path.name == STORE else path.with_name("rest"))
    assert ask(nodes[0], order, transcript) == (RefusalCode.UNAVAILABLE, b"")
    later = replace(transcript.request, run="ab" * 16)
    assert nodes[0].hello(later.encoded) == bytes([RefusalCode.UNAVAILABLE])
    hidden.rename(place.home / STORE)
    assert ask(nodes[0], order, transcript)[0] is RefusalCode.OK  # charged once, answered now
    with nodes[0].store.transaction() as books:
        assert len(books.charges(order.run)) == 1


def test_no_event_of_one_person_moves_another_row(place: Place) -> None:
    """The gate is a row function: whatever happens to p1, the others' rows are the same bytes."""
    rows = place.rows()
    rows.prepare("run")
    alone = rows.codes("run")
    for event in (
        withdrawal("p1"),
        row("p1", event_time="2026-05-05T00:00:00+03:00", event_id="again", record_id="r2"),
        row("p1", event_type="objected", record_id="r3"),
    ):
        place.load(event)
        found = rows.codes("run")
        others = alone[[n for n in range(len(alone)) if n != 1]]
        kept = found if len(found) == len(others) else np.delete(found, 1, axis=0)
        assert (kept == others).all()


# --- clocks -------------------------------------------------------------------------------------


def test_a_withdrawal_counts_at_once_though_a_renewal_was_ahead_of_the_clock(place: Place) -> None:
    place.load(
        row(
            "p0",
            event_type="renewed",
            event_time="2026-06-01T00:04:00+03:00",
            record_id="r2",
            event_id="c2",
        )
    )
    rows = place.rows()
    rows.prepare("run")
    before = rows.codes("run")
    with closing(ConsentStore.open(place.home)) as store:
        withdraw(store, "p0", now=int(place.now * SECOND))
    assert (rows.codes("run") == before[1:]).all()
    place.load(withdrawal("p1", "2026-06-01T00:04:00+03:00"))  # another machine's clock is ahead
    assert (rows.codes("run") == before[2:]).all()


def test_a_clock_that_was_set_back_lets_nobody_in_again(place: Place) -> None:
    place.load(withdrawal("p0", "2026-05-31T23:59:00+03:00"))
    rows = place.rows()
    place.now -= 240
    rows.prepare("run")
    assert len(rows.codes("run")) == PEOPLE - 5
    place.now -= 86_400  # consents that ended would hold again
    with pytest.raises(ConsentStoreError, match="clock"):
        rows.codes("run")


# --- ids of the source --------------------------------------------------------------------------


@pytest.mark.parametrize("odd", [2.5, 1e20, float("inf"), float("nan")])
def test_one_odd_id_decides_about_no_other_row(place: Place, odd: float) -> None:
    """Neither whether the others count nor whether the client answers."""
    place.load(*(row(str(n)) for n in range(3)))
    ids = pl.Series("id", [0.0, 1.0, odd, 2.0])
    table = place.table.head(4).with_columns(ids)
    rows = CachedRows(FrameSource(table, "id"), place.study, place.home / "odd", place.gate)
    rows.prepare("run")
    everyone = CachedRows(FrameSource(table, "id"), place.study, place.home / "all")
    kept = [n for n in range(4) if ids[n] in (0.0, 1.0, 2.0)]
    names = [value for value in ids if value == value]  # NaN is no id
    wanted = everyone.codes("x")[[names.index(ids[n]) for n in kept]]
    assert (rows.codes("run") == wanted).all()


# --- within one run -----------------------------------------------------------------------------


def test_who_left_a_run_is_not_in_it_again(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    before = rows.codes("run")
    for hour, event in enumerate(
        (
            withdrawal("p0", "2026-06-01T00:30:00+03:00"),
            row("p0", event_time="2026-06-01T01:30:00+03:00", record_id="r2", event_id="c2"),
        ),
        1,
    ):
        place.now = NOW // SECOND + hour * 3600
        place.load(event)
        assert (place.rows().codes("run") == before[1:]).all()
    rows.prepare("next")
    assert (rows.codes("next") == before).all()


def test_a_run_that_began_with_consents_does_not_go_on_without(place: Place) -> None:
    rows = place.rows()
    rows.prepare("run")
    assert len(rows.codes("run")) == PEOPLE - 4
    with pytest.raises(SourceError, match="began with consents"):
        replace(rows, gate=None).codes("run")


# --- special categories -------------------------------------------------------------------------


def test_a_study_of_special_categories_counts_who_consented_to_them(place: Place) -> None:
    first, *others = place.study.features
    health = replace(first, tags=("special-category",))
    study = replace(place.study, features=(health, *others))
    place.load(
        row("p0", record_id="s0", event_id="s0", special_categories="true")
        | {"special_category_ground": "6(3)(a)", "event_time": "2026-03-03T10:00:00+03:00"},
        row("p1", record_id="s1", event_id="s1", special_categories="true")
        | {"event_time": "2026-03-03T10:00:00+03:00"},
    )
    gate = Gate(place.home, study, lambda: place.now)
    assert gate.counts() == {Reason.GIVEN: 1, Reason.SPECIAL_CATEGORY: PEOPLE - 5}
    assert place.gate.counts() == {Reason.GIVEN: PEOPLE - 5, Reason.SPECIAL_CATEGORY: 1}
    gate.close()


def test_rows_of_an_earlier_way_of_writing_ids_are_made_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of before wrote 7.0 where one id is odd: the id of somebody else, who agreed."""
    ids = [7.0, 8.0, 9.5]
    table = place.table.head(3).with_columns(id=pl.Series(ids))
    table.write_parquet(place.home / "floats.parquet")
    place.load(row("7.0"), row("8"), row("9.5"))
    source = FileSource(place.home / "floats.parquet", "id")
    rows = CachedRows(source, place.study, place.home / "floats", place.gate)
    with monkeypatch.context() as before:
        before.setattr("kesit_client.rows.cache.CODING", 1)
        before.setattr(
            "kesit_client.rows.cache.written_ids", lambda ids: ids.cast(pl.String).to_list()
        )
        rows.prepare("old")
        assert len(rows.codes("old")) == 2  # 7.0, by another person's consent, and 9.5; 8 is lost
    rows.prepare("new")
    found = rows.codes("new")
    everyone = CachedRows(source, place.study, place.home / "all").codes("x")
    assert (found == everyone[1:]).all()
    with pytest.raises(SourceError, match="are gone"):  # nor does a run go on with them
        rows.codes("old")
