"""X.509 by which a NATS server proves who it is. Pure.

Ed25519 throughout, like every other key here: an *authority* signs itself and what servers show.
Whether a signature holds is for those who connect to say.
"""

import datetime as dt
import hashlib
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_contract.trust import PrivateKey

_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_BEGIN = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Certificate:
    """What one says of itself."""

    parsed: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.parsed.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.parsed.public_bytes(Encoding.PEM).decode()

    @property
    def subject(self) -> x509.Name:
        return self.parsed.subject

    @property
    def issuer(self) -> x509.Name:
        return self.parsed.issuer

    @classmethod
    def of_der(cls, der: bytes) -> Self:
        """Raises ``ValueError`` where it is none."""
        return cls(x509.load_der_x509_certificate(der))

    @property
    def begins(self) -> int:
        """Unix seconds."""
        return int(self.parsed.not_valid_before_utc.timestamp())

    @property
    def ends(self) -> int:
        """Unix seconds."""
        return int(self.parsed.not_valid_after_utc.timestamp())

    def serves(self, hosts: Sequence[str]) -> bool:
        """Whether it was made for these hosts, in this order."""
        try:
            found = self.parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return False
        return list(found.value) == _alternatives(hosts)

    def of(self, key: PrivateKey) -> bool:
        there = self.parsed.public_key()
        return isinstance(there, Ed25519PublicKey) and there.public_bytes_raw().hex() == key.public


def authority(key: PrivateKey, whose: str, now: int, ends: int) -> Certificate:
    """Signs itself; its name has the key's in it, so that two of one namespace are never mixed."""
    name = _name(f"NATS of {whose}, {key.id}")
    own = _private(key)
    made = _begun(own.public_key(), name, name, now, ends)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
    return Certificate(made.sign(own, None))


def server(
    key: PrivateKey, hosts: Sequence[str], signer: PrivateKey, by: Certificate, now: int, ends: int
) -> Certificate:
    """What a server shows that is called by these names and addresses."""
    signs = _private(signer)
    made = _begun(_private(key).public_key(), _name(hosts[0]), by.subject, now, ends)
    for extension, critical in (
        (_usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(_alternatives(hosts)), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), False),
    ):
        made = made.add_extension(extension, critical=critical)
    return Certificate(made.sign(signs, None))


def private(key: PrivateKey) -> str:
    """The private key's file."""
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return _private(key).private_bytes(*form).decode()


def read(text: str) -> list[Certificate]:
    """All that a file holds. Raises ``ValueError`` where one of them cannot be read."""
    if _BEGIN not in text:
        return []
    try:
        return [Certificate(one) for one in x509.load_pem_x509_certificates(text.encode())]
    except ValueError as fault:
        raise ValueError("it holds a certificate that cannot be read") from fault


def _begun(
    of: Ed25519PublicKey, subject: x509.Name, issuer: x509.Name, now: int, ends: int
) -> x509.CertificateBuilder:
    serial = hashlib.sha256(of.public_bytes_raw() + now.to_bytes(8, "big")).digest()[:16]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(of)
        .serial_number(int.from_bytes(serial, "big") or 1)
        .not_valid_before(_date(now))
        .not_valid_after(_date(ends))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(of), critical=False)
    )


def _private(key: PrivateKey) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key.reveal()))


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{one: one in allowed for one in _USAGES})


def _date(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternatives(hosts: Iterable[str]) -> list[x509.GeneralName]:
    def one(host: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            return x509.DNSName(host.encode("idna").decode())

    return [one(host) for host in hosts]
