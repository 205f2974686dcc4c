"""The member list: who is in a federation, signed by its coordinator.

The list tells members where the coordinator is, which certificate it has, and which keys belong to
whom *as the coordinator says*. It extends nobody's pins: a client answers with the peers that its
owner pinned, however many the list names. A list is followed only by one of the same federation and
coordinator with a higher serial number, in which nobody is forgotten and nobody revoked comes back.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from kesit_privacy import canonical, node_keys
from kesit_privacy.errors import ProtocolError
from kesit_privacy.identity import Identity, fingerprint, read_fingerprint, verify
from kesit_privacy.signed import (
    LATEST,
    decoded,
    folded,
    hexadecimal,
    read_bytes,
    table,
    text,
    whole,
)

TAG: Final = "kesit member list v1"
ACTIVE: Final = "active"
REVOKED: Final = "revoked"
RETIRED: Final = "retired"
"""`revoked`: the member left, or its keys were stolen; `retired`: it has new keys."""

REMEDY: Final = "Ask the coordinator for its current members.json."
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


@dataclass(frozen=True)
class Member:
    """One set of keys of one member. `admitted` and `changed` are Unix seconds."""

    name: str
    identity: str
    node_key: str
    status: str
    admitted: int
    changed: int


@dataclass(frozen=True)
class MemberList:
    """A federation as its coordinator signed it.

    Attributes:
        federation: 16 random bytes, hex. serial: grows with every change. created: Unix seconds.
        coordinator: its Ed25519 identity. authority: its CA certificate, PEM.
        host, port: where nodes connect.
        bundles: SHA-256 of the Flower bundles that its runs use.
        members: in the order of their admission.
    """

    federation: str
    serial: int
    created: int
    coordinator: str
    authority: str
    host: str
    port: int
    bundles: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()

    @cached_property
    def active(self) -> tuple[Member, ...]:
        """Members that take part."""
        return tuple(member for member in self.members if member.status == ACTIVE)

    def of_identity(self, identity: str) -> Member | None:
        """The entry of an identity."""
        return next((m for m in self.members if m.identity == identity), None)

    def of_fingerprint(self, text: str) -> Member | None:
        """The entry whose identity has this fingerprint.

        Raises:
            KesitError: `text` is no fingerprint.
        """
        wanted = read_fingerprint(text)
        return next((m for m in self.members if fingerprint(m.identity) == wanted), None)

    def current(self, name: str) -> Member | None:
        """The entry of a member that is active or revoked, by its name."""
        wanted = folded(name)
        found = (m for m in self.members if folded(m.name) == wanted and m.status != RETIRED)
        return next(found, None)


def sign_list(members: MemberList, identity: Identity) -> bytes:
    """The list as a file.

    Raises:
        ProtocolError: a field is wrong, or `identity` is not the list's coordinator.
    """
    body = {"tag": TAG, **asdict(members)}
    signature = identity.sign(canonical.encode(body))
    data = canonical.encode({"list": body, "signature": signature})
    parse_list(data)
    return data


def read_list(path: Path) -> MemberList:
    """The list of a file; see `parse_list`."""
    return parse_list(read_bytes(path, "a member list", REMEDY))


def parse_list(data: bytes) -> MemberList:
    """A list that the coordinator *whom it names* signed: compare that one's fingerprint, too.

    Raises:
        ProtocolError: malformed, changed, or not signed by its own coordinator.
    """
    value = decoded(data, "a member list")
    try:
        parts = table(value, "list", "signature")
        body = table(parts["list"], "tag", *MemberList.__dataclass_fields__)
        coordinator = hexadecimal(body["coordinator"], 32)
        signature = hexadecimal(parts["signature"], 64)
        if not verify(coordinator, canonical.encode(body), signature):
            raise ValueError("what its coordinator did not sign: it was changed")
        if body["tag"] != TAG:
            raise ValueError("another tag")
        return _members(body)
    except ValueError as error:
        raise ProtocolError(f"The member list holds {error}.", remedy=REMEDY) from error


def check_coordinator(members: MemberList, expected: str) -> None:
    """Refuse a list of another coordinator than the one whose fingerprint was compared.

    Raises:
        ProtocolError: it is another's.
        KesitError: `expected` is no fingerprint.
    """
    found = fingerprint(members.coordinator)
    if found != read_fingerprint(expected):
        raise ProtocolError(
            f"The member list is signed by a coordinator with the fingerprint {found}, not by the"
            " one that you gave.",
            remedy="Ask the coordinator by telephone or in person for its fingerprint; if it"
            " differs from this one, do not use the file.",
        )


def check_successor(old: MemberList, new: MemberList) -> None:
    """Refuse a list that may not follow the one that is held.

    Raises:
        ProtocolError: another federation or coordinator, an old serial number (a rollback), two
            different lists with one number, or a member forgotten or brought back.
    """
    if (new.federation, new.coordinator) != (old.federation, old.coordinator):
        raise _unfit("is of another federation or coordinator than the one joined here")
    if new.serial < old.serial or (new.serial == old.serial and new != old):
        what = "is older than" if new.serial < old.serial else "differs from, but is numbered as,"
        raise _unfit(f"(serial {new.serial}) {what} the one held here (serial {old.serial})")
    for before in old.members:
        after = new.of_identity(before.identity)
        if after is None or (after.name, after.node_key) != (before.name, before.node_key):
            raise _unfit(f"forgets or alters the member {before.name!r}")
        if before.status != ACTIVE and after.status not in (before.status, RETIRED):
            raise _unfit(f"brings back keys of {before.name!r} that were {before.status}")


def check_host(host: str) -> str:
    """`host`, if it is an IP address or an ASCII DNS name.

    Raises:
        ValueError: it is neither.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not 1 <= len(host) <= 253 or not all(_LABEL.fullmatch(part) for part in host.split(".")):
        raise ValueError(f"{host!r}, which is no DNS name (lower case, ASCII) or IP address")
    return host


