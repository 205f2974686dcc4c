"""An attestation on demand, from a client's folder."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from kesit_client.consent.attesting import attest
from kesit_client.errors import ClientError
from kesit_client.home import BOOKS, IDENTITY, POLICY
from kesit_client.ledger.journal import HELLO, read_log
from kesit_client.owner import approvals
from kesit_client.owner.policy import Policy
from kesit_client.owner.preflight import existing_books
from kesit_client.owner.rule_facts import settled
from kesit_privacy.identity import Identity
from kesit_privacy.keyfiles import Unlock, from_environment
from kesit_privacy.study_file import load_study

SHORTEST: Final = 8
"""Digits of a run's id that are enough."""


def attest_home(
    home: Path,
    run: str,
    *,
    unlock: Unlock = from_environment,
) -> Path:
    """Sign what the client of a folder did in a run; the file's place.

    Args:
        run: its id, or the beginning of it.

    Raises:
        KesitError: as for `attest`, or a part of the folder cannot be read.
    """
    identity, policy = Identity.load(home / IDENTITY, unlock), Policy.load(home / POLICY)
    with closing(existing_books(home / BOOKS)) as books:
        runs = {entry.run: entry.study for entry in read_log(books) if entry.kind == HELLO}
        found = [name for name in runs if len(run) >= SHORTEST and name.startswith(run.lower())]
        studies = approvals.copies(home)
        if len(found) != 1 or runs[found[0]] not in studies:
            raise ClientError(
                f"{len(found)} runs of approved studies begin with {run[:16]!r}.",
                remedy="`kesit client log` lists the runs; the study's copy must be there, too.",
            )
        study = load_study(studies[runs[found[0]]])
        pack, verdicts = settled(home, study)
        return attest(
            home,
            found[0],
            study,
            identity=identity,
            books=books,
            consent=policy.consent,
            rule_pack=pack,
            verdicts=verdicts,
        )
