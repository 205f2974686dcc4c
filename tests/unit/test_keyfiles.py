"""Private keys on disk, passphrases, and the fingerprints that people compare."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from kesit_privacy import keyfiles, node_keys
from kesit_privacy.errors import KesitError, ProtocolError
from kesit_privacy.identity import FINGERPRINT_BITS, Identity, fingerprint, read_fingerprint
from kesit_privacy.keyfiles import PASSPHRASE, PASSPHRASE_FILE

posix = pytest.mark.skipif(os.name != "posix", reason="modes of files")


@pytest.fixture(autouse=True)
def _no_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSPHRASE, raising=False)
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "identity.pem"


def test_an_open_key_comes_back_and_only_its_owner_may_read_it(path: Path) -> None:
    identity = Identity.new()
    identity.save(path)
    assert Identity.load(path).public == identity.public
    assert not keyfiles.is_locked(path)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_locked_key_opens_with_its_passphrase_alone(path: Path) -> None:
    identity = Identity.new()
    identity.save(path, "şifre".encode())
    assert keyfiles.is_locked(path)
    assert Identity.load(path, lambda _: "şifre".encode()).public == identity.public
    with pytest.raises(KesitError, match=r"does not open it.*cannot be recovered"):
        Identity.load(path, lambda _: b"sifre")
    for none in (None, b""):
        with pytest.raises(KesitError, match="is locked with a passphrase") as error:
            Identity.load(path, lambda _, given=none: given)
        assert "enrol them as lost" in error.value.remedy


def test_nobody_is_asked_for_the_passphrase_of_an_open_key(path: Path) -> None:
    Identity.new().save(path)
    Identity.load(path, lambda _: pytest.fail("asked"))


def test_the_environment_gives_the_passphrase(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Identity.new().save(path, b"open sesame")
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    Identity.load(path)
    secret = tmp_path / "secret"
    keyfiles.write_private(secret, b"open sesame\n")
    monkeypatch.setenv(PASSPHRASE_FILE, str(secret))
    with pytest.raises(KesitError, match="both set"):
        Identity.load(path)
    monkeypatch.delenv(PASSPHRASE)
    Identity.load(path)
    secret.write_bytes(b"\n")
    with pytest.raises(KesitError, match="is empty"):
        Identity.load(path)
    monkeypatch.setenv(PASSPHRASE_FILE, str(tmp_path / "absent"))
    with pytest.raises(KesitError, match="absent: cannot be read"):
        Identity.load(path)


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_may_read_is_refused(path: Path, mode: int) -> None:
    Identity.new().save(path)
    path.chmod(mode)
    with pytest.raises(KesitError, match=rf"other users .*\(mode {mode:04o}\)") as error:
        Identity.load(path)
    assert f"chmod 600 {path}" in error.value.remedy
    path.chmod(0o400)
    Identity.load(path)


@posix
def test_a_passphrase_file_that_others_may_read_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Identity.new().save(path, b"x")
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o644)
    monkeypatch.setenv(PASSPHRASE_FILE, str(secret))
    with pytest.raises(KesitError, match="secret: other users"):
        Identity.load(path)


def test_a_key_is_never_written_over_nor_beside_its_folder(path: Path, tmp_path: Path) -> None:
    Identity.new().save(path)
    before = path.read_bytes()
    with pytest.raises(KesitError, match="exists already"):
        Identity.new().save(path)
    assert path.read_bytes() == before
    with pytest.raises(KesitError, match="cannot be written"):
        Identity.new().save(tmp_path / "no" / "folder.pem")


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(path: Path, data: bytes) -> None:
    keyfiles.write_private(path, data)
    with pytest.raises(KesitError, match="holds no private key"):
        Identity.load(path)
    with pytest.raises(KesitError, match="is not a node key"):
        node_keys.load_node_key(path)


def test_another_kind_of_key_is_refused(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    keyfiles.write_private(path, keyfiles.to_pem(key, None))
    with pytest.raises(KesitError, match="is not an Ed25519 key"):
        Identity.load(path)


# --- fingerprints -------------------------------------------------------------------------------


def test_a_fingerprint_is_128_bits_of_a_hash_in_groups_of_four() -> None:
    shown = fingerprint("00" * 32)
    assert shown == "51a1 4686 ca80 56a6 0d03 3acf 18a6 2e5a"
    assert len(shown.replace(" ", "")) * 4 == FINGERPRINT_BITS
    assert fingerprint("00" * 31 + "01") != shown


def test_a_fingerprint_is_read_as_people_type_it() -> None:
    shown = fingerprint("00" * 32)
    for typed in (shown.upper(), shown.replace(" ", ":"), shown.replace(" ", ""), f" {shown}\n"):
        assert read_fingerprint(typed) == shown


@pytest.mark.parametrize(
    "typed", ["", "51a1", "51a1 4686 ca80 56a6 0d03 3acf 18a6", "g" * 32, "0" * 33, "00" * 32]
)
def test_a_part_of_a_fingerprint_is_none(typed: str) -> None:
    with pytest.raises(KesitError, match="is not a fingerprint"):
        read_fingerprint(typed)


# --- node keys ----------------------------------------------------------------------------------


def test_a_node_key_is_what_flower_reads(tmp_path: Path) -> None:
    path, key = tmp_path / "node.pem", node_keys.new_node_key()
    node_keys.save_node_key(key, path)
    loaded = load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert loaded.curve.name == "secp384r1"
    line = node_keys.public_line(key)
    assert isinstance(load_ssh_public_key(line.encode()), ec.EllipticCurvePublicKey)
    assert node_keys.public_line(node_keys.load_node_key(path)) == line
    if os.name == "posix":
        path.chmod(0o644)
        with pytest.raises(KesitError, match="other users"):
            node_keys.load_node_key(path)


def test_possession_is_proved_for_one_message_and_one_key() -> None:
    key, other = node_keys.new_node_key(), node_keys.new_node_key()
    proof = node_keys.prove(key, b"message")
    line = node_keys.public_line(key)
    assert node_keys.proves(line, b"message", proof)
    assert not node_keys.proves(line, b"massage", proof)
    assert not node_keys.proves(node_keys.public_line(other), b"message", proof)
    for broken in ("", "00", "zz", proof[:-2]):
        assert not node_keys.proves(line, b"message", broken)


def test_a_line_has_one_form() -> None:
    line = node_keys.public_line(node_keys.new_node_key())
    small = ec.generate_private_key(ec.SECP256R1())
    for other in (
        line + " comment",
        line + "\n",
        " " + line,
        "",
        "ssh-ş",
        node_keys.public_line(small),
    ):
        with pytest.raises(ProtocolError, match="no EC P-384 key"):
            node_keys.check_line(other)
