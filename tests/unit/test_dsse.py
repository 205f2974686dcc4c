"""An officer's detached signatures."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enrolkit import NOW, identity, leaves, pick, put
from kesit_privacy.dsse import PAYLOAD_TYPE, pre_authentication, sign_file, verify_file
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import fingerprint

OFFICER = identity(7)
TOLD = fingerprint(OFFICER.public)


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A file and its signature."""
    file, signature = tmp_path / "privacy.json", tmp_path / "privacy.json.sig"
    file.write_bytes("gizlilik açıklaması".encode())
    signature.write_bytes(sign_file(file, OFFICER, NOW))
    return file, signature


def test_a_signature_holds_for_its_file_and_its_officer(signed: tuple[Path, Path]) -> None:
    found = verify_file(*signed, TOLD)
    assert (found.signer, found.signed_at) == (OFFICER.public, NOW)
    with pytest.raises(ProtocolError, match=f"is a signature of {TOLD}"):
        verify_file(*signed, fingerprint(identity(8).public))


def test_another_file_does_not_pass(signed: tuple[Path, Path]) -> None:
    file, signature = signed
    for data in (b"", file.read_bytes() + b" ", file.read_bytes().replace(b"z", b"s")):
        file.write_bytes(data)
        with pytest.raises(ProtocolError, match="not the file that was signed"):
            verify_file(file, signature, TOLD)


def test_it_is_an_envelope_that_any_dsse_tool_verifies(signed: tuple[Path, Path]) -> None:
    envelope = json.loads(signed[1].read_bytes())
    payload = base64.b64decode(envelope["payload"])
    assert pre_authentication("http://a", b"hello") == b"DSSEv1 8 http://a 5 hello"
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(OFFICER.public))
    key.verify(
        base64.b64decode(envelope["signatures"][0]["sig"]),
        pre_authentication(PAYLOAD_TYPE, payload),
    )


def test_every_field_that_is_changed_is_refused(signed: tuple[Path, Path]) -> None:
    file, signature = signed
    value = json.loads(signature.read_bytes())
    for way in leaves(value):
        old = pick(value, way)
        for other in (None, 1, [], "", "x", old[:-1], old + "=", "A" * 88, "ab" * 32):
            copy: Any = json.loads(json.dumps(value))
            put(copy, way, other)
            signature.write_text(json.dumps(copy))
            with pytest.raises(ProtocolError):
                verify_file(file, signature, TOLD)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(signed: tuple[Path, Path], data: bytes) -> None:
    broken = signed[1].with_suffix(".broken")
    broken.write_bytes(data)
    with pytest.raises(ProtocolError, match="is no signature"):
        verify_file(signed[0], broken, TOLD)


def test_files_that_are_not_there(signed: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(KesitError, match="absent: cannot be read"):
        sign_file(tmp_path / "absent", OFFICER)
    with pytest.raises(KesitError, match="absent: cannot be read"):
        verify_file(signed[0], tmp_path / "absent", TOLD)
