"""Errors that the coordinator sees."""

from __future__ import annotations

from kesit_privacy.errors import KesitError


class ServerError(KesitError):
    """Base of the server's errors."""


class FederationError(ServerError):
    """Too few members are left to open a sum, or a member's answer breaks the protocol."""


class ResultError(ServerError):
    """A result that cannot be written, or that cannot be read again."""


class DeploymentError(ServerError):
    """A coordinator's folder that cannot be used, or a server process that is not as it must be."""
