"""Errors of the audits."""

from __future__ import annotations

from kesit_privacy.errors import KesitError


class AuditError(KesitError):
    """An audit that cannot be made as asked: too few scores, a number out of range, no canary."""
