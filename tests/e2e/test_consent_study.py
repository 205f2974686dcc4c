"""Whole studies over real nodes that keep consents: a withdrawal changes the next one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from branchkit import STUDY, Branches
from consentkit import PURPOSE, row, withdrawal, write
from kesit_client.consent.attesting import place_of, prove
from kesit_client.consent.importing import import_file
from kesit_client.consent.store import ConsentStore
from kesit_client.home import POLICY
from kesit_privacy.attestation import Attestation, Proof, read_attestation, verify_proof
from kesit_privacy.study_file import study_from_toml
from kesit_server.segmentation.segmenter import segment


class Keeping(Branches):
    """Three branches that keep consents of all of their 1,000 customers each."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        for number, home in enumerate(self.homes):
            policy = home / POLICY
            policy.write_text(f'consent = "required"\n{policy.read_text()}')
            self.load(number, [row(f"{number}-{n}", validity_duration=None) for n in range(1000)])

    def load(self, branch: int, rows: list[dict[str, str]]) -> None:
        """Import records at one branch."""
        home = self.homes[branch]
        with closing(ConsentStore.open(home)) as store:
            found = import_file(store, write(home / "c.csv", rows), purposes=(PURPOSE,))
        assert (found.new, len(found.refused)) == (len(rows), 0)

    def run(self, seed: int) -> tuple[float, str]:
        """A study of its own budget, run whole: the noisy number of all customers, and the run."""
        for node in self.nodes:
            node.approve(self.study)
        federation = self.federation()
        federation.hello()
        segments = segment(federation, np.random.default_rng(seed))
        federation.end()
        return float(segments.sizes.sum()), federation.run

    def renew(self) -> None:
        """Agree on another study: the first one's budget is spent."""
        text = STUDY.replace("Üç şube", "Üç şube, yeniden")
        for home in self.homes:
            (home / "studies/three.toml").write_text(text, encoding="utf-8")
        self.study = study_from_toml(text)

    def attested(self, run: str) -> Attestation:
        """The first branch's attestation."""
        return read_attestation(place_of(self.homes[0], run).read_bytes())

    def proof(self, run: str, person: str) -> Proof:
        """A proof of the first branch."""
        with closing(ConsentStore.open(self.homes[0])) as store:
            return prove(store, person, run)


@pytest.mark.slow
def test_500_withdrawals_change_the_next_study_and_show_in_its_attestation(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path)
    keeping.open()
    before, first = keeping.run(1)
    keeping.load(0, [withdrawal(f"0-{n}") for n in range(500)])
    keeping.renew()
    keeping.open()
    after, second = keeping.run(2)
    # At ε = 2 a total has a standard deviation of about 28: seven of them are 196.
    assert abs(before - 3000) < 200
    assert abs(after - 2500) < 200
    one, two = keeping.attested(first), keeping.attested(second)
    assert one.signer == two.signer == keeping.nodes[0].me
    assert (one.depth, one.root is None, one.root == two.root) == (two.depth, False, False)
    assert keeping.proof(first, "0-3").included
    left = keeping.proof(second, "0-3")
    assert left.decision.startswith("excluded: withdrawn at 2026-04-01")
    assert verify_proof(left, two)
    assert keeping.proof(second, "0-700").included
    assert len(two.sums) == len(one.sums) > 1
