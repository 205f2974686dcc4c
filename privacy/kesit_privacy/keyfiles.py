"""Private keys on disk: readable by their owner alone, and locked with a passphrase if one is set.

The passphrase comes from the environment variable `KESIT_PASSPHRASE`, from the file that
`KESIT_PASSPHRASE_FILE` names (a service's secret), or from whoever can ask a person for it (the
command line). There is no way to open a locked key without it: enrol anew.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kesit_privacy.errors import KesitError

SALT: Final = b"Kesit-Scrypt-Salt: "

PASSPHRASE: Final = "KESIT_PASSPHRASE"  # noqa: S105  (a variable's name)
PASSPHRASE_FILE: Final = "KESIT_PASSPHRASE_FILE"  # noqa: S105
LONGEST_PASSPHRASE: Final = 1000
"""Bytes; OpenSSL's own limit is 1023."""

Unlock = Callable[[Path], bytes | None]
"""Asked for the passphrase of a key file that is locked; None if there is none to give."""


def passphrase_from_environment() -> bytes | None:
    """The passphrase that the environment gives, or None.

    Raises:
        KesitError: both variables are set, or the file is empty, unreadable or open to others.
    """
    text, file = os.environ.get(PASSPHRASE, ""), os.environ.get(PASSPHRASE_FILE, "")
    if text and file:
        raise KesitError(
            f"{PASSPHRASE} and {PASSPHRASE_FILE} are both set.", remedy="Unset one of them."
        )
    if file:
        path = Path(file)
        return checked_passphrase(read_private(path).rstrip(b"\r\n"), f"{path}: the passphrase")
    return checked_passphrase(text.encode(), PASSPHRASE) if text else None


def checked_passphrase(passphrase: bytes, place: str) -> bytes:
    """The passphrase, if it can be one.

    Raises:
        KesitError: it is empty, or too long for the key format.
    """
    if not 1 <= len(passphrase) <= LONGEST_PASSPHRASE:
        raise KesitError(
            f"{place} is empty or longer than {LONGEST_PASSPHRASE} bytes.",
            remedy="Give another passphrase.",
        )
    return passphrase


def from_environment(path: Path) -> bytes | None:
    """The environment's passphrase, whatever key it is for: the default `Unlock`."""
    return passphrase_from_environment()


def read_private(path: Path) -> bytes:
    """Bytes of a file that only its owner may read.

    Raises:
        KesitError: missing, unreadable, or (POSIX) open to the group or to others.
    """
    try:
        with path.open("rb") as file:
            if os.name == "posix":
                _check_mode(path, os.fstat(file.fileno()).st_mode)
            return file.read()
    except OSError as error:
        raise KesitError(
            f"{path}: cannot be read ({error.strerror}).",
            remedy="Check the path and its owner; if the key is lost, make a new one.",
        ) from error


def _check_mode(path: Path, mode: int) -> None:
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KesitError(
            f"{path}: other users of this machine may read it (mode {stat.S_IMODE(mode):04o}).",
            remedy=f"Run `chmod 600 {path}`; if others use this machine, replace the key.",
        )


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read; never over an existing one.

    Raises:
        KesitError: it exists, or the disk refuses.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise KesitError(
            f"{path}: exists already, and nothing was written.",
            remedy="A key is never overwritten: move the old file away first.",
        ) from error
    except OSError as error:
        raise KesitError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Check the folder and the room on the disk.",
        ) from error


def to_pem(key: PrivateKeyTypes, passphrase: bytes | None) -> bytes:
    """The key as PKCS8 PEM, locked if there is a passphrase.

    PKCS8 itself stretches a passphrase by 2,048 rounds only, so it gets scrypt's (RFC 7914) of the
    passphrase, whose salt stands on a line before the PEM block.
    """
    if not passphrase:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    salt = os.urandom(16)
    lock = BestAvailableEncryption(_stretched(passphrase, salt))
    return (
        SALT
        + salt.hex().encode()
        + b"\n"
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    )


def load_pem(path: Path, unlock: Unlock = from_environment) -> PrivateKeyTypes:
    """The private key of a PEM file. `unlock` is asked only if the file is locked.

    Raises:
        KesitError: missing, open to others, no key, or locked and the passphrase is missing or
            wrong.
    """
    data = read_private(path)
    try:
        return load_pem_private_key(data[data.find(b"-----BEGIN") :], password=None)
    except TypeError:
        pass  # cryptography's way to say that the key is locked
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KesitError(
            f"{path}: holds no private key.", remedy="Restore it, or make a new one."
        ) from error
    passphrase = unlock(path)
    if not passphrase:
        raise KesitError(
            f"{path}: is locked with a passphrase.",
            remedy=f"Set {PASSPHRASE} or {PASSPHRASE_FILE}, or run the command on a terminal. A"
            " forgotten passphrase cannot be recovered: make new keys and enrol them as lost.",
        )
    try:
        salt, pem = _parted(data)
        return load_pem_private_key(pem, password=_stretched(passphrase, salt))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KesitError(
            f"{path}: the passphrase does not open it.",
            remedy="Try again; a forgotten passphrase cannot be recovered: make new keys and enrol"
            " them as lost.",
        ) from error


def _parted(data: bytes) -> tuple[bytes, bytes]:
    """The salt before a locked PEM block, and the block.

    Raises:
        ValueError: there is no salt.
    """
    first, _, pem = data.partition(b"\n")
    if not first.startswith(SALT):
        raise ValueError("the line with the salt is missing")
    return bytes.fromhex(first.removeprefix(SALT).decode("ascii")), pem


def _stretched(passphrase: bytes, salt: bytes) -> bytes:
    """scrypt of a passphrase, as text: about a quarter of a second and 64 MiB for each guess."""
    return Scrypt(salt, length=32, n=1 << 16, r=8, p=1).derive(passphrase).hex().encode()


def is_locked(path: Path) -> bool:
    """Whether a PEM key needs a passphrase.

    Raises:
        KesitError: missing, or open to others.
    """
    return b"ENCRYPTED PRIVATE KEY" in read_private(path)
