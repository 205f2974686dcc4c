"""From a run to its attestation, and to the proof that one person gets."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from consentkit import NOW, Attesting, row, withdrawal
from kesit_client.consent import attesting
from kesit_client.consent.attesting import place_of
from kesit_client.consent.gate import Moment
from kesit_client.consent.settings import STORE
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ClientError, ConsentError, ConsentStoreError
from kesit_client.rights.disposal import dispose
from kesit_client.rights.requests import close_request, open_request
from kesit_client.rows.cache import CachedRows
from kesit_privacy.attestation import verify_proof
from kesit_privacy.study import Study
from kesit_privacy.wire import RefusalCode
from kit import ask, instruct, say_hello


@pytest.fixture
def setting(tmp_path: Path) -> Attesting:
    return Attesting(tmp_path)


def test_a_withdrawal_changes_the_next_run_and_shows_in_its_attestation(
    setting: Attesting,
) -> None:
    first = setting.run()
    gone = [f"p{n}" for n in range(15)]
    setting.place.load(*(withdrawal(person, "2026-05-31T00:30:00+03:00") for person in gone))
    second = setting.run()
    before, after = setting.read(first), setting.read(second)
    assert before.signer == after.signer == setting.node.me
    assert before.depth == after.depth  # a public number
    assert before.root != after.root
    assert [step for step, _, _ in after.sums] == ["marginals"]
    assert (after.rule_pack, after.verdicts[0]["verdict"]) == (("tr-kvkk", "1"), "pass")
    earlier, later = setting.prove("p3", first), setting.prove("p3", second)
    assert (earlier.included, later.included) == (True, False)
    assert later.decision == "excluded: withdrawn at 2026-05-31 00:30:00 +0300"
    assert verify_proof(earlier, before)
    assert verify_proof(later, after)
    assert not verify_proof(later, before)
    assert setting.prove("p20", second).included


def test_who_is_no_customer_of_the_run_is_not_included(setting: Attesting) -> None:
    setting.place.load(row("stranger"))
    run = setting.run()
    assert setting.prove("stranger", run).decision.startswith("excluded: not among the customers")


def test_an_erasure_takes_the_salt_and_the_tree_still_holds(setting: Attesting) -> None:
    run = setting.run()
    statement, other = setting.read(run), setting.prove("p5", run)
    with closing(ConsentStore.open(setting.place.home)) as store:
        store.erase("p4", NOW)
    with pytest.raises(ConsentError, match="was erased"):
        setting.prove("p4", run)
    assert verify_proof(setting.prove("p5", run), statement)
    assert setting.prove("p5", run) == other
    assert setting.attest(run) == place_of(setting.place.home, run)
    assert setting.read(run) == statement


def test_an_erasure_while_the_tree_is_built_leaves_no_salt(
    setting: Attesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, erased = attesting.merkle.levels, []

    def levels(*arguments: Any) -> Any:
        if not erased:
            erased.append("p4")
            with closing(ConsentStore.open(setting.place.home)) as store:
                store.erase("p4", NOW)
        return plain(*arguments)

    monkeypatch.setattr(attesting.merkle, "levels", levels)
    run = setting.run()
    with pytest.raises(ConsentError, match="was erased"):
        setting.prove("p4", run)
    assert verify_proof(setting.prove("p5", run), setting.read(run))


def test_nothing_in_an_attestation_tells_how_many_there_are(tmp_path: Path) -> None:
    sizes = set()
    for extra in (1, 200):
        folder = tmp_path / str(extra)
        folder.mkdir()
        setting = Attesting(folder)
        setting.place.load(*(row(f"more{n}") for n in range(extra)))
        run = setting.run()
        proof = setting.prove("p1", run)
        sizes.add((len(place_of(folder, run).read_bytes()), len(proof.siblings)))
    assert len(sizes) == 1


def test_an_attestation_that_fails_does_not_keep_keys(
    setting: Attesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ConsentError("No.", remedy="None.")

    monkeypatch.setattr(attesting, "_tree", fail)
    run = setting.run()
    with setting.node.store.transaction() as books:
        known = books.run(run)
    assert known is not None
    assert known.ephemeral is None
    assert not place_of(setting.place.home, run).exists()
    monkeypatch.undo()
    setting.attest(run)
    assert setting.read(run).root is not None


def test_an_unknown_run_is_not_attested(setting: Attesting) -> None:
    with pytest.raises(ClientError, match="not in the books"):
        setting.attest("ab" * 16)
    with pytest.raises(ConsentError, match="no attestation"):
        setting.prove("p1", "ab" * 16)


def test_a_run_is_attested_when_its_last_sum_is_made(setting: Attesting) -> None:
    """An attestation before it would say of who withdrew since that they were counted."""
    transcript = say_hello(setting.place.study, setting.nodes)
    order = instruct(setting.place.study, transcript, "marginals", setting.session.query)
    assert ask(setting.node, order, transcript)[0] is RefusalCode.OK
    with pytest.raises(ClientError, match="not over"):
        setting.attest(order.run)
    assert setting.node.end(transcript.request.encoded) == bytes([RefusalCode.OK])
    assert setting.prove("p0", order.run).included


def test_a_sum_that_is_still_computed_when_the_run_ends_is_not_answered(
    setting: Attesting,
) -> None:
    transcript = say_hello(setting.place.study, setting.nodes)
    order = instruct(setting.place.study, transcript, "marginals", setting.session.query)
    rows = setting.place.rows()

    def slow(study: Study) -> CachedRows:
        with setting.node.store.transaction() as books:
            books.end_run(order.run)
        return rows

    setting.node.rows = slow
    assert ask(setting.node, order, transcript) == (RefusalCode.BAD_REQUEST, b"")


# --- what an erasure leaves -----------------------------------------------------------------------


def test_leaves_lie_in_the_store_in_no_order_of_persons(setting: Attesting) -> None:
    """Or a leaf without a person were known by the persons before and after it."""
    setting.run()
    with closing(sqlite3.connect(setting.place.home / STORE)) as database:
        found = database.execute("SELECT position, person FROM leaf ORDER BY rowid").fetchall()
    assert [place for place, _ in found] == sorted(place for place, _ in found)
    assert [person for _, person in found] != sorted(person for _, person in found)


def test_an_erasure_leaves_no_trace_and_says_so_where_it_does(setting: Attesting) -> None:
    secrets = ("secret-person", "secret-record", "secret-click", "secret note")
    home = setting.place.home
    setting.place.load(row(secrets[0], record_id=secrets[1], event_id=secrets[2]))
    run = setting.run()
    (home / "consents.csv").unlink()
    salt = bytes.fromhex(setting.prove(secrets[0], run).salt)
    traces = [*(text.encode() for text in secrets), salt]

    def left() -> list[bytes]:
        files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
        return [trace for trace in traces if any(trace in data for data in files)]

    with closing(ConsentStore.open(home, busy=0.1)) as store:
        asked = open_request(store, "erasure", secrets[0], note=secrets[3], now=NOW)
        assert len(left()) == 5
        with store.reading() as other:
            store.removals(other)
            with pytest.raises(ConsentStoreError, match="traces"):
                close_request(store, asked.id, now=NOW + 1)
        assert left()
        dispose(store, 3, NOW + 2)
        assert left() == []


def test_a_number_of_an_event_is_never_given_twice(setting: Attesting) -> None:
    with closing(ConsentStore.open(setting.place.home)) as store:
        before = store.events("p35")["id"].to_list()
        store.erase("p35", NOW)
        after = store.events("p35")["id"].to_list()
        assert min(after) > max(before)


def test_a_list_of_who_was_counted_leads_to_nobody_who_was_erased(
    setting: Attesting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is kept until the attestation is made, which may fail."""
    monkeypatch.setattr(setting.node, "attest", None)
    run = setting.run()
    moment = Moment.read(setting.place.home, run)
    assert moment is not None
    with closing(ConsentStore.open(setting.place.home)) as store:
        for person in ("p4", "p35"):  # one of them has the highest number
            store.erase(person, NOW)
        keys = store.pseudonyms(["p4", "p35"])
        with store.reading() as connection:
            gone = store.numbers(connection, pl.Series("key", keys, dtype=pl.Binary))["no"]
        counted = moment.counted(setting.place.home)
        assert not set(gone) & set(counted)
    setting.attest(run)
    assert setting.prove("p5", run).included
    with pytest.raises(ConsentError):
        setting.prove("p4", run)


def test_what_was_done_is_attested_and_not_what_the_policy_says_by_now(setting: Attesting) -> None:
    gated = setting.run()
    assert setting.read(gated).consent == "required"
    setting.node.rows = lambda study: replace(setting.place.rows(), gate=None)
    plain = setting.run()
    statement = setting.read(plain)  # signed under a policy that requires consents
    assert (statement.consent, statement.root) == ("not-kept", None)
    assert statement.sums


def test_a_sum_that_was_charged_and_not_answered_is_not_attested(setting: Attesting) -> None:
    def fail(study: Study) -> CachedRows:
        raise ConsentError("No.", remedy="None.")

    rows = setting.node.rows
    transcript = say_hello(setting.place.study, setting.nodes)
    order = instruct(setting.place.study, transcript, "marginals", setting.session.query)
    setting.node.rows = fail
    assert ask(setting.node, order, transcript)[0] is RefusalCode.UNAVAILABLE
    setting.node.rows = rows
    setting.node.end(transcript.request.encoded)
    statement = setting.read(order.run)
    assert (statement.sums, statement.root, statement.consent) == ((), None, "required")
