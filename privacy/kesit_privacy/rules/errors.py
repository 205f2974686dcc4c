"""Errors of rule packs and of the records that they read."""

from __future__ import annotations

from kesit_privacy.errors import KesitError


class RulesError(KesitError):
    """A rule pack or a file of attestations that cannot be used; names the rule or the entry."""
