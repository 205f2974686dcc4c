"""The policy file: what a client's owner allows, in one TOML file that a person can read.

The policy is the client's own. Nothing that a server sends extends it: not its pins, not its caps.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from kesit_client.errors import PolicyError
from kesit_privacy import accounting
from kesit_privacy.errors import StudyError
from kesit_privacy.features import STRICT, Name
from kesit_privacy.tables import validated

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Epsilon = Annotated[float, Field(gt=0, le=1000)]


@dataclass(frozen=True, config=STRICT)
class Lifetime:
    """The caps over all purposes, studies and runs, for ever, at one fixed δ.

    `epsilon` is that of the noisy sums; `neural_epsilon` that of trainings (`pots`), at the same δ.
    The two add, and so do their δ. Without the second no network is trained here.
    """

    epsilon: Epsilon
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    neural_epsilon: Epsilon | None = None


@dataclass(frozen=True, config=STRICT)
class Period:
    """A lower cap over any `days` days in a row. It forgets; the lifetime cap does not."""

    days: Annotated[int, Field(ge=1, le=36_500)]
    epsilon: Epsilon


@dataclass(frozen=True, config=STRICT)
class PurposeCap:
    """A lower cap for one purpose."""

    purpose: Name
    epsilon: Epsilon


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])")


@dataclass(frozen=True, config=STRICT)
class Window:
    """When the node answers, by the clock on its wall.

    `hours` from 22:00 to 06:00 go through the night; what comes after midnight belongs to the day
    on which the night began. The last minute is not included; "00:00-24:00" is the whole day.
    """

    hours: str = "00:00-24:00"
    days: Annotated[tuple[Day, ...], Field(min_length=1)] = WEEK
    time_zone: str = "Europe/Istanbul"

    @field_validator("hours")
    @classmethod
    def _readable(cls, hours: str) -> str:
        start, end = _minutes(hours)
        if start == end or start >= 24 * 60 or end > 24 * 60:
            raise ValueError('must be two different times of day, as in "08:00-18:00"')
        return hours

    @field_validator("time_zone")
    @classmethod
    def _known(cls, time_zone: str) -> str:
        try:
            ZoneInfo(time_zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError('must be a time zone such as "Europe/Istanbul"') from error
        return time_zone

    def holds(self, moment: float) -> bool:
        """Whether the node answers at `moment` (Unix seconds)."""
        local = datetime.datetime.fromtimestamp(moment, ZoneInfo(self.time_zone))
        start, end = _minutes(self.hours)
        minute = local.hour * 60 + local.minute
        if start < end:
            return start <= minute < end and WEEK[local.weekday()] in self.days
        if minute >= start:
            return WEEK[local.weekday()] in self.days
        return minute < end and WEEK[local.weekday() - 1] in self.days


def _minutes(hours: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(hours)
    if found is None:
        raise ValueError('must be two times of day, as in "08:00-18:00"')
    start, start_minute, end, end_minute = map(int, found.groups())
    return start * 60 + start_minute, end * 60 + end_minute


@dataclass(frozen=True, config=STRICT)
class Policy:
    """What this client answers, with whom, and for how much.

    Attributes:
        purposes, features, queries: what may be asked for; anything else is refused.
        min_roster: members that must stand together, whatever a study says.
        min_customers: fewer customers than this, and `check` advises against a run.
        servers, peers: pinned Ed25519 identities (peers by a name of the owner's choice).
        lifetime, periods, purpose_caps: caps on ε, all at the lifetime's δ.
        studies: only these hashes, if given; each must be approved as well.
        max_epsilon: the most that one study may cost, at the lifetime's δ.
        max_roster: the most members that may stand together.
        bundles: the Flower bundles (SHA-256) of whose runs the node takes messages; by default the
            one of its own installation. What a bundle holds is never run.
        window: when the node answers.
        consent: "required" if a row counts only with a ground in the consent store; "not-kept" if
            the owner keeps no such store, and sees to it in another way.
        rules: packs of rules of data protection; a study that one of them blocks is not approved,
            and no run of it begins.
    """

    purposes: tuple[Name, ...]
    features: tuple[Name, ...]
    queries: tuple[Name, ...]
    min_roster: Annotated[int, Field(ge=2)]
    servers: tuple[Key, ...]
    peers: dict[Name, Key]
    lifetime: Lifetime
    min_customers: Annotated[int, Field(ge=1)] = 1
    periods: tuple[Period, ...] = ()
    purpose_caps: tuple[PurposeCap, ...] = ()
    studies: tuple[Key, ...] | None = None
    max_epsilon: Epsilon | None = None
    max_roster: Annotated[int, Field(ge=2)] | None = None
    bundles: tuple[Key, ...] | None = None
    window: Window | None = None
    consent: Literal["required", "not-kept"] = "not-kept"
    rules: tuple[Literal["kvkk", "gdpr"], ...] = ("kvkk",)

    @classmethod
    def load(cls, path: Path) -> Policy:
        """Read a policy from a TOML file.

        Raises:
            PolicyError: unreadable, or a field is wrong; the error names it.
        """
        try:
            return validated(cls, tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise PolicyError(
                f"{path}: the policy cannot be read ({error}).",
                remedy="It must be a TOML file in UTF-8.",
            ) from error
        except StudyError as error:
            raise PolicyError(
                f"{path}: {error.cause}", remedy="Correct this field of the policy."
            ) from error

    @cached_property
    def pinned(self) -> frozenset[str]:
        """Identities of all pinned peers."""
        return frozenset(self.peers.values())

    def units(self, epsilon: float) -> int:
        """A cap on ε as units of μ² at the lifetime's δ."""
        return accounting.budget_units(epsilon, self.lifetime.delta)
