"""What a study says of itself for the rules of data protection: optional, each field for itself.

A field that is left out says nothing, which is not the same as no. What is said is under the
study's hash; what is not said leaves the hash as it was.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from kesit_privacy.features import STRICT, Sentence

SpecialGround = Literal[
    "explicit-consent",
    "law",
    "protection-of-life",
    "made-public",
    "establishment-of-right",
    "health-services",
    "employment-duties",
    "association-members",
]
"""The grounds of Law 6698, article 6(3)(a), (b), (c), (ç), (d), (e), (f), (g)."""

Region = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
"""A country by its two letters (ISO 3166-1)."""


@dataclass(frozen=True, config=STRICT)
class Processing:
    """How the study handles personal data.

    Attributes:
        description: the purpose in a sentence that a customer would understand.
        retention_days: how long the rows, the codes and the result are kept at most.
        profiling: whether customers are profiled.
        automated_decisions: whether a decision about a person follows without a human being.
        special_ground: the ground on which special categories are processed, if there are any.
        regions: countries in which members and the server may stand.
    """

    description: Sentence | None = None
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    profiling: bool | None = None
    automated_decisions: bool | None = None
    special_ground: SpecialGround | None = None
    regions: Annotated[tuple[Region, ...], Field(min_length=1)] | None = None

    @field_validator("regions")
    @classmethod
    def _distinct(cls, regions: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if regions is not None and len(set(regions)) != len(regions):
            raise ValueError("a region stands twice")
        return regions
