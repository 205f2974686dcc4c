"""From a client's folder (`home`) to its node."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kesit_client.consent import attesting
from kesit_client.consent.gate import Gate
from kesit_client.home import BOOKS, CACHE, IDENTITY, POLICY, SOURCE, STUDIES, read_source
from kesit_client.ledger.store import Store
from kesit_client.node import Node
from kesit_client.owner.policy import Policy
from kesit_client.owner.rule_facts import settled, standing_rules
from kesit_client.rows.cache import CachedRows
from kesit_privacy.errors import StudyError
from kesit_privacy.identity import Identity
from kesit_privacy.keyfiles import Unlock, from_environment
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study


def open_node(home: Path, unlock: Unlock = from_environment) -> Node:
    """The node of a folder.

    Args:
        unlock: gives the identity's passphrase; by default the environment does.

    Raises:
        KesitError: a part is missing or unreadable; the error names it.
    """
    source = read_source(home / SOURCE)
    studies = [_read_study(path) for path in sorted((home / STUDIES).glob("*.toml"))]
    policy = Policy.load(home / POLICY)
    gates: dict[str, Gate] = {}

    def rows(study: Study) -> CachedRows:
        if policy.consent == "not-kept":
            return CachedRows(source, study, home / CACHE)
        gate = gates.setdefault(study.hash, Gate(home, study))
        return CachedRows(source, study, home / CACHE, gate)

    identity = Identity.load(home / IDENTITY, unlock)
    store = Store.open(home / BOOKS)

    def attest(run: str, study: Study) -> None:
        if attesting.place_of(home, run).exists():
            return
        pack, verdicts = settled(home, study)
        attesting.attest(
            home,
            run,
            study,
            identity=identity,
            books=store,
            consent=policy.consent,
            rule_pack=pack,
            verdicts=verdicts,
        )

    return Node(
        identity=identity,
        policy=policy,
        store=store,
        studies={study.hash: study for study in studies},
        rows=rows,
        rules=partial(standing_rules, home),
        attest=attest,
    )


def _read_study(path: Path) -> Study:
    try:
        return load_study(path)
    except StudyError as error:
        if error.field == str(path):
            raise
        raise StudyError(str(path), error.cause, remedy=error.remedy) from error