def _members(body: dict[str, Any]) -> MemberList:
    if not isinstance(body["bundles"], list) or not isinstance(body["members"], list):
        raise ValueError("a field that is no list")
    members = MemberList(
        federation=hexadecimal(body["federation"], 16),
        serial=whole(body["serial"], 1, 1 << 50),
        created=whole(body["created"], 0, LATEST),
        coordinator=hexadecimal(body["coordinator"], 32),
        authority=_authority(body["authority"]),
        host=check_host(text(body["host"], 253)),
        port=whole(body["port"], 1, 65_535),
        bundles=tuple(hexadecimal(bundle, 32) for bundle in body["bundles"]),
        members=tuple(_member(item) for item in body["members"]),
    )
    _check_distinct(members.members)
    return members


def _member(value: Any) -> Member:
    fields = table(value, *Member.__dataclass_fields__)
    if fields["status"] not in (ACTIVE, REVOKED, RETIRED):
        raise ValueError("a status that is not known")
    line = text(fields["node_key"], 400)
    try:
        node_keys.check_line(line)
    except ProtocolError as error:
        raise ValueError("a node key that is none") from error
    return Member(
        text(fields["name"]),
        hexadecimal(fields["identity"], 32),
        line,
        fields["status"],
        whole(fields["admitted"], 0, LATEST),
        whole(fields["changed"], 0, LATEST),
    )


def _check_distinct(members: Sequence[Member]) -> None:
    kinds = {
        "identity": [member.identity for member in members],
        "node key": [member.node_key for member in members],
        "name": [folded(member.name) for member in members if member.status != RETIRED],
    }
    for kind, values in kinds.items():
        if len(set(values)) != len(values):
            raise ValueError(f"one {kind} twice")


def _authority(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 10_000:
        raise ValueError("no CA certificate")
    try:
        certificate = x509.load_pem_x509_certificate(value.encode("ascii"))
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise ValueError("a certificate that is no CA's") from error
    if not limits.ca or not isinstance(certificate.public_key(), ec.EllipticCurvePublicKey):
        raise ValueError("a certificate that is no CA's")
    return value


def _unfit(what: str) -> ProtocolError:
    return ProtocolError(
        f"The member list {what}.",
        remedy="Keep the list that you have. If the coordinator has no explanation, treat it as an"
        " attack and tell the other members.",
    )
