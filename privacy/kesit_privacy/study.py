"""The study: what the members agree on, as one frozen value with one hash.

A study is read from TOML, checked field by field, and completed with the default plan of its
recipe. Its hash covers every field that can change what is asked of customers' data, so two
members whose hashes agree hold the same study. Tables that describe a machine and not the agreement
(`[simulation]`) are no part of it.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from kesit_privacy import accounting, canonical
from kesit_privacy.errors import StudyError
from kesit_privacy.features import STRICT, Feature, Name

T = TypeVar("T")

STUDY_FORMAT = 1
MAX_STUDY_BYTES = 4 << 20
LOCAL_TABLES = ("simulation",)
LARGEST_EPSILON = 100

LegalBasis = Literal[
    "explicit-consent",
    "law",
    "protection-of-life",
    "contract",
    "legal-obligation",
    "made-public",
    "establishment-of-right",
    "legitimate-interest",
]
"""The grounds of Law 6698, article 5(1) and 5(2)(a), (b), (c), (ç), (d), (e), (f)."""


@dataclass(frozen=True, config=STRICT)
class RosterRules:
    """Who must stand together for a sum.

    `min_size` members at least answer each sum; any `max_colluders` of them may pool what they know
    (the server included) without weakening the noise below what was charged.
    `silence_probability` is the chance that a member misses one message.
    """

    min_size: Annotated[int, Field(ge=2, le=100_000)] = 3
    max_colluders: Annotated[int, Field(ge=0, le=10_000)] = 1
    silence_probability: Annotated[float, Field(ge=0, lt=1)] = 0.002

    @model_validator(mode="after")
    def _honest_enough(self) -> RosterRules:
        if self.min_size < self.max_colluders + 2:
            raise ValueError(
                f"min_size ({self.min_size}) must be at least max_colluders + 2"
                f" ({self.max_colluders + 2}), or a sum could be one member's own"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class Segmentation:
    """k-means: number of segments, and which features it sees (all of them if empty)."""

    k: Annotated[int, Field(ge=2, le=250)]
    features: tuple[Name, ...] = ()


@dataclass(frozen=True, config=STRICT)
class Thresholds:
    """What a released segment must at least hold."""

    min_segment_size: Annotated[int, Field(ge=1)] = 50


@dataclass(frozen=True, config=STRICT)
class PlanStep:
    """One sum of the plan, and the most one attempt at it may cost: a share of the study's μ²."""

    step: Name
    query: Name
    share: Annotated[float, Field(gt=0, le=1)]

    @cached_property
    def exact_share(self) -> Fraction:
        """The share as the decimal number that stands in the file."""
        return Fraction(repr(self.share))


@dataclass(frozen=True, config=STRICT)
class Study:
    """A federated study. Build it with `load`, `from_toml` or `from_tables`."""

    name: Name
    purpose: Name
    legal_basis: LegalBasis
    epsilon: Annotated[float, Field(gt=0, le=LARGEST_EPSILON)]
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    declared_customers: Annotated[int, Field(ge=1, le=10**10)]
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=2000)]
    segmentation: Segmentation
    max_clients_per_customer: Annotated[int, Field(ge=1, le=1000)] = 1
    roster: RosterRules = RosterRules()
    thresholds: Thresholds = Thresholds()
    protected: tuple[Name, ...] = ()
    target: Name | None = None
    plan: tuple[PlanStep, ...] = ()

    @field_validator("features")
    @classmethod
    def _distinct_features(cls, features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        names = [feature.name for feature in features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"features are defined twice: {', '.join(twice)}")
        return features

    @field_validator("plan")
    @classmethod
    def _plan_adds_up(cls, plan: tuple[PlanStep, ...]) -> tuple[PlanStep, ...]:
        steps = [step.step for step in plan]
        if len(set(steps)) != len(steps):
            raise ValueError("two steps have the same name")
        if plan and sum(step.exact_share for step in plan) != 1:
            total = float(sum(step.exact_share for step in plan))
            raise ValueError(f"the shares add up to {total:g}; they must add up to exactly 1")
        return plan

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a study from a TOML file.

        Raises:
            StudyError: the file cannot be read, or a field is wrong; the error names it.
        """
        return cls.from_tables(read_tables(path))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """Read a study from TOML text."""
        return cls.from_tables(_parse(text, "study"))

    @classmethod
    def from_tables(cls, tables: dict[str, Any]) -> Self:
        """A checked study, completed with its recipe's default plan, from parsed TOML."""
        from kesit_privacy.recipes import complete

        agreed = {key: value for key, value in tables.items() if key not in LOCAL_TABLES}
        study = validated(cls, agreed)
        return replace(study, plan=complete(study))

    @cached_property
    def canonical(self) -> bytes:
        """The bytes under the hash: canonical JSON of every field, with the format's number."""
        return canonical.encode({"kesit_study": STUDY_FORMAT, **asdict(self)}, floats=True)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical`, in hex."""
        return canonical.digest(self.canonical).hex()

    @cached_property
    def mu2_units(self) -> int:
        """The study's whole budget: μ² at (ε, δ), in units of `accounting.UNIT`, rounded down."""
        return accounting.budget_units(self.epsilon, self.delta)

    def step(self, name: str) -> PlanStep | None:
        """The plan's step of that name, or None."""
        return next((step for step in self.plan if step.step == name), None)

    def step_units(self, step: PlanStep) -> int:
        """The most that one attempt at `step` may cost, in units of `accounting.UNIT`."""
        return int(self.mu2_units * step.exact_share)


def read_tables(path: Path) -> dict[str, Any]:
    """Parsed TOML of a study file, its local tables included.

    Raises:
        StudyError: missing, too large, not UTF-8, or not TOML.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StudyError(
            str(path),
            f"cannot be read ({error.strerror}).",
            remedy="Give the path of a study file; `kesit study new FILE` writes one.",
        ) from error
    if len(raw) > MAX_STUDY_BYTES:
        raise StudyError(
            str(path), f"is larger than {MAX_STUDY_BYTES >> 20} MiB.", remedy="Is it a study file?"
        )
    try:
        return _parse(raw.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise StudyError(
            str(path), f"is not UTF-8 (byte {error.start}).", remedy="Save the file as UTF-8."
        ) from error


def validated(cls: type[T], tables: dict[str, Any]) -> T:
    """`tables` as a checked `cls` (a pydantic dataclass).

    Raises:
        StudyError: naming the first field that is wrong.
    """
    try:
        # TOML's dates and times fit no field: as lists they are refused where they stand.
        text = json.dumps(tables, default=lambda moment: [str(moment)])
        return TypeAdapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        # A misspelt field shows as an unknown one and a missing one: name what the author wrote.
        errors = sorted(error.errors(), key=lambda e: e["type"] != "unexpected_keyword_argument")
        first = errors[0]
        field = ".".join(
            str(part) for part in first["loc"] if part not in ("numeric", "categorical")
        )
        cause = first["msg"].removeprefix("Value error, ")
        if first["type"] == "unexpected_keyword_argument":
            cause = "is not a field that is known here"
        raise StudyError(
            field or "study",
            f"{cause[0].lower()}{cause[1:]}.",
            remedy="Correct this field; `kesit study new -` prints a template that explains it.",
        ) from error


def _parse(text: str, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(place, f"is not TOML: {error}.", remedy="Correct that line.") from error
