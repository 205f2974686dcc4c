"""The coordinator's CA and its server certificate: what they hold, and that TLS accepts them."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from kesit_privacy.errors import KesitError
from kesit_privacy.keyfiles import to_pem, write_private
from kesit_server.deployment import authority
from kesit_server.errors import DeploymentError

CA, CA_KEY = authority.new_authority()
LEAF, LEAF_KEY = authority.new_leaf(CA, CA_KEY, ["kesit.example.org", "10.0.0.5", "::1"])


def test_the_ca_signs_servers_for_ten_years_and_nothing_else() -> None:
    limits = CA.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert (limits.value.ca, limits.value.path_length) == (True, 0)
    usage = CA.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert isinstance(CA_KEY.curve, ec.SECP384R1)
    lasts = CA.not_valid_after_utc - CA.not_valid_before_utc
    assert datetime.timedelta(3652) <= lasts <= datetime.timedelta(3653)
    assert authority.issued_by(CA, CA)


def test_the_leaf_is_a_server_s_for_one_year_and_holds_every_host() -> None:
    assert authority.issued_by(LEAF, CA)
    assert not authority.issued_by(LEAF, authority.new_authority()[0])
    assert isinstance(LEAF_KEY.curve, ec.SECP256R1)
    extensions = LEAF.extensions
    limits = extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert not limits.value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kesit.example.org", "localhost"]
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ipaddress.ip_address(text) for text in ("10.0.0.5", "::1", "127.0.0.1")
    }
    lasts = LEAF.not_valid_after_utc - LEAF.not_valid_before_utc
    assert datetime.timedelta(365) <= lasts <= datetime.timedelta(366)


def test_a_leaf_never_outlives_its_ca() -> None:
    late = CA.not_valid_after_utc - datetime.timedelta(days=10)
    leaf, _ = authority.new_leaf(CA, CA_KEY, ["a.example"], late)
    assert leaf.not_valid_after_utc == CA.not_valid_after_utc
    with pytest.raises(DeploymentError, match="expired"):
        authority.new_leaf(CA, CA_KEY, ["a.example"], CA.not_valid_after_utc)


def test_a_leaf_is_due_a_month_before_its_end() -> None:
    end = LEAF.not_valid_after_utc
    assert not authority.due(LEAF)
    assert not authority.due(LEAF, end - datetime.timedelta(31))
    assert authority.due(LEAF, end - datetime.timedelta(29))
    assert authority.due(LEAF, end + datetime.timedelta(1))


@pytest.mark.parametrize(
    "host", ["", "a b", "-a.example", "a..b", "https://a", "a:80", "şube.example", "A.example", "*"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(DeploymentError, match="no DNS name or IP address"):
        authority.new_leaf(CA, CA_KEY, [host])


def test_a_ca_is_loaded_with_its_own_key_only(tmp_path: Path) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca-key.pem"
    with pytest.raises(DeploymentError, match="certificate cannot be read"):
        authority.load_authority(certificate, key)
    certificate.write_bytes(authority.as_pem(CA))
    write_private(key, to_pem(CA_KEY, b"locked"))
    loaded, _ = authority.load_authority(certificate, key, lambda _: b"locked")
    assert loaded == CA
    with pytest.raises(KesitError, match="does not open"):
        authority.load_authority(certificate, key, lambda _: b"wrong")
    key.unlink()
    write_private(key, to_pem(authority.new_authority()[1], None))
    with pytest.raises(DeploymentError, match="is not the key of"):
        authority.load_authority(certificate, key)


def shake_hands(folder: Path, host: str, trusted: x509.Certificate) -> None:
    """A TLS connection to the leaf's server, by a client that trusts one CA."""
    (folder / "leaf.pem").write_bytes(authority.as_pem(LEAF))
    (folder / "key.pem").write_bytes(to_pem(LEAF_KEY, None))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "leaf.pem", folder / "key.pem")
    client = ssl.create_default_context(cadata=authority.as_pem(trusted).decode())
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        client.wrap_socket(ours, server_hostname=host).close()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["kesit.example.org", "10.0.0.5", "127.0.0.1", "localhost"])
def test_tls_accepts_the_leaf_for_its_hosts(tmp_path: Path, host: str) -> None:
    shake_hands(tmp_path, host, CA)


def test_tls_refuses_another_host_and_another_ca(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, "other.example.org", CA)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, "kesit.example.org", authority.new_authority()[0])
