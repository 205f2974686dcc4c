"""The policy file: what a client's owner allows, in one TOML file that a person can read.

The policy is the client's own. Nothing that a server sends extends it: not its pins, not its caps.
"""

from __future__ import annotations

import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import Field
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
    """The cap over all purposes, studies and runs, for ever, at one fixed δ."""

    epsilon: Epsilon
    delta: Annotated[float, Field(gt=0, lt=0.1)]


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


@dataclass(frozen=True, config=STRICT)
class Policy:
    """What this client answers, with whom, and for how much.

    Attributes:
        purposes, features, queries: what may be asked for; anything else is refused.
        min_roster: members that must stand together, whatever a study says.
        min_customers: fewer customers than this, and `check` advises against a run.
        servers, peers: pinned Ed25519 identities (peers by a name of the owner's choice).
        lifetime, periods, purpose_caps: caps on ε, all at the lifetime's δ.
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
