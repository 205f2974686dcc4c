"""consent.toml: where the consent store is, and what every record of this client has in common."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from kesit_client.consent.terms import TERMS
from kesit_client.errors import ConsentError
from kesit_privacy.errors import StudyError
from kesit_privacy.features import STRICT
from kesit_privacy.tables import validated

CONSENT: Final = "consent.toml"
STORE: Final = "consent.sqlite"
MEGABYTE: Final = 1 << 20


@dataclass(frozen=True, config=STRICT)
class ConsentSettings:
    """What consent.toml says; every field may be left out.

    Attributes:
        url: of the store (SQLAlchemy); by default the file consent.sqlite in the client's folder.
        purposes: for which records may be imported, beside those of the policy.
        controllers: whose consents these are, as `pii_controllers` names them; a consent that was
            given to another is refused. None if nobody said.
        defaults: values of shared fields (`terms.TERMS`) that a file does not state.
        max_file_mb: larger files are refused.
        retention_years: how long a consent's proof is kept after it ended.
        iys_proof_years: the same for approvals of messages. Sources say one year or three.
        marketing_purposes: which purposes are direct marketing; None if nobody said.
    """

    url: str | None = None
    purposes: tuple[str, ...] = ()
    controllers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    defaults: dict[str, str] = Field(default_factory=dict)
    max_file_mb: Annotated[float, Field(gt=0, le=1 << 20)] = 2048.0
    retention_years: Annotated[int, Field(ge=1, le=30)] = 3
    iys_proof_years: Annotated[int, Field(ge=1, le=30)] = 3
    marketing_purposes: tuple[str, ...] | None = None

    @field_validator("defaults")
    @classmethod
    def _known(cls, defaults: dict[str, str]) -> dict[str, str]:
        strange = sorted(set(defaults) - set(TERMS))
        if strange:
            raise ValueError(f"no shared field is called {', '.join(strange)}")
        return defaults

    def kept(self, home: Path) -> bool:
        """Whether a store was made; before the first import or request there is none."""
        return self.url is not None or (home / STORE).is_file()

    @classmethod
    def load(cls, home: Path) -> ConsentSettings:
        """The settings of a client's folder; all defaults if it has no consent.toml.

        Raises:
            ConsentError: unreadable, or a field is wrong; the error names it.
        """
        path = home / CONSENT
        try:
            return validated(cls, tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConsentError(
                f"{path}: cannot be read ({error}).", remedy="It must be a TOML file in UTF-8."
            ) from error
        except StudyError as error:
            raise ConsentError(
                f"{path}: {error.cause}", remedy="Correct this field of consent.toml."
            ) from error
