"""The coordinator's own certificate authority, and the certificate of its public address.

Members get the CA's certificate in the signed member list, so no public authority is trusted: a
node that connects knows that it talks to the coordinator whose fingerprint its owner compared. The
CA signs server certificates only (path length 0), and its key is needed only when one is made.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kesit_privacy.keyfiles import Unlock, from_environment, load_pem
from kesit_privacy.membership import check_host
from kesit_server.errors import DeploymentError

CA_DAYS: Final = 3652
LEAF_DAYS: Final = 365
"""Ten years, and one. The CA's certificate is pinned, so its age alone weakens nothing; a stolen
leaf is of use until it expires, as nothing here asks for revocations."""

RENEW_DAYS: Final = 30
"""`due` from so many days before the leaf expires."""

BACKDATED: Final = datetime.timedelta(hours=1)
"""A member's clock may be that slow."""

LOCAL_HOSTS: Final = ("localhost", "127.0.0.1")
"""Flower's own processes connect to these."""


def new_authority(
    now: datetime.datetime | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A P-384 CA: its self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = _name("Kesit coordinator CA")
    start = _moment(now)
    builder = (
        _builder(name, name, key.public_key(), start, start + datetime.timedelta(CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA384()), key


def new_leaf(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    now: datetime.datetime | None = None,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A P-256 server certificate for these DNS names and IP addresses, and for this machine itself.

    Raises:
        DeploymentError: a host is no name or address, or the CA expires before today.
    """
    start = _moment(now)
    end = min(start + datetime.timedelta(LEAF_DAYS), authority.not_valid_after_utc)
    if end <= start:
        raise DeploymentError(
            f"The CA's certificate expired on {authority.not_valid_after_utc:%Y-%m-%d}.",
            remedy="Make a new coordinator with `kesit server init`, and enrol its members anew.",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([_general_name(host) for host in _distinct(hosts)])
    builder = (
        _builder(_name("Kesit coordinator"), authority.subject, key.public_key(), start, end)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
    )
    return builder.sign(authority_key, hashes.SHA384()), key


def load_authority(
    certificate: Path, key: Path, unlock: Unlock = from_environment
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The CA of two files.

    Raises:
        KesitError: one is missing, the key is locked or open to others, or they are no pair.
    """
    authority, private = load_certificate(certificate), load_pem(key, unlock)
    if (
        not isinstance(private, ec.EllipticCurvePrivateKey)
        or private.public_key() != authority.public_key()
    ):
        raise DeploymentError(
            f"{key}: is not the key of {certificate}.", remedy="Restore both from one backup."
        )
    return authority, private


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate of a PEM file.

    Raises:
        DeploymentError: missing, unreadable, or no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DeploymentError(
            f"{path}: the certificate cannot be read.", remedy="Restore it from a backup."
        ) from error


def as_pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def due(leaf: x509.Certificate, now: datetime.datetime | None = None) -> bool:
    """Whether the leaf expires within `RENEW_DAYS`, or has expired."""
    moment = now or datetime.datetime.now(datetime.UTC)
    return leaf.not_valid_after_utc - moment < datetime.timedelta(RENEW_DAYS)


def hosts_of(leaf: x509.Certificate) -> tuple[str, ...]:
    """Names and addresses for which a leaf stands, this machine's own included."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))


def issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority signed the leaf."""
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _moment(now: datetime.datetime | None) -> datetime.datetime:
    return (now or datetime.datetime.now(datetime.UTC)).replace(microsecond=0)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _distinct(hosts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*hosts, *LOCAL_HOSTS]))


def _general_name(host: str) -> x509.GeneralName:
    try:
        known = check_host(host)
    except ValueError as error:
        raise DeploymentError(
            f"{host!r} is no DNS name or IP address.",
            remedy="Give the name (lower case, ASCII) or the address that members will connect to.",
        ) from error
    try:
        return x509.IPAddress(ipaddress.ip_address(known))
    except ValueError:
        return x509.DNSName(known)
