"""X.509 by which a NATS server proves who it is, made and read in plain Python.

Ed25519 throughout, like every other key here: an *authority* signs itself and what servers show.
Only what a TLS library asks for stands in them, in DER as RFC 5280 and RFC 8410 spell it. Reading
looks at names, dates and keys alone; whether a signature holds is the TLS library's to say.
"""

import base64
import datetime as dt
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Sequence
from typing import NamedTuple

from fleet_contract.trust import PrivateKey

_ED25519 = bytes.fromhex("300506032b6570")
_COMMON_NAME = bytes.fromhex("0603550403")
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
_EXTENSION = {
    name: bytes.fromhex(f"0603551d{last}")
    for name, last in {
        "subject key": "0e",
        "usage": "0f",
        "alternatives": "11",
        "constraints": "13",
        "authority key": "23",
        "purpose": "25",
    }.items()
}
_SERVER = bytes.fromhex("06082b06010505070301")
_SEQUENCE, _SET, _INTEGER, _BITS, _BYTES, _TEXT, _TRUE = (
    0x30,
    0x31,
    0x02,
    0x03,
    0x04,
    0x0C,
    "0101ff",
)
_UTC, _GENERALIZED = 0x17, 0x18
_DNS, _IP, _KEY_ID = 0x82, 0x87, 0x80
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class Certificate(NamedTuple):
    """What one says of itself."""

    der: bytes
    subject: bytes
    issuer: bytes
    begins: int  # Unix seconds
    ends: int
    key: bytes

    @property
    def pem(self) -> str:
        return ssl.DER_cert_to_PEM_cert(self.der)

    def serves(self, hosts: Sequence[str]) -> bool:
        """Whether we made it for these hosts, in this order."""
        return _alternatives(hosts) in self.der

    def of(self, key: PrivateKey) -> bool:
        return self.key == _public(key)


def authority(key: PrivateKey, whose: str, now: int, ends: int) -> Certificate:
    """Signs itself; its name has the key's in it, so that two of one namespace are never mixed."""
    name = _name(f"NATS of {whose}, {key.id}")
    more = [
        _extension("constraints", _tlv(_SEQUENCE, bytes.fromhex(_TRUE), _tlv(_INTEGER, b"\0"))),
        _extension("usage", bytes.fromhex("03020106")),  # signs certificates and their revocations
    ]
    return _signed(key, name, key, name, now, ends, more)


def server(
    key: PrivateKey, hosts: Sequence[str], signer: PrivateKey, by: Certificate, now: int, ends: int
) -> Certificate:
    """What a server shows that is called by these names and addresses."""
    more = [
        _extension("usage", bytes.fromhex("03020780")),  # signs handshakes
        _extension("purpose", _tlv(_SEQUENCE, _SERVER), critical=False),
        _extension("alternatives", _alternatives(hosts), critical=False),
        _extension(
            "authority key",
            _tlv(_SEQUENCE, _tlv(_KEY_ID, _key_id(_public(signer)))),
            critical=False,
        ),
    ]
    return _signed(key, _name(hosts[0]), signer, by.subject, now, ends, more)


def private(key: PrivateKey) -> str:
    """The private key's file."""
    text = base64.b64encode(_PKCS8 + bytes.fromhex(key.reveal())).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"


def read(text: str) -> list[Certificate]:
    """All that a file holds. Raises ``ValueError`` where one of them is none."""
    return [_read(ssl.PEM_cert_to_DER_cert(one)) for one in _PEM.findall(text)]


def _read(der: bytes) -> Certificate:
    try:
        (whole,) = _parts(der)
        signed = _parts(_body(whole))[0]
        fields = _parts(_body(signed))
        if fields[0][0] == _VERSION:
            fields = fields[1:]
        _, _, issuer, validity, subject, spki = fields[:6]
        begins, ends = map(_seconds, _parts(_body(validity)))
        return Certificate(der, subject, issuer, begins, ends, spki)
    except (IndexError, ValueError) as fault:
        raise ValueError("it holds a certificate that cannot be read") from fault


def _parts(data: bytes) -> list[bytes]:
    """Each element of a constructed one, header and all."""
    found, at = [], 0
    while at < len(data):
        head, size = _head(data[at:])
        if at + head + size > len(data):
            raise ValueError("it ends too early")
        found.append(data[at : at + head + size])
        at += head + size
    return found


def _body(element: bytes) -> bytes:
    return element[_head(element)[0] :]


def _head(data: bytes) -> tuple[int, int]:
    """Bytes of an element's header, and of what follows it."""
    size = data[1]
    more = size & 0x7F if size & 0x80 else 0
    return 2 + more, int.from_bytes(data[2 : 2 + more], "big") if more else size


def _seconds(element: bytes) -> int:
    text = _body(element).decode()
    if element[0] == _UTC:
        text = ("19" if text >= "50" else "20") + text
    at = dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
    return int(at.timestamp())


def _signed(
    key: PrivateKey,
    subject: bytes,
    signer: PrivateKey,
    issuer: bytes,
    now: int,
    ends: int,
    more: Sequence[bytes],
) -> Certificate:
    spki = _public(key)
    serial = hashlib.sha256(spki + now.to_bytes(8, "big")).digest()[:16]
    extensions = [
        _extension("subject key", _tlv(_BYTES, _key_id(spki)), critical=False),
        *more,
    ]
    body = _tlv(
        _SEQUENCE,
        _tlv(_VERSION, _tlv(_INTEGER, b"\2")),
        _tlv(_INTEGER, b"\1" + serial),
        _ED25519,
        issuer,
        _tlv(_SEQUENCE, _time(now), _time(ends)),
        subject,
        spki,
        _tlv(_EXTENSIONS, _tlv(_SEQUENCE, *extensions)),
    )
    _, signature = signer.sign(body)
    der = _tlv(_SEQUENCE, body, _ED25519, _tlv(_BITS, b"\0" + bytes.fromhex(signature)))
    return Certificate(der, subject, issuer, now, ends, spki)


def _tlv(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:  # noqa: PLR2004 - DER's border of its short form
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _name(text: str) -> bytes:
    pair = _tlv(_SEQUENCE, _COMMON_NAME, _tlv(_TEXT, text[:64].encode()))
    return _tlv(_SEQUENCE, _tlv(_SET, pair))


def _public(key: PrivateKey) -> bytes:
    return _tlv(_SEQUENCE, _ED25519, _tlv(_BITS, b"\0" + bytes.fromhex(key.public)))


def _key_id(spki: bytes) -> bytes:
    return hashlib.sha256(spki).digest()[:20]


def _time(seconds: int) -> bytes:
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    if at.year < 2050:  # noqa: PLR2004 - RFC 5280's border between the two spellings
        return _tlv(_UTC, at.strftime("%y%m%d%H%M%SZ").encode())
    return _tlv(_GENERALIZED, at.strftime("%Y%m%d%H%M%SZ").encode())


def _extension(name: str, value: bytes, *, critical: bool = True) -> bytes:
    mark = bytes.fromhex(_TRUE) if critical else b""
    return _tlv(_SEQUENCE, _EXTENSION[name], mark, _tlv(_BYTES, value))


def _alternatives(hosts: Sequence[str]) -> bytes:
    def one(host: str) -> bytes:
        try:
            return _tlv(_IP, ipaddress.ip_address(host).packed)
        except ValueError:
            return _tlv(_DNS, host.encode("idna"))

    return _tlv(_SEQUENCE, *map(one, hosts))
