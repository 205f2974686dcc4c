"""What a client's folder tells the rules of data protection: its policy, member list and records.

Counts over consent records come from the caller: they are no part of the folder's settings.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from kesit_client.approvals import copies
from kesit_client.home import POLICY, own_request, read_members
from kesit_client.policy import Policy
from kesit_privacy.rules import (
    ATTESTATIONS,
    ConsentFacts,
    Facts,
    Records,
    load_records,
    member_places,
    policy_facts,
)
from kesit_privacy.study import Study
from kesit_privacy.study_file import load_study


def gather(
    home: Path,
    study: Study | None,
    *,
    now: datetime.datetime,
    attestations: Path | None = None,
    consents: ConsentFacts | None = None,
) -> Facts:
    """The facts that a client's folder holds, for one study or for none.

    Args:
        attestations: another file of attestations than the folder's own.
        consents: counts over this member's consent records for the study.

    Raises:
        KesitError: this is no client's folder, or a file in it is broken; the error names it.
    """
    own_request(home)
    records = _records(home, attestations)
    return Facts(
        now=now,
        study=study,
        policy=policy_facts(Policy.load(home / POLICY)),
        consents=consents,
        places=member_places(read_members(home), records.places),
        recipients=records.recipients,
        incidents=records.incidents,
        attestations=records.attestations,
    )


def approved_copies(home: Path) -> tuple[Study, ...]:
    """The studies in the folder, in the order of their names.

    Raises:
        StudyError: one cannot be read.
    """
    studies = (load_study(path) for path in copies(home).values())
    return tuple(sorted(studies, key=lambda study: (study.name, study.hash)))


def _records(home: Path, given: Path | None) -> Records:
    if given is not None:
        return load_records(given)
    return load_records(home / ATTESTATIONS) if (home / ATTESTATIONS).exists() else Records()
