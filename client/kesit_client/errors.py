"""Errors that a client's owner sees. Their text never leaves the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kesit_privacy.errors import KesitError


class ClientError(KesitError):
    """Base of the client's errors."""


class SourceError(ClientError):
    """A data source that cannot be opened, or lacks a column."""


class PolicyError(ClientError):
    """A policy file that cannot be used."""


class StoreError(ClientError):
    """Books that cannot be opened or trusted."""


class ConsentError(ClientError):
    """Consent records, requests or their settings that cannot be used."""


class ConsentStoreError(ConsentError):
    """A consent store that cannot be opened, read or written."""


class LinkError(ClientError):
    """A connection to the server that cannot work until somebody changes something."""


class CertificateError(LinkError):
    """The server's certificate is not one that this node trusts, or it is out of date."""


class AdmissionError(LinkError):
    """The server does not admit this node's key: never registered, or revoked."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a client's data: where, what, and what would help."""

    field: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}: {self.cause} {self.remedy}"


class DataError(ClientError):
    """Data that do not fit the study's dictionary; holds every problem that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.field}: {first.cause}{more}", remedy=first.remedy)
        self.problems = tuple(problems)
