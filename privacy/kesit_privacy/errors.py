"""The hierarchy of errors, rooted here for every Kesit package.

Every error tells its reader two things: what went wrong (the cause) and what would help (the
remedy). Text of these errors is for the owner of the machine on which they are raised; what
crosses the network is only a `RefusalCode` (see `kesit_privacy.wire`), because an exception's text
can hold data.

    KesitError
    ├── StudyError           a study file that cannot be used; names the field
    ├── BudgetError          a privacy budget that cannot be spent so
    ├── ProtocolError        bytes that break a rule of the private sum
    └── (one subclass a package: ClientError, ServerError, SimulationError, AuditError)
"""

from __future__ import annotations


class KesitError(Exception):
    """Base of all errors that Kesit raises on purpose.

    Args:
        cause: what is wrong, naming the field, file or step.
        remedy: what the reader can do about it.
    """

    def __init__(self, cause: str, *, remedy: str) -> None:
        super().__init__(f"{cause} {remedy}")
        self.cause = cause
        self.remedy = remedy


class StudyError(KesitError):
    """A study that cannot be used. `field` is its dotted path in the TOML file."""

    def __init__(self, field: str, cause: str, *, remedy: str) -> None:
        super().__init__(f"{field}: {cause}", remedy=remedy)
        self.field = field


class BudgetError(KesitError):
    """A privacy budget that is exhausted, or too small for what is asked of it."""


class ProtocolError(KesitError):
    """Bytes that break a rule of the private sum."""


class ModelError(KesitError):
    """A model file that cannot be read, or does not fit the customers."""
