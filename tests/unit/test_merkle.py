"""The padded tree: RFC 6962's hashes, and proofs that hold and betray no count."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kesit_privacy import merkle
from kesit_privacy.attestation import (
    Attestation,
    Proof,
    commitment,
    read_attestation,
    read_proof,
    verify_proof,
)
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import Identity

IDENTITY = Identity.from_seed(bytes(32))
FILL = merkle.filler(b"seed" * 8)


def test_a_full_tree_is_rfc_6962_s() -> None:
    """The test vectors of certificate transparency for 8 leaves."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    inputs.append("606162636465666768696a6b6c6d6e6f")
    leaves = {place: merkle.leaf_hash(bytes.fromhex(text)) for place, text in enumerate(inputs)}
    tree = merkle.levels(leaves, 3, FILL)
    expected = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert merkle.root(tree, FILL).hex() == expected
    assert merkle.leaf_hash(b"") == hashlib.sha256(b"\x00").digest()


@given(st.sets(st.integers(0, 1023), max_size=30), st.integers(0, 1023))
def test_a_proof_leads_to_the_root_and_another_leaf_does_not(places: set[int], place: int) -> None:
    leaves = {each: merkle.leaf_hash(b"%d" % each) for each in places | {place}}
    tree = merkle.levels(leaves, 10, FILL)
    root = merkle.root(tree, FILL)
    siblings = merkle.path(tree, place, FILL)
    assert len(siblings) == 10
    assert merkle.verify_path(leaves[place], place, siblings, root)
    assert not merkle.verify_path(merkle.leaf_hash(b"x"), place, siblings, root)
    assert not merkle.verify_path(leaves[place], place ^ 1, siblings, root)
    assert not merkle.verify_path(leaves[place], place + 1024, siblings, root)


def test_the_depth_follows_from_public_numbers_alone() -> None:
    assert [merkle.public_depth(n) for n in (1, 512, 513, 1000, 10**6, 10**10)] == [
        10,
        10,
        11,
        11,
        21,
        35,
    ]
    places = merkle.scatter(1000, 30)
    assert len(set(places)) == 1000
    # Places are uniform: with 1,000 of them the mean lies within six deviations of the middle.
    assert abs(sum(places) / 1000 / (1 << 30) - 0.5) < 6 / (12 * 1000) ** 0.5
    with pytest.raises(KesitError, match="declared_customers"):
        merkle.scatter(1025, 10)


def test_an_empty_tree_looks_like_any_other() -> None:
    tree = merkle.levels({}, 10, FILL)
    assert len(merkle.root(tree, FILL)) == 32
    assert merkle.root(tree, FILL) != merkle.root(tree, merkle.filler(b"x" * 32))


def attested() -> tuple[Attestation, Proof]:
    """An attestation, and the proof of one person."""
    salt = b"s" * 32
    leaf = merkle.leaf_hash(commitment(salt, "ayşe", "included", "d" * 64))
    tree = merkle.levels({77: leaf, 5: b"o" * 32}, 10, FILL)
    statement = Attestation(
        study="a" * 64,
        run="b" * 32,
        consent="required",
        sums=(("marginals", 1, "c" * 64),),
        depth=10,
        root=merkle.root(tree, FILL).hex(),
        signed_at=1_800_000_000,
        rule_pack=("tr-kvkk", "1.0"),
        verdicts=({"rule": "KVKK-4", "verdict": "pass"},),
    )
    siblings = tuple(item.hex() for item in merkle.path(tree, 77, FILL))
    proof = Proof("b" * 32, "ayşe", "included", "d" * 64, salt.hex(), 77, siblings)
    return statement, proof


def test_an_attestation_is_read_as_it_was_signed() -> None:
    statement, proof = attested()
    data = statement.sign(IDENTITY)
    found = read_attestation(data)
    assert found == replace(statement, signer=IDENTITY.public)
    assert verify_proof(read_proof(proof.encoded()), found)
    for broken in (b"", b"{}", data.replace(b"payload", b"pailoud", 1), data[:-40]):
        with pytest.raises(ProtocolError):
            read_attestation(broken)
    with pytest.raises(ProtocolError):
        read_proof(b"{}")


@pytest.mark.parametrize(
    "change",
    [
        {"decision": "excluded: withdrawn"},
        {"principal": "ayse"},
        {"digest": "e" * 64},
        {"salt": "00" * 32},
        {"place": 76},
        {"run": "c" * 32},
        {"siblings": ()},
    ],
)
def test_a_proof_that_was_changed_proves_nothing(change: dict[str, object]) -> None:
    statement, proof = attested()
    assert verify_proof(proof, statement)
    assert not verify_proof(replace(proof, **change), statement)  # type: ignore[arg-type]
    assert not verify_proof(proof, replace(statement, root=None, depth=None))


def test_fields_of_a_commitment_cannot_run_into_each_other() -> None:
    assert commitment(b"s", "ab", "c", "") != commitment(b"s", "a", "bc", "")
