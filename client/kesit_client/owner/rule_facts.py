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

from kesit_client.consent.events import ISTANBUL, to_us
from kesit_client.consent.facts import consent_facts
from kesit_client.consent.settings import ConsentSettings
from kesit_client.consent.store import ConsentStore
from kesit_client.home import POLICY, own_request, read_members
from kesit_client.owner.policy import Policy
from kesit_client.rights.facts import (
    disposal_log_days,
    release_facts,
    request_facts,
    withdrawn_before_release,
)
from kesit_client.rights.incidents import incident_facts
from kesit_privacy.rules import (
    ATTESTATIONS,
    Facts,
    Finding,
    Incident,
    Records,
    attested_release,
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
_OVER_INCIDENTS: Final = frozenset({"persons-told"})
"""Checks of `SETTLED` subjects that look at how many persons a breach concerns: not to be told."""


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
    return _counted(_settings(home, study, now, attestations), home)


def blocking(
    home: Path,
    study: Study,
    packs: Sequence[str],
    now: datetime.datetime | None = None,
    *,
    of_persons: bool | None = None,
) -> tuple[Finding, ...]:
    """Findings by which the study must not run here, over consents and requests, too.

    They are for the owner's eyes: unlike `settled`, they tell of persons.

    Args:
        of_persons: only rules that look at persons' records, or only those of `SETTLED` subjects,
            whose facts no person's record can change; None for both.

    Raises:
        KesitError: a file in the folder is broken, or the consents cannot be read.
    """
    facts = _settings(home, study, now)
    if of_persons is not False:
        facts = _counted(facts, home)
    found = [each for name in packs for each in evaluate(load_pack(name), facts).findings]
    return tuple(
        finding
        for finding in found
        if finding.blocks and of_persons in (None, finding.rule.subject not in SETTLED)
    )


def standing_rules(home: Path, study: Study, now: float, *, of_persons: bool) -> str | None:
    """Why blocking rules of the policy's packs forbid the study at `now` (Unix seconds), or None.

    The facts, the files that they stand in and the policy are read anew each time.

    Args:
        of_persons: as for `blocking`.

    Raises:
        KesitError: as for `blocking`.
    """
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    packs = Policy.load(home / POLICY).rules
    return told(blocking(home, study, packs, moment, of_persons=of_persons)) or None


def told(findings: Sequence[Finding]) -> str:
    """Findings in one line of English, for errors and logs of the owner."""
    return " ".join(f"{finding.rule.id}: {finding.evidence.en}" for finding in findings)


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
    may_leave = [
        rule.id
        for rule in pack.rules
        if rule.id in found and rule.subject in SETTLED and rule.check not in _OVER_INCIDENTS
    ]
    verdicts = ({"rule": name, "verdict": found[name].verdict.value} for name in may_leave)
    return (pack.id, pack.version), tuple(verdicts)


def _settings(
    home: Path,
    study: Study | None,
    now: datetime.datetime | None = None,
    attestations: Path | None = None,
) -> Facts:
    """All but what persons' records tell."""
    records = _records(home, attestations)
    # Days begin and end as on the owner's calendar: an attestation of today is not of tomorrow.
    moment = (now or datetime.datetime.now(datetime.UTC)).astimezone(ISTANBUL)
    age, kept = records.rows_days(moment.date())
    return Facts(
        now=moment,
        study=study,
        policy=policy_facts(Policy.load(home / POLICY)),
        places=member_places(read_members(home), records.places),
        recipients=records.recipients,
        incidents=_incidents(home, records.incidents, moment),
        attestations=records.attestations,
        release=attested_release(None, records.attestations, study, moment.date()),
        rows_age_days=age,
        rows_kept_days=kept,
    )


def _incidents(
    home: Path, written: tuple[Incident, ...] | None, now: datetime.datetime
) -> tuple[Incident, ...] | None:
    """Incidents of the file of attestations, and those of the store's register.

    An empty register says nothing: that there was no breach must be written down.
    """
    if not _has_store(home):
        return written
    with closing(ConsentStore.open(home, create=False)) as store:
        kept = incident_facts(store, to_us(now))
    return (*(written or ()), *kept) if kept else written


def _counted(facts: Facts, home: Path) -> Facts:
    """With the counts over the consent store, where consents are kept and it is there."""
    required = Policy.load(home / POLICY).consent == "required"
    return _with_counts(facts, home) if required and _has_store(home) else facts


def _with_counts(facts: Facts, home: Path) -> Facts:
    """Beside the settings the counts over consents, requests and disposals."""
    assert facts.now is not None
    moment, study, settings = to_us(facts.now), facts.study, ConsentSettings.load(home)
    with closing(ConsentStore.open(home, settings, create=False)) as store:
        store.require_whole()  # what a restored store has forgotten would pass
        return replace(
            facts,
            consents=None if study is None else consent_facts(store, study, moment, settings),
            requests=request_facts(store, moment, study, settings.marketing_purposes),
            release=attested_release(
                release_facts(store, moment, nothing_given=facts.recipients == ()),
                facts.attestations or (),
                study,
                facts.now.date(),
                withdrawn_before_release(store, moment),
            ),
            disposal_log_days=disposal_log_days(store),
        )


def _has_store(home: Path) -> bool:
    """Before the first import or request nothing is known."""
    return ConsentSettings.load(home).kept(home)


def _records(home: Path, given: Path | None) -> Records:
    if given is not None:
        return load_records(given)
    return load_records(home / ATTESTATIONS) if (home / ATTESTATIONS).exists() else Records()
