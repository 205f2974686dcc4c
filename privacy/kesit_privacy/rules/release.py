"""Facts about a release for which a person stands: attestations of their own kinds, for this study.

release-audit           an audit proves what the release says of itself
segment-explanations    each segment comes with an explanation
pseudonymisation        ids are replaced by pseudonyms
differencing-audit      the differencing audit was run; again after each withdrawal
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from kesit_privacy.rules.facts import ReleaseFacts
from kesit_privacy.rules.records import Attestation
from kesit_privacy.study import Study

DIFFERENCING: Final = "differencing-audit"
_FLAGS: Final = {
    "audit_passed": "release-audit",
    "explained": "segment-explanations",
    "pseudonymised": "pseudonymisation",
}
RELEASE_KINDS: Final = frozenset({DIFFERENCING, *_FLAGS.values()})
"""Kinds of attestations that a release asks for, beside those that rules name."""


def attested_release(
    seen: ReleaseFacts | None,
    attestations: Iterable[Attestation],
    study: Study | None,
    today: datetime.date,
    withdrawn: datetime.date | None = None,
) -> ReleaseFacts | None:
    """What was seen of a release, and what is attested of it; None if nothing is known.

    An attestation that ended says no. One that is missing, of tomorrow or of another study says
    nothing.

    Args:
        seen: what software found out; it stays where nothing is attested.
        withdrawn: day of the last withdrawal that a release followed, the first of days if there
            was none; None if that is not known, and then the differencing audit proves nothing.
    """
    if study is None:
        return seen
    held = [a for a in attestations if a.study == study.hash and a.date <= today]
    said: dict[str, bool] = {}
    for flag, kind in _FLAGS.items():
        own = [a for a in held if a.kind == kind]
        if own:
            said[flag] = any(_holds(a, today) for a in own)
    audits = [a for a in held if a.kind == DIFFERENCING]
    if audits and withdrawn is not None:
        days = [audit.date for audit in audits if _holds(audit, today)]
        if withdrawn not in days or max(days) > withdrawn:  # of one day nobody knows the order
            said["differencing_rerun"] = any(day > withdrawn for day in days)
    return replace(seen or ReleaseFacts(), **said) if said else seen


def _holds(attestation: Attestation, today: datetime.date) -> bool:
    return attestation.expires is None or attestation.expires >= today
