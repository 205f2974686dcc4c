"""What a client's folder tells the rules of data protection.

Its policy, its member list, its records, and counts over its consents and persons' requests.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

from kesit_client.consent.events import to_us
from kesit_client.consent.facts import consent_facts
from kesit_client.consent.settings import STORE, ConsentSettings
from kesit_client.consent.store import ConsentStore
from kesit_client.home import POLICY, own_request, read_members
from kesit_client.policy import Policy
from kesit_client.rights.facts import disposal_log_days, request_facts
from kesit_privacy.rules import (
    ATTESTATIONS,
    ConsentFacts,
    Facts,
    Finding,
    Records,
    RequestFacts,
    evaluate,
    load_pack,
    load_records,
    member_places,
    policy_facts,
)
from kesit_privacy.study import Study

ATTESTED_PACK: Final = "kvkk"
SETTLED: Final = frozenset({"study", "policy", "members", "attestation"})
"""Subjects of rules that no person's record decides."""


def gather(
    home: Path,
    study: Study | None,
    *,
    now: datetime.datetime,
    attestations: Path | None = None,
) -> Facts:
    """The facts that a client's folder holds, for one study or for none.

    Args:
        attestations: another file of attestations than the folder's own.

    Raises:
        KesitError: this is no client's folder, or a file in it is broken; the error names it.
    """
    own_request(home)
    return _facts(home, study, now, attestations, Policy.load(home / POLICY))


def _facts(
    home: Path,
    study: Study | None,
    now: datetime.datetime,
    attestations: Path | None,
    policy: Policy,
) -> Facts:
    records = _records(home, attestations)
    consents, requests, log_days = (
        _counts(home, study, now) if policy.consent == "required" else (None, None, None)
    )
    return Facts(
        now=now,
        study=study,
        policy=policy_facts(policy),
        consents=consents,
        requests=requests,
        disposal_log_days=log_days,
        places=member_places(read_members(home), records.places),
        recipients=records.recipients,
        incidents=records.incidents,
        attestations=records.attestations,
    )


def blocking(
    home: Path, study: Study, packs: Sequence[str], now: datetime.datetime | None = None
) -> tuple[Finding, ...]:
    """Findings by which the study must not run here, from settings and records alone.

    Raises:
        KesitError: a file in the folder is broken; the error names it.
    """
    facts = _settings(home, study, now)
    reports = [evaluate(load_pack(name), facts) for name in packs]
    return tuple(finding for report in reports for finding in report.findings if finding.blocks)


def settled(
    home: Path, study: Study, now: datetime.datetime | None = None
) -> tuple[tuple[str, str], tuple[dict[str, str], ...]]:
    """The rule pack (id, version), and its verdicts that depend on settings and records alone.

    They may leave the client: verdicts over consents and requests tell of persons and are left out.

    Raises:
        KesitError: a file in the folder is broken; the error names it.
    """
    pack = load_pack(ATTESTED_PACK)
    findings = evaluate(pack, _settings(home, study, now)).findings
    found = {finding.rule.id: finding for finding in findings}
    told = [rule.id for rule in pack.rules if rule.id in found and rule.subject in SETTLED]
    verdicts = ({"rule": name, "verdict": found[name].verdict.value} for name in told)
    return (pack.id, pack.version), tuple(verdicts)


def _settings(home: Path, study: Study, now: datetime.datetime | None) -> Facts:
    """All but what persons' records tell."""
    moment = now or datetime.datetime.now(datetime.UTC)
    policy = Policy.load(home / POLICY)
    return _facts(home, study, moment, None, replace(policy, consent="not-kept"))


def _counts(
    home: Path, study: Study | None, now: datetime.datetime
) -> tuple[ConsentFacts | None, RequestFacts | None, int | None]:
    """Counts over consents, over requests, and for how long disposals are recorded (days).

    Before the first import nothing is known.
    """
    if ConsentSettings.load(home).url is None and not (home / STORE).is_file():
        return None, None, None
    with closing(ConsentStore.open(home, create=False)) as store:
        moment = to_us(now)
        consents = None if study is None else consent_facts(store, study, moment)
        return consents, request_facts(store, moment), disposal_log_days(store)


def _records(home: Path, given: Path | None) -> Records:
    if given is not None:
        return load_records(given)
    return load_records(home / ATTESTATIONS) if (home / ATTESTATIONS).exists() else Records()
