"""Our certificates before those who read them: a TLS library, and another one of X.509."""

import contextlib
import datetime as dt
import ipaddress
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleet_contract import certificates
from fleet_contract.certificates import Certificate
from fleet_contract.trust import PrivateKey

DAY = 24 * 3600
NOW = 1_800_000_000
KEY, SERVER = PrivateKey("11" * 32), PrivateKey("22" * 32)
HOSTS = ["nats", "nats.fleet.svc", "10.1.2.3", "::1"]
AUTHORITY = certificates.authority(KEY, "fleet", NOW, NOW + 3650 * DAY)
LEAF = certificates.server(SERVER, HOSTS, KEY, AUTHORITY, NOW, NOW + 90 * DAY)


def theirs(one: Certificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(one.pem.encode())


def test_another_library_reads_in_them_what_was_meant() -> None:
    leaf, authority = theirs(LEAF), theirs(AUTHORITY)
    leaf.verify_directly_issued_by(authority)
    authority.verify_directly_issued_by(authority)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == HOSTS[:2]
    assert names.get_values_for_type(x509.IPAddress) == [
        *map(ipaddress.ip_address, HOSTS[2:]),
    ]
    purpose = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purpose) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).critical
    assert leaf.not_valid_after_utc == dt.datetime.fromtimestamp(NOW + 90 * DAY, dt.UTC)
    key = load_pem_private_key(certificates.private(SERVER).encode(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.public_key() == leaf.public_key()


@pytest.mark.parametrize("host", HOSTS)
def test_a_tls_library_takes_them_where_it_is_as_strict_as_it_can_be(
    host: str, tmp_path: Path
) -> None:
    now = int(time.time())
    authority = certificates.authority(KEY, "fleet", now - 60, now + DAY)
    leaf = certificates.server(SERVER, HOSTS, KEY, authority, now - 60, now + DAY)
    (tmp_path / "both").write_text(leaf.pem + certificates.private(SERVER))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "both")
    client = ssl.create_default_context(cadata=authority.pem)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=host)
    its = server.wrap_bio(there, back, server_side=True)
    for end in (ours, its, ours):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    assert ours.getpeercert(binary_form=True) == leaf.der


def test_what_is_read_is_what_was_made() -> None:
    assert certificates.read(f"before\n{LEAF.pem}between\n{AUTHORITY.pem}") == [LEAF, AUTHORITY]
    assert certificates.read("nothing") == []
    assert LEAF.serves(HOSTS)
    assert not LEAF.serves(HOSTS[:3])
    assert LEAF.of(SERVER)
    assert not LEAF.of(KEY)


def test_a_date_beyond_2049_is_spelled_in_the_longer_form() -> None:
    far = int(dt.datetime(2050, 6, 1, tzinfo=dt.UTC).timestamp())
    one = certificates.authority(KEY, "fleet", NOW, far)
    assert certificates.read(one.pem) == [one]
    assert theirs(one).not_valid_after_utc.year == 2050


@pytest.mark.parametrize("end", [1, 2, 20, 60, 150])
def test_half_a_certificate_is_told_as_one_that_cannot_be_read(end: int) -> None:
    half = LEAF._replace(der=LEAF.der[:end]).pem
    with pytest.raises(ValueError, match="cannot be read"):
        certificates.read(half)
