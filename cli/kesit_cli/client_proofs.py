"""`kesit client consent prove`, `verify`, `attest`: what was done in a run, and with a person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kesit_cli import keys, show
from kesit_cli.files import write_private
from kesit_cli.keys import Home
from kesit_cli.stores import opened

Person = Annotated[str, typer.Argument(metavar="ID", hidden=True)]


def prove(
    person: Person,
    home: Home,
    run: Annotated[str, typer.Option(metavar="RUN", help="The run, or the beginning of its id.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it (proof.json).")
    ] = None,
) -> None:
    """Write the proof of what was done with the person ID's data in a run: for that person alone.

    Together with the member's attestation it shows whether the person was counted. Whoever holds
    it can link the person to a leaf of the tree.

    \b
    Example:
      kesit client consent prove 4711 --run 3f2a91c0... --home ankara --out proof.json
    """
    from kesit_client.consent import attesting
    from kesit_client.consent.keeping import person_id

    with opened(home) as store:
        proof = attesting.prove(store, person_id(person), run)
    place = out or Path("proof.json")
    write_private(place, proof.encoded())
    facts = [("Decision", proof.decision), ("Proof", str(place))]
    show.print_facts(show.console(), facts)


def verify(
    proof_file: Annotated[Path, typer.Argument(metavar="PROOF", hidden=True)],
    attestation_file: Annotated[Path, typer.Argument(metavar="ATTESTATION", hidden=True)],
    member: Annotated[
        str, typer.Option(metavar="FINGERPRINT", help="The member that must have signed.")
    ],
) -> None:
    """Say whether an ATTESTATION of a member says of a person what its PROOF says.

    \b
    Example:
      kesit client consent verify proof.json attestation.json --member "3f2a 91c0 ..."
    """
    from kesit_privacy import attestation as attested
    from kesit_privacy.errors import ProtocolError
    from kesit_privacy.identity import fingerprint, read_fingerprint
    from kesit_privacy.signed import read_bytes

    data = read_bytes(attestation_file, "an attestation", attested.REMEDY)
    statement = attested.read_attestation(data)
    proof = attested.read_proof(read_bytes(proof_file, "a proof", attested.REMEDY))
    found = fingerprint(statement.signer)
    if found != read_fingerprint(member):
        raise ProtocolError(f"{found} signed it, not {member}.", remedy=attested.REMEDY)
    if not attested.verify_proof(proof, statement):
        raise ProtocolError(
            "The proof does not lead to the attestation's root.", remedy=attested.REMEDY
        )
    show.print_facts(
        show.console(),
        [
            ("Holds", proof.decision),
            ("Person", proof.principal),
            ("Run", proof.run),
            ("Member", found),
        ],
    )


def attest(run: Annotated[str, typer.Argument(metavar="RUN", hidden=True)], home: Home) -> None:
    """Sign what this client did in RUN, once more or for the first time.

    \b
    Example:
      kesit client attest 3f2a91c0... --home ankara
    """
    from kesit_client.consent.signing import attest_home

    place = attest_home(home, run, unlock=keys.unlock)
    show.print_facts(show.console(), [("Attestation", str(place))])
