"""A coordinator's folder.

coordinator.pem    the Ed25519 identity that signs spending logs and member lists; hellos name it
ca.pem, ca-key.pem             the certificate authority
server.pem, server-key.pem     the certificate of the public address, for TLS
coordinator.toml   public hosts and the nodes' port; for people to edit
members.json       the member list, as signed; every change replaces it with a higher serial
superlink/         the SuperLink's own state, and the door to it while it runs
runs/, results/    what each run must know to be resumed; result folders

`coordinator.pem` and `ca-key.pem` may be locked with a passphrase; `server-key.pem` may not,
because TLS must come up again by itself after a restart.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import secrets
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kesit_privacy.bundle import POINTER_HASH
from kesit_privacy.files import new_folder, replacing
from kesit_privacy.identity import Identity
from kesit_privacy.keyfiles import Unlock, from_environment, to_pem, write_private
from kesit_privacy.membership import MemberList, check_host, read_list, sign_list
from kesit_server.deployment import authority
from kesit_server.errors import DeploymentError

IDENTITY: Final = "coordinator.pem"
CA, CA_KEY = "ca.pem", "ca-key.pem"
LEAF, LEAF_KEY = "server.pem", "server-key.pem"
SETTINGS: Final = "coordinator.toml"
MEMBERS: Final = "members.json"
SUPERLINK: Final = "superlink"
RUNS, RESULTS = "runs", "results"
FILES: Final = (IDENTITY, CA, CA_KEY, LEAF, LEAF_KEY, SETTINGS, MEMBERS)

FLEET_PORT: Final = 9092

SETTINGS_TEXT: Final = """\
# Where members reach this coordinator. After a change: kesit server renew-certificate --home ...
# DNS names or IP addresses; the first one stands in the member list.
hosts = {hosts}
# Nodes connect to this port, and to nothing else: open it in the firewall.
port = {port}
"""


@dataclass(frozen=True)
class Settings:
    """What `coordinator.toml` says."""

    hosts: tuple[str, ...]
    port: int


@dataclass(frozen=True)
class Coordinator:
    """An opened folder. The member list was verified; private keys are read when they are used."""

    home: Path
    settings: Settings
    members: MemberList

    def identity(self, unlock: Unlock = from_environment) -> Identity:
        """The signing key.

        Raises:
            KesitError: locked, open to others, or not the one that signed the member list.
        """
        identity = Identity.load(self.home / IDENTITY, unlock)
        if identity.public != self.members.coordinator:
            raise DeploymentError(
                f"{self.home / IDENTITY}: is not the key that signed {MEMBERS}.",
                remedy="Restore both from one backup.",
            )
        return identity

    @property
    def superlink(self) -> Path:
        """The SuperLink's folder."""
        return self.home / SUPERLINK

    @property
    def tls(self) -> tuple[Path, Path, Path]:
        """Files of the CA's certificate, the server's certificate and the server's key."""
        return self.home / CA, self.home / LEAF, self.home / LEAF_KEY


def create(
    home: Path,
    hosts: Sequence[str],
    *,
    port: int = FLEET_PORT,
    passphrase: bytes | None = None,
    now: float | None = None,
) -> Coordinator:
    """Make a coordinator's folder, whole or not at all.

    Args:
        hosts: DNS names and IP addresses under which members reach it.
        passphrase: locks the identity and the CA's key.
        now: Unix seconds; None for the present.

    Raises:
        DeploymentError: the folder holds something, cannot be written, or a host or port is wrong.
    """
    settings = _checked(hosts, port, home / SETTINGS)
    identity = Identity.new()
    moment = datetime.datetime.fromtimestamp(time.time() if now is None else now, datetime.UTC)
    ca, ca_key = authority.new_authority(moment)
    leaf, leaf_key = authority.new_leaf(ca, ca_key, settings.hosts, moment)
    members = MemberList(
        federation=secrets.token_hex(16),
        serial=1,
        created=int(moment.timestamp()),
        coordinator=identity.public,
        authority=authority.as_pem(ca).decode("ascii"),
        host=settings.hosts[0],
        port=settings.port,
        bundles=(POINTER_HASH,),
    )
    try:
        with new_folder(home) as place:
            identity.save(place / IDENTITY, passphrase)
            write_private(place / CA_KEY, to_pem(ca_key, passphrase))
            write_private(place / LEAF_KEY, to_pem(leaf_key, None))
            (place / CA).write_bytes(authority.as_pem(ca))
            (place / LEAF).write_bytes(authority.as_pem(leaf))
            (place / SETTINGS).write_text(_settings_text(settings), encoding="utf-8")
            (place / MEMBERS).write_bytes(sign_list(members, identity))
            for name in (RUNS, RESULTS):
                (place / name).mkdir()
    except OSError as error:
        raise DeploymentError(
            f"{home}: cannot become a coordinator's folder ({error.strerror}).",
            remedy="Give a folder that does not exist yet, in a place where you may write.",
        ) from error
    return Coordinator(home, settings, members)


