"""Errors of rule packs and of the records that they read."""

from __future__ import annotations

from pydantic import ValidationError

from kesit_privacy.errors import KesitError


class RulesError(KesitError):
    """A rule pack or a file of attestations that cannot be used; names the rule or the entry."""


def first_problem(error: ValidationError) -> str:
    """Where the first mistake is and what it is, in one line."""
    # A misspelt field shows as an unknown one and a missing one: name what the author wrote.
    errors = sorted(error.errors(), key=lambda e: e["type"] != "unexpected_keyword_argument")
    where = ".".join(str(part) for part in errors[0]["loc"])
    message = errors[0]["msg"].removeprefix("Value error, ")
    if errors[0]["type"] == "unexpected_keyword_argument":
        message = "is not a field that is known here"
    return f"{where + ': ' if where else ''}{message}."
