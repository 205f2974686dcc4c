"""From a run to its attestation, and to the proof that one person gets."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from consentkit import NOW, Place, row, withdrawal
from kesit_client.consent import attesting
from kesit_client.consent.attesting import attest, place_of, prove
from kesit_client.consent.events import SECOND
from kesit_client.consent.store import ConsentStore
from kesit_client.errors import ClientError, ConsentError
from kesit_client.node import Node
from kesit_privacy.attestation import Attestation, Proof, read_attestation, verify_proof
from kesit_privacy.wire import RefusalCode
from kit import Session, ask, begin, instruct, mixed_study, say_hello


class Attesting:
    """Three members; the first keeps consents and attests."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder, mixed_study())
        self.session: Session = begin(self.place.study, clients=3, rows=0)
        first = self.session.nodes[0]
        self.node: Node = replace(first, rows=lambda study: self.place.rows(), _secrets={})
        self.node.attest = lambda run, study: self.attest(run)
        self.nodes = [self.node, *self.session.nodes[1:]]

    def attest(self, run: str) -> Path:
        """Sign what the first member did."""
        return attest(
            self.place.home,
            run,
            self.place.study,
            identity=self.node.identity,
            books=self.node.store,
            consent="required",
            rule_pack=("tr-kvkk", "1"),
            verdicts=[{"rule": "KVKK-4", "verdict": "pass"}],
            now=NOW // SECOND,
        )

    def run(self) -> str:
        """A whole run with one sum; its id."""
        transcript = say_hello(self.place.study, self.nodes)
        order = instruct(self.place.study, transcript, "marginals", self.session.query)
        assert {ask(node, order, transcript)[0] for node in self.nodes} == {RefusalCode.OK}
        assert self.node.end(transcript.request.encoded) == bytes([RefusalCode.OK])
        return order.run

    def read(self, run: str) -> Attestation:
        """The run's attestation."""
        return read_attestation(place_of(self.place.home, run).read_bytes())

    def prove(self, person: str, run: str) -> Proof:
        """A person's proof."""
        with closing(ConsentStore.open(self.place.home)) as store:
            return prove(store, person, run)


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
