"""The keys of one cluster: an authority, what it signs, the tokens of its programs.

Everything lies in the cluster's own folder, readable by its owner only: whoever can write to the
API runs programs as the user.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet_contract import names
from fleet_contract.trust import PrivateKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIFETIME = dt.timedelta(days=3650)
# The authorities that the API server knows by these names: RBAC's built-in roles hang on them.
IDENTITIES = {
    "admin": ("fleetloop:admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "node": ("system:node:local", "system:nodes"),
}


@dataclass(frozen=True)
class Pki:
    """Where the keys of a cluster lie."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def cert(self) -> Path:
        """Serves, and proves the control plane's own programs to each other."""
        return self.folder / "local.crt"

    @property
    def key(self) -> Path:
        return self.folder / "local.key"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "service-account.key"

    @property
    def service_account_public(self) -> Path:
        return self.folder / "service-account.pub"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    @property
    def nats(self) -> Path:
        """What the broker trusts, as the entries of a namespace's Secret of its keys."""
        return self.folder / "nats.json"

    def nats_root(self) -> dict[str, str]:
        """The private keys from which a namespace's operator makes an account of its own."""
        found: dict[str, str] = json.loads(self.nats.read_text())
        return found

    def token(self, identity: str) -> str:
        user = IDENTITIES[identity][0]
        for line in self.tokens.read_text().splitlines():
            token, name, *_ = line.split(",")
            if name == user:
                return token
        message = f"{self.tokens} holds no token for {user}: remove {self.folder}, then start again"
        raise LookupError(message)


def ensure_pki(folder: Path, addresses: Sequence[str] = ("127.0.0.1",)) -> Pki:
    """The keys in the folder, made on the first start and kept, so that old kubeconfigs serve.

    The certificate is good for servers at these addresses.
    """
    pki = Pki(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not pki.nats.exists():  # a folder of before it had one, too
        root = {entry: PrivateKey.generate().reveal() for entry in names.NATS_ROOT}
        _write(pki.nats, json.dumps(root).encode())
    if pki.tokens.exists():  # written last
        return pki
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleetloop local cluster")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    _write(pki.ca, ca.public_bytes(serialization.Encoding.PEM))
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleetloop-local")])
    hosts = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    alternatives = [
        *map(x509.DNSName, hosts),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]
    cert = (
        _builder(name, ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write(pki.cert, cert.public_bytes(serialization.Encoding.PEM))
    _write(pki.key, _private(key))
    account = ec.generate_private_key(ec.SECP256R1())
    _write(pki.service_account_key, _private(account))
    _write(
        pki.service_account_public,
        account.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )
    rows = [
        f"{secrets.token_hex(32)},{user},{identity}" + (f",{group}" if group else "")
        for identity, (user, group) in IDENTITIES.items()
    ]
    _write(pki.tokens, ("\n".join(rows) + "\n").encode())
    return pki


def write_kubeconfig(path: Path, server: str, pki: Pki, identity: str) -> None:
    """A kubeconfig that needs no other file, so that it can be copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "fleetloop",
                "cluster": {"server": server, "certificate-authority-data": _base64(pki.ca)},
            }
        ],
        "users": [{"name": identity, "user": {"token": pki.token(identity)}}],
        "contexts": [
            {
                "name": "fleetloop",
                "context": {"cluster": "fleetloop", "user": identity, "namespace": "default"},
            }
        ],
        "current-context": "fleetloop",
    }
    _write(path, yaml.safe_dump(document, sort_keys=False).encode())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _base64(path: Path) -> str:
    import base64

    return base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
