"""Our certificates before a TLS library that is as strict as it can be."""

import contextlib
import ssl
import time
from pathlib import Path

import pytest

from fleet_contract.trust import PrivateKey
from fleet_operator.decide import x509

DAY = 24 * 3600
NOW = 1_800_000_000
KEY, SERVER = PrivateKey("11" * 32), PrivateKey("22" * 32)
HOSTS = ["nats", "nats.fleet.svc", "10.1.2.3", "::1"]
AUTHORITY = x509.authority(KEY, "fleet", NOW, NOW + 3650 * DAY)
LEAF = x509.server(SERVER, HOSTS, KEY, AUTHORITY, NOW, NOW + 90 * DAY)


@pytest.mark.parametrize("host", HOSTS)
def test_a_tls_library_takes_them_where_it_is_as_strict_as_it_can_be(
    host: str, tmp_path: Path
) -> None:
    now = int(time.time())
    authority = x509.authority(KEY, "fleet", now - 60, now + DAY)
    leaf = x509.server(SERVER, HOSTS, KEY, authority, now - 60, now + DAY)
    (tmp_path / "both").write_text(leaf.pem + x509.private(SERVER))
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
    assert x509.read(f"before\n{LEAF.pem}between\n{AUTHORITY.pem}") == [LEAF, AUTHORITY]
    assert x509.read("nothing") == []
    assert LEAF.serves(HOSTS)
    assert not LEAF.serves(HOSTS[:3])
    assert LEAF.of(SERVER)
    assert not LEAF.of(KEY)


@pytest.mark.parametrize("end", [1, 2, 20, 60, 150])
def test_half_a_certificate_is_told_as_one_that_cannot_be_read(end: int) -> None:
    half = ssl.DER_cert_to_PEM_cert(LEAF.der[:end])
    with pytest.raises(ValueError, match="cannot be read"):
        x509.read(half)
