"""Attestations and other records that no file of Kesit holds: one TOML file that people keep.

    recipients = []                      # known: there are none
    incidents = []
    rows_updated = 2026-03-01            # optional: when the rows were brought up to date
    rows_since = 2025-09-01              # optional: when the oldest were taken in

    [[attestations]]
    kind = "impact-assessment"           # which duty it is for
    name = "Ayşe Yılmaz"                 # who stands for it
    role = "data protection officer"
    date = 2026-03-02
    sha256 = "<64 hex digits>"           # of the document
    file = "dpia.pdf"                    # optional, beside this file: its hash is compared
    expires = 2027-03-02                 # optional
    study = "<64 hex digits>"            # optional: the study's hash, if it is about one

A list that is left out is unknown; an empty list says that there are none.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from kesit_privacy.features import STRICT, Name
from kesit_privacy.processing import Region
from kesit_privacy.rules.errors import RulesError, first_problem
from kesit_privacy.study import LegalBasis

ATTESTATIONS = "attestations.toml"
MAX_BYTES = 4 << 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Kind = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]

TransferBasis = Literal[
    "adequacy",
    "standard-contract",
    "binding-corporate-rules",
    "undertaking",
    "derogation",
    "explicit-consent",
    "none",
]


@dataclass(frozen=True, config=STRICT)
class Attestation:
    """A person's word, with a document, that a duty which software cannot see is met."""

    kind: Kind
    name: Name
    role: Name
    date: datetime.date
    sha256: Sha256
    file: Name | None = None
    expires: datetime.date | None = None
    study: Sha256 | None = None


@dataclass(frozen=True, config=STRICT)
class Place:
    """Where a node, the server or someone with remote access stands, and what a transfer rests on.

    `signed` and `notified` are those of a standard contract.
    """

    name: Name
    region: Region | None = None
    basis: TransferBasis | None = None
    signed: datetime.date | None = None
    notified: datetime.date | None = None


@dataclass(frozen=True, config=STRICT)
class Recipient:
    """Someone else who is given personal data, and on which ground; "none": it is known of none."""

    name: Name
    ground: LegalBasis | Literal["none"] | None = None


@dataclass(frozen=True, config=STRICT)
class Incident:
    """A breach of personal data: when it became known, and when the authority was told.

    `persons`: how many it concerns; `told_at`: when they were told.
    """

    name: Name
    known_at: AwareDatetime
    notified_at: AwareDatetime | None = None
    persons: Annotated[int, Field(ge=0)] | None = None
    told_at: AwareDatetime | None = None


@dataclass(frozen=True, config=STRICT)
class Records:
    """Everything in the file; None is unknown.

    `rows_updated`: when the source's rows were last brought up to date; `rows_since`: when the
    oldest of them were taken in.
    """

    attestations: tuple[Attestation, ...] = ()
    places: tuple[Place, ...] | None = None
    recipients: tuple[Recipient, ...] | None = None
    incidents: tuple[Incident, ...] | None = None
    rows_updated: datetime.date | None = None
    rows_since: datetime.date | None = None

    def rows_days(self, today: datetime.date) -> tuple[int | None, int | None]:
        """Days since `rows_updated` and `rows_since`; of a day that is yet to come, unknown."""
        return _days(self.rows_updated, today), _days(self.rows_since, today)


def _days(day: datetime.date | None, today: datetime.date) -> int | None:
    return None if day is None or day > today else (today - day).days


REMEDY = (
    "It must be TOML in UTF-8: text stands in quotes, a day is written 2026-03-02 and a time"
    " 2026-03-02T10:00:00+03:00."
)


def load_records(path: Path) -> Records:
    """Read a file of attestations.

    Raises:
        RulesError: unreadable, a field is wrong, two entries have one name, or a document is not
            the one attested.
    """
    records = _checked(_tables(path), str(path))
    _require_distinct(records, path)
    for attestation in records.attestations:
        if attestation.file is not None:
            _compare(path.parent / attestation.file, attestation)
    return records


def _require_distinct(records: Records, path: Path) -> None:
    """Of two places of one name, the second would hide what is wrong with the first."""
    for kind, entries in (("place", records.places), ("incident", records.incidents)):
        names = [entry.name for entry in entries or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RulesError(
                f"{path}: the {kind} {twice[0]!r} stands twice.",
                remedy="Keep one entry, or give each its own name.",
            )


def _tables(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
        return tomllib.loads(raw.decode("utf-8"))
    except OSError as error:
        raise RulesError(
            f"{path}: the attestations cannot be read ({error.strerror}).",
            remedy="Check the path.",
        ) from error
    except ValueError as error:
        raise RulesError(
            f"{path}: the attestations cannot be read ({error}).", remedy=REMEDY
        ) from error


def _checked(tables: dict[str, Any], place: str) -> Records:
    try:
        text = json.dumps(tables, default=lambda moment: moment.isoformat())
        return TypeAdapter(Records).validate_json(text, strict=True)
    except ValidationError as error:
        raise RulesError(
            f"{place}: {first_problem(error)}",
            remedy="Correct this field; docs/reference/rules.md lists them all.",
        ) from error


def _compare(document: Path, attestation: Attestation) -> None:
    try:
        found = hashlib.sha256(document.read_bytes()).hexdigest()
    except OSError as error:
        raise RulesError(
            f"{document}: the document of {attestation.kind!r} cannot be read ({error.strerror}).",
            remedy="Put it beside the attestations, or leave `file` out.",
        ) from error
    if found != attestation.sha256:
        raise RulesError(
            f"{document}: is not the document that {attestation.name} attested for"
            f" {attestation.kind!r}: its SHA-256 is {found}.",
            remedy="Find the document that was attested, or have this one attested anew.",
        )
