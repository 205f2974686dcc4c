"""Words of a consent record: event types, grounds, reasons, and the names of fields.

Names are those of ISO/IEC TS 27560:2023; the meaning of values is that of W3C's Data Privacy
Vocabulary (DPV) and of the `tr-kvkk` extension, which docs/vocabulary/tr-kvkk.jsonld defines.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, get_args

from kesit_privacy.study import LegalBasis

SCHEMA_VERSION: Final = "kesit-27560-1"
CONSENT: Final = "explicit-consent"
BASES: Final[tuple[str, ...]] = get_args(LegalBasis)
FOREVER: Final = (1 << 62) - 1
"""A moment (µs) that never comes: no end, or a minor whose birth date is not known."""
ADULT_YEARS: Final = 18
INVISIBLE: Final = (
    r"[\p{Cc}\p{Cf}\x{34f}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{2028}\x{2029}\x{3164}\x{ffa0}"
    r"\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}]"
)
"""A sign that cannot be seen (in polars' regular expressions): control and format characters,
joiners, fillers, variation selectors, and the ends of lines that would split a list of ids."""


class EventType(IntEnum):
    """What happened. The numbers stand in the store and never change."""

    GIVEN = 1
    REFUSED = 2
    WITHDRAWN = 3
    EXPIRED = 4
    RENEWED = 5
    OBJECTED = 6
    OBJECTION_CLOSED = 7
    NOTICE_SHOWN = 8
    IYS_STATUS = 9
    ERASED = 10

    @property
    def word(self) -> str:
        """As in files and on the screen."""
        return self.name.lower()


GRANTS: Final = frozenset({EventType.GIVEN, EventType.RENEWED})
ENDS: Final = frozenset(
    {EventType.REFUSED, EventType.WITHDRAWN, EventType.EXPIRED, EventType.ERASED}
)
END_ORDER: Final = (EventType.REFUSED, EventType.EXPIRED, EventType.WITHDRAWN, EventType.ERASED)
"""Of several ends at one moment the last of these is named."""

TYPE_OF_WORD: Final[dict[str, EventType]] = {kind.word: kind for kind in EventType}
DPV_STATUS: Final[dict[EventType, str]] = {
    EventType.GIVEN: "dpv:ConsentGiven",
    EventType.REFUSED: "dpv:ConsentRefused",
    EventType.WITHDRAWN: "dpv:ConsentWithdrawn",
    EventType.EXPIRED: "dpv:ConsentExpired",
    EventType.RENEWED: "dpv:RenewedConsentGiven",
    EventType.OBJECTED: "tr-kvkk:AutomatedDecisionObjection",
    EventType.OBJECTION_CLOSED: "tr-kvkk:AutomatedDecisionObjectionClosed",
    EventType.NOTICE_SHOWN: "tr-kvkk:NoticeShown",
    EventType.IYS_STATUS: "tr-kvkk:IysStatusChecked",
    EventType.ERASED: "tr-kvkk:Erased",
}
DPV_BASIS: Final[dict[str, str]] = {
    "explicit-consent": "tr-kvkk:A5-1-ExplicitConsent",
    "law": "tr-kvkk:A5-2-a-Law",
    "protection-of-life": "tr-kvkk:A5-2-b-ProtectionOfLife",
    "contract": "tr-kvkk:A5-2-c-Contract",
    "legal-obligation": "tr-kvkk:A5-2-cc-LegalObligation",
    "made-public": "tr-kvkk:A5-2-d-MadePublic",
    "establishment-of-right": "tr-kvkk:A5-2-e-EstablishmentOfRight",
    "legitimate-interest": "tr-kvkk:A5-2-f-LegitimateInterest",
}


class Reason(IntEnum):
    """Why a person is counted, or not. Only `GIVEN` counts."""

    GIVEN = 0
    UNKNOWN = 1
    REFUSED = 2
    WITHDRAWN = 3
    EXPIRED = 4
    ERASED = 5
    MINOR = 6
    SPECIAL_CATEGORY = 7
    NO_NOTICE = 8
    NOTICE_IS_CONSENT = 9
    BUNDLED = 10
    OBJECTED = 11

    @property
    def word(self) -> str:
        """As in proofs and on the screen."""
        return self.name.lower().replace("_", " ")


REASON_OF_END: Final[dict[EventType, Reason]] = {
    EventType.REFUSED: Reason.REFUSED,
    EventType.WITHDRAWN: Reason.WITHDRAWN,
    EventType.EXPIRED: Reason.EXPIRED,
    EventType.ERASED: Reason.ERASED,
}

TERMS: Final = (
    "schema_version",
    "privacy_notice",
    "language",
    "purpose_type",
    "pii_information",
    "pii_controllers",
    "storage_locations",
    "retention_period",
    "processing_method",
    "jurisdiction",
    "recipient_third_parties",
    "withdrawal_method",
    "privacy_rights",
    "party_id",
    "party_name",
    "party_type",
    "party_contact",
    "transfer_basis_art9",
    "verbis_activity_id",
)
"""Fields that many records share; they are stored once for each combination of values."""

NEEDED_TERMS: Final = TERMS[:13]
"""Those that a grant must state, in its row or in consent.toml."""

DEFAULTS: Final[dict[str, str]] = {
    "schema_version": SCHEMA_VERSION,
    "language": "tr",
    "jurisdiction": "TR",
}

EVENT_FIELDS: Final = (
    "record_id",
    "event_id",
    "pii_principal_id",
    "purpose",
    "lawful_basis",
    "event_type",
    "event_state",
    "event_time",
    "validity_duration",
    "entity_id",
    "notice_hash",
    "consent_text_hash",
    "notice_shown_at",
    "collection_channel",
    "iys_channel",
    "iys_status",
    "iys_checked_at",
    "profiling_consent",
    "automated_decision_objection",
    "birth_date",
    "minor",
    "special_categories",
    "special_category_ground",
)
"""Columns of a file beside `TERMS`; the last four are optional in every file."""
