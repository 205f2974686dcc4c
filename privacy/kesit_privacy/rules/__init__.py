"""Rules of data protection as code: packs are data, checks are pure, unknown never passes.

    pack = load_pack("kvkk")
    report = evaluate(pack, Facts(now=..., study=study))

Nothing here is legal advice.
"""

from kesit_privacy.rules.errors import RulesError
from kesit_privacy.rules.facts import (
    ConsentFacts,
    Facts,
    PolicyFacts,
    ReleaseFacts,
    RequestFacts,
    member_places,
    policy_facts,
)
from kesit_privacy.rules.judging import NOTICE, Finding, Report, evaluate, judge
from kesit_privacy.rules.pack import Pack, Rule, load_pack, pack_names, read_pack
from kesit_privacy.rules.records import (
    ATTESTATIONS,
    Attestation,
    Incident,
    Place,
    Recipient,
    Records,
    load_records,
)
from kesit_privacy.rules.release import RELEASE_KINDS, attested_release
from kesit_privacy.rules.verdicts import LANGUAGES, Language, Verdict, Words

__all__ = [
    "ATTESTATIONS",
    "LANGUAGES",
    "NOTICE",
    "RELEASE_KINDS",
    "Attestation",
    "ConsentFacts",
    "Facts",
    "Finding",
    "Incident",
    "Language",
    "Pack",
    "Place",
    "PolicyFacts",
    "Recipient",
    "Records",
    "ReleaseFacts",
    "Report",
    "RequestFacts",
    "Rule",
    "RulesError",
    "Verdict",
    "Words",
    "attested_release",
    "evaluate",
    "judge",
    "load_pack",
    "load_records",
    "member_places",
    "pack_names",
    "policy_facts",
    "read_pack",
]
