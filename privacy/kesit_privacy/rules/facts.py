"""Everything that rules may look at. None is unknown, and unknown is never a pass.

Facts hold counts and flags about persons, never persons.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kesit_privacy.membership import MemberList
from kesit_privacy.rules.records import Attestation, Incident, Place, Recipient
from kesit_privacy.study import Study

SERVER = "server"
"""The name under which the records say where the server stands."""


class PolicyLike(Protocol):
    """What the rules need of a client's policy."""

    @property
    def purposes(self) -> tuple[str, ...]:
        """Purposes that the owner allows."""

    @property
    def features(self) -> tuple[str, ...]:
        """Features that may be asked for."""


@dataclass(frozen=True)
class PolicyFacts:
    """A policy as plain values."""

    purposes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ConsentFacts:
    """Counts over one member's consent records for one study.

    Attributes:
        without_valid: included customers without the valid consent that the ground asks for.
        without_purpose: records that do not name the study's purpose.
        without_proof: records without proof of who was shown and did what, and when.
        withdrawn: customers who withdrew at any time. withdrawn_included: those still included.
        same_text: records whose notice hash equals their consent hash.
        notice_in_action: records where one action covered notice and consent.
        purposes_in_action: records where one action covered two purposes.
        needless: consents that were asked for where another ground applies.
        notice_first: share of records whose notice was shown before the consent, 0 .. 1.
        profiling_without: included customers without consent to profiling.
        retention_set: whether every record has a retention period.
        iys_checked: day of the oldest of the persons' latest IYS checks, for each channel.
        iys_unapproved: customers on message lists without IYS approval.
        iys_late: consents passed on to IYS after the deadline.
        iys_proof_days: how long proof of IYS consents is kept.
    """

    without_valid: int | None = None
    without_purpose: int | None = None
    without_proof: int | None = None
    withdrawn: int | None = None
    withdrawn_included: int | None = None
    same_text: int | None = None
    notice_in_action: int | None = None
    purposes_in_action: int | None = None
    needless: int | None = None
    notice_first: float | None = None
    profiling_without: int | None = None
    retention_set: bool | None = None
    iys_checked: Mapping[str, datetime.date] | None = None
    iys_unapproved: int | None = None
    iys_late: int | None = None
    iys_proof_days: int | None = None


@dataclass(frozen=True)
class RequestFacts:
    """Persons' requests. Ages are of the oldest that is still open; 0 if none is.

    Attributes:
        oldest_days: of any kind. oldest_erasure_days: for erasure.
        erasures_not_passed, corrections_not_passed, withdrawals_not_passed: done here, but not
            acknowledged by all recipients.
        objections_open: objections to automated results that nobody has closed.
        marketing_objections_included: persons who objected to marketing and are still included.
    """

    oldest_days: int | None = None
    oldest_erasure_days: int | None = None
    erasures_not_passed: int | None = None
    corrections_not_passed: int | None = None
    withdrawals_not_passed: int | None = None
    objections_open: int | None = None
    marketing_objections_included: int | None = None


@dataclass(frozen=True)
class ReleaseFacts:
    """What is given out.

    Attributes:
        says_anonymous: whether the texts of the release call it anonymous.
        audit_passed: whether an audit proves it.
        codes_suppressed: segment codes that are held back because of open objections.
        explained: whether each segment comes with an explanation.
        pseudonymised: whether ids are replaced by pseudonyms.
        withdrawals_marked: whether releases made before a withdrawal say so.
        differencing_rerun: whether the differencing audit was run again after it.
    """

    says_anonymous: bool | None = None
    audit_passed: bool | None = None
    codes_suppressed: int | None = None
    explained: bool | None = None
    pseudonymised: bool | None = None
    withdrawals_marked: bool | None = None
    differencing_rerun: bool | None = None


@dataclass(frozen=True)
class Facts:
    """All that is known.

    Attributes:
        now: with a time zone; clocks run on it.
        places: every node, the server (named "server"), and whoever has remote access.
        rows_age_days: since the source's rows were last brought up to date.
        rows_kept_days: since the oldest rows were taken in.
        disposal_log_days: how long records of disposals are kept.
    """

    now: datetime.datetime | None = None
    study: Study | None = None
    policy: PolicyFacts | None = None
    consents: ConsentFacts | None = None
    requests: RequestFacts | None = None
    release: ReleaseFacts | None = None
    places: tuple[Place, ...] | None = None
    recipients: tuple[Recipient, ...] | None = None
    incidents: tuple[Incident, ...] | None = None
    attestations: tuple[Attestation, ...] | None = None
    rows_age_days: int | None = None
    rows_kept_days: int | None = None
    disposal_log_days: int | None = None

    @property
    def today(self) -> datetime.date | None:
        """The date, where `now` is."""
        return None if self.now is None else self.now.date()


def policy_facts(policy: PolicyLike) -> PolicyFacts:
    """The policy's plain values."""
    return PolicyFacts(tuple(policy.purposes), tuple(policy.features))


def member_places(
    members: MemberList | None, recorded: Iterable[Place] | None
) -> tuple[Place, ...] | None:
    """A place for the server and every active member, as recorded; others recorded come last.

    A member or server of which nothing is recorded has an unknown region. None if there is neither
    a member list nor a record.
    """
    known = {place.name: place for place in recorded or ()}
    if members is None and recorded is None:
        return None
    names = [SERVER, *(() if members is None else (m.name for m in members.active))]
    listed = tuple(known.pop(name, Place(name)) for name in names)
    return listed + tuple(known.values())
