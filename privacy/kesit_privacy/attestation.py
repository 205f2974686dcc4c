"""What a client signs about a run, and the proof that one person gets of it.

An attestation is a DSSE envelope over canonical JSON. It holds nothing that depends on customers
but the root of a padded tree of salted commitments, which tells nobody anything without a salt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kesit_privacy import canonical, merkle
from kesit_privacy.dsse import open_envelope, sign
from kesit_privacy.errors import ProtocolError
from kesit_privacy.identity import Identity
from kesit_privacy.signed import LATEST, hexadecimal, table, whole

PAYLOAD_TYPE: Final = "application/vnd.kesit.attestation+json"
FORMAT: Final = 1
REMEDY: Final = "Ask the member for it again."
INCLUDED: Final = "included"
EXCLUDED: Final = "excluded"
_FIELDS: Final = (
    "format",
    "study",
    "run",
    "consent",
    "sums",
    "rule_pack",
    "verdicts",
    "depth",
    "root",
    "signed_at",
)


@dataclass(frozen=True)
class Attestation:
    """What a client did in one run.

    Attributes:
        consent: "required" if the run's sums looked at consents, or "not-kept".
        sums: (step, attempt, hash of the instruction) of every sum that was answered.
        rule_pack: id and version of the rules that were checked, or None.
        verdicts: their results, as plain data: released values only.
        depth, root: of the tree over the consents that the last sum counted; None if no consents
            are kept, or no sum was answered. The depth follows from the study.
        signed_at: Unix seconds.
    """

    study: str
    run: str
    consent: str
    sums: tuple[tuple[str, int, str], ...]
    depth: int | None
    root: str | None
    signed_at: int
    rule_pack: tuple[str, str] | None = None
    verdicts: tuple[Mapping[str, Any], ...] = ()
    signer: str = ""

    def sign(self, identity: Identity) -> bytes:
        """The envelope (JSON), signed by the client's identity.

        Raises:
            ProtocolError: a verdict holds what has no canonical form.
        """
        payload = canonical.encode(
            {
                "format": FORMAT,
                "study": self.study,
                "run": self.run,
                "consent": self.consent,
                "sums": [list(item) for item in self.sums],
                "rule_pack": None if self.rule_pack is None else list(self.rule_pack),
                "verdicts": [dict(item) for item in self.verdicts],
                "depth": self.depth,
                "root": self.root,
                "signed_at": self.signed_at,
            }
        )
        return sign(PAYLOAD_TYPE, payload, identity)


def read_attestation(data: bytes) -> Attestation:
    """What an attestation says; `signer` is who signed it.

    Raises:
        ProtocolError: malformed, of another kind, or the signature does not hold.
    """
    try:
        signer, payload = open_envelope(data, PAYLOAD_TYPE)
        fields = table(canonical.decode(payload), *_FIELDS)
        if fields["format"] != FORMAT:
            raise ValueError("another format")
        pack, depth, root = fields["rule_pack"], fields["depth"], fields["root"]
        return Attestation(
            study=hexadecimal(fields["study"], 32),
            run=hexadecimal(fields["run"], 16),
            consent=_one_of(fields["consent"], "required", "not-kept"),
            sums=tuple(
                (str(s), whole(a, 1, 1000), hexadecimal(i, 32)) for s, a, i in fields["sums"]
            ),
            depth=None if depth is None else whole(depth, 1, 64),
            root=None if root is None else hexadecimal(root, 32),
            signed_at=whole(fields["signed_at"], 0, LATEST),
            rule_pack=None if pack is None else (str(pack[0]), str(pack[1])),
            verdicts=tuple(dict(item) for item in fields["verdicts"]),
            signer=signer,
        )
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, ProtocolError) as error:
        cause = error.cause if isinstance(error, ProtocolError) else str(error)
        raise ProtocolError(f"This is no attestation ({cause}).", remedy=REMEDY) from error


def commitment(salt: bytes, principal: str, decision: str, digest: str) -> bytes:
    """A person's leaf: SHA-256 over salt, id, decision and record digest, each with its length."""
    parts = [salt, principal.encode(), decision.encode(), digest.encode()]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.sha256(b"kesit consent leaf v1" + framed).digest()


@dataclass(frozen=True)
class Proof:
    """What a person needs, beside the public attestation, to check what was done with its data.

    Attributes:
        salt: the person's own (64 hex digits): whoever holds it can link the leaf to the id.
        decision: "included", or "excluded: " with the reason and the time.
        digest: of the record that decided, or "".
        siblings: from the leaf up (64 hex digits each).
    """

    run: str
    principal: str
    decision: str
    digest: str
    salt: str
    place: int
    siblings: tuple[str, ...]

    @property
    def included(self) -> bool:
        """Whether the person was counted in the run's last sum."""
        return self.decision == INCLUDED

    def encoded(self) -> bytes:
        """As a file."""
        return canonical.encode({**vars(self), "siblings": list(self.siblings)}) + b"\n"


def read_proof(data: bytes) -> Proof:
    """A proof from its file.

    Raises:
        ProtocolError: malformed.
    """
    try:
        fields = table(canonical.decode(data.strip()), *Proof.__dataclass_fields__)
        return Proof(
            run=hexadecimal(fields["run"], 16),
            principal=str(fields["principal"]),
            decision=str(fields["decision"]),
            digest=str(fields["digest"]),
            salt=hexadecimal(fields["salt"], 32),
            place=whole(fields["place"], 0, 1 << 62),
            siblings=tuple(hexadecimal(item, 32) for item in fields["siblings"]),
        )
    except (ValueError, TypeError, KeyError, ProtocolError) as error:
        raise ProtocolError("This is no proof of a consent.", remedy=REMEDY) from error


def verify_proof(proof: Proof, attestation: Attestation) -> bool:
    """Whether the attestation's tree says of this person what the proof says.

    The caller checks `attestation.signer`: that it is the member that it should be.
    """
    if attestation.root is None or proof.run != attestation.run:
        return False
    if len(proof.siblings) != attestation.depth:
        return False
    data = commitment(bytes.fromhex(proof.salt), proof.principal, proof.decision, proof.digest)
    return merkle.verify_path(
        merkle.leaf_hash(data),
        proof.place,
        [bytes.fromhex(item) for item in proof.siblings],
        bytes.fromhex(attestation.root),
    )


def _one_of(value: Any, *allowed: str) -> str:
    if value not in allowed:
        raise ValueError("an unknown word")
    return str(value)
