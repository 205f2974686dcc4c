"""Passphrases and fingerprints at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path, typer.Option("--home", metavar="FOLDER", help="The folder of keys and settings.")
]
NoPassphrase = Annotated[
    bool, typer.Option("--no-passphrase", help="Do not ask for a passphrase; leave the key open.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing: for scripts.")]


def unlock(path: Path) -> bytes | None:
    """The passphrase of a locked key: the environment's, or the one that a person types."""
    from kesit_privacy.keyfiles import passphrase_from_environment

    given = passphrase_from_environment()
    if given is not None or not sys.stdin.isatty():
        return given
    text: str = typer.prompt(f"Passphrase of {path}", hide_input=True, err=True)
    return text.encode()


def new_passphrase(what: str, *, none: bool) -> bytes | None:
    """The passphrase for a new key: the environment's, or the one that a person types twice."""
    from kesit_privacy.keyfiles import checked_passphrase, passphrase_from_environment

    if none:
        return None
    given = passphrase_from_environment()
    if given is not None or not sys.stdin.isatty():
        return given
    text: str = typer.prompt(
        f"A passphrase for {what} (empty: none)",
        default="",
        show_default=False,
        hide_input=True,
        confirmation_prompt=True,
        err=True,
    )
    return checked_passphrase(text.encode(), "The passphrase") if text else None


def confirmed(question: str, *, yes: bool) -> None:
    """Ask a person, unless `--yes` was given.

    Raises:
        KesitError: the answer is no, or nobody can be asked.
    """
    if yes:
        return
    from kesit_privacy.errors import KesitError

    if not sys.stdin.isatty():
        raise KesitError(
            "This needs a person's consent, and there is no terminal to ask on.",
            remedy="Repeat it with --yes, once you have compared what it shows.",
        )
    if not typer.confirm(question, err=True):
        raise KesitError("Nothing was changed.", remedy="Repeat it when you are sure.")


def joined_text(parts: list[str]) -> str:
    """A fingerprint that the shell cut at its spaces."""
    return " ".join(parts)