def open_coordinator(home: Path) -> Coordinator:
    """The coordinator of a folder.

    Raises:
        KesitError: a file is missing or broken; the error names it.
    """
    missing = [name for name in FILES if not (home / name).is_file()]
    if missing:
        raise DeploymentError(
            f"{home}: lacks {', '.join(missing)}.",
            remedy="Give the coordinator's folder, or make one with `kesit server init`."
            if len(missing) == len(FILES)
            else "Restore what is missing from a backup.",
        )
    return Coordinator(home, read_settings(home / SETTINGS), read_list(home / MEMBERS))


def read_settings(path: Path) -> Settings:
    """What a `coordinator.toml` says.

    Raises:
        DeploymentError: unreadable, or a field is missing, unknown or wrong.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeploymentError(
            f"{path}: cannot be read ({error}).", remedy="It must be a TOML file in UTF-8."
        ) from error
    fields = set(Settings.__dataclass_fields__)
    if set(tables) != fields:
        raise DeploymentError(
            f"{path}: must hold {', '.join(sorted(fields))} and nothing else.",
            remedy="Correct the file.",
        )
    return _checked(tables["hosts"], tables["port"], path)


def write_certificate(coordinator: Coordinator, unlock: Unlock = from_environment) -> None:
    """A new certificate and key for the settings' hosts, in place of the old ones.

    Raises:
        KesitError: the CA's key is locked, or the disk refuses.
    """
    home = coordinator.home
    ca, ca_key = authority.load_authority(home / CA, home / CA_KEY, unlock)
    leaf, leaf_key = authority.new_leaf(ca, ca_key, coordinator.settings.hosts)
    # A crash between the two leaves a pair that does not fit: the same command mends it.
    replace_file(home / LEAF_KEY, to_pem(leaf_key, None), private=True)
    replace_file(home / LEAF, authority.as_pem(leaf))


def replace_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file whole; see `kesit_privacy.files.replacing`.

    Raises:
        DeploymentError: the disk refuses.
    """
    try:
        with replacing(path, private=private) as file:
            file.write(data)
    except OSError as error:
        raise DeploymentError(
            f"{path}: cannot be written ({error.strerror}).",
            remedy="Check the folder and the room on the disk; nothing was changed.",
        ) from error


def _checked(hosts: object, port: object, path: Path) -> Settings:
    try:
        if not isinstance(hosts, list | tuple) or not hosts:
            raise ValueError("hosts, which must be a list of names")
        known = tuple(dict.fromkeys(check_host(str(host)) for host in hosts))
        if type(port) is not int or not 1 <= port <= 65_535:
            raise ValueError(f"the port {port!r}, which is not from 1 to 65535")
        if _unspecified(known[0]):
            raise ValueError(f"{known[0]}, to which nobody can connect")
    except ValueError as error:
        raise DeploymentError(
            f"{path}: holds {error}.", remedy="Give the names that members connect to."
        ) from error
    return Settings(known, port)


def _unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _settings_text(settings: Settings) -> str:
    return SETTINGS_TEXT.format(
        hosts=json.dumps(list(settings.hosts)),
        port=settings.port,
    )
