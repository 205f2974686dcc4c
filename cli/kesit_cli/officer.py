"""`kesit officer`: a compliance officer's key, and signatures over files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kesit_cli import keys, show
from kesit_cli.files import write_new
from kesit_cli.keys import NoPassphrase

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

KEY = "officer.pem"
Key = Annotated[Path, typer.Option("--key", metavar="FILE", help="The officer's private key.")]


@app.callback()
def officer() -> None:
    """Sign files as a compliance officer, and verify such signatures."""


@app.command()
def init(key: Key = Path(KEY), no_passphrase: NoPassphrase = False) -> None:
    """Make an officer's key.

    \b
    Example:
      kesit officer init --key officer.pem
    """
    from kesit_privacy.identity import Identity, fingerprint

    identity = Identity.new()
    identity.save(key, keys.new_passphrase("the officer's key", none=no_passphrase))
    show.print_facts(
        show.console(),
        [
            ("Key", f"{key}; keep it to yourself"),
            ("Fingerprint", fingerprint(identity.public)),
            ("Next", f"kesit officer sign FILE --key {key}"),
        ],
    )


@app.command()
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", hidden=True)],
    key: Key = Path(KEY),
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The signature; by default FILE.sig.")
    ] = None,
) -> None:
    """Sign FILE: write a detached signature (DSSE) over its SHA-256.

    \b
    Example:
      kesit officer sign privacy.json --key officer.pem
    """
    from kesit_privacy.dsse import sign_file
    from kesit_privacy.errors import KesitError
    from kesit_privacy.identity import Identity, fingerprint

    if not key.exists():
        raise KesitError(
            f"{key}: there is no such key.",
            remedy=f"Give --key FILE, or make one: kesit officer init --key {key}",
        )
    identity = Identity.load(key, keys.unlock)
    place = file.with_name(f"{file.name}.sig") if out is None else out
    write_new(place, sign_file(file, identity).decode("ascii"))
    show.print_facts(
        show.console(), [("Signature", str(place)), ("Officer", fingerprint(identity.public))]
    )


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", hidden=True)],
    signature: Annotated[Path, typer.Argument(metavar="SIGNATURE", hidden=True)],
    officer: Annotated[str, typer.Option(metavar="FINGERPRINT", help="What the officer told you.")],
) -> None:
    """Verify that the officer of this fingerprint signed FILE.

    \b
    Example:
      kesit officer verify privacy.json privacy.json.sig --officer "3f2a 91c0 ..."
    """
    from kesit_privacy.dsse import verify_file

    signed = verify_file(file, signature, officer)
    moment = datetime.fromtimestamp(signed.signed_at, UTC)
    show.print_facts(
        show.console(),
        [("Holds", f"{file} was signed on {moment:%Y-%m-%d %H:%M} UTC, by the signer's clock")],
    )
