"""Where the API server is and who we are to it: a pod's service account, or a kubeconfig's context.

No client library: the one there is would be half of the operator's image and of its start, and we
send plain objects.
"""

import base64
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import yaml

from fleet_contract.errors import FleetError

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOME = "~/.kube/config"
REREAD = 60.0  # seconds: a pod's token is another one every hour, long before the old one ends
ADVICE = "set KUBECONFIG, or run as a pod with a service account"
Section = dict[str, Any]


@dataclass
class Access:
    """Certificates are PEM; ``token_file`` is read again and again, ``token`` is what it is."""

    server: str
    ca: bytes = b""
    insecure: bool = False
    token: str = ""
    token_file: Path | None = None
    certificate: bytes = b""
    key: bytes = b""
    _read_at: float = field(default=float("-inf"), repr=False)

    @classmethod
    def find(cls) -> Self:
        """A kubeconfig that somebody names comes first. Raises ``FleetError`` in words."""
        token = ACCOUNT / "token"
        try:
            if "KUBECONFIG" not in os.environ and token.exists():
                host, port = (os.environ[f"KUBERNETES_SERVICE_{one}"] for one in ("HOST", "PORT"))
                host = f"[{host}]" if ":" in host else host
                ca = (ACCOUNT / "ca.crt").read_bytes()
                return cls(f"https://{host}:{port}", ca, token_file=token)
            return cls(**_of_context(os.environ.get("KUBECONFIG") or HOME))
        except (KeyError, StopIteration, TypeError, ValueError, OSError, yaml.YAMLError) as fault:
            raise FleetError(f"no Kubernetes API to work with ({fault!r}): {ADVICE}") from fault

    def bearer(self) -> str:
        """The token of now; empty where a certificate says who we are."""
        now = time.monotonic()
        if self.token_file is not None and now - self._read_at >= REREAD:
            self.token, self._read_at = self.token_file.read_text().strip(), now
        return self.token

    def tls(self) -> ssl.SSLContext:
        """For a client of ours."""
        context = ssl.create_default_context(cadata=self.ca.decode() or None)
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.certificate:
            with TemporaryDirectory() as folder:  # the library takes files only
                pair = Path(folder) / "pair.pem"
                pair.touch(mode=0o600)
                pair.write_bytes(self.certificate + b"\n" + self.key)
                context.load_cert_chain(pair)
        return context


def _of_context(paths: str) -> Section:
    """What the current context says; of several files the first that speaks of a thing counts."""
    places = [Path(one).expanduser() for one in paths.split(os.pathsep) if one]
    files = [(one.parent, yaml.safe_load(one.read_text())) for one in places if one.exists()]
    if not files:
        raise ValueError(f"no kubeconfig in {paths}")
    current = next(one["current-context"] for _, one in files if one.get("current-context"))

    def find(kind: str, name: str) -> tuple[Path, Section]:
        for folder, document in files:
            for one in document.get(f"{kind}s") or []:
                if one["name"] == name:
                    return folder, one.get(kind) or {}
        raise ValueError(f"the kubeconfig has no {kind} {name!r}")

    _, context = find("context", current)
    at, cluster = find("cluster", context["cluster"])
    home, user = find("user", context["user"])
    if user.keys() & {"exec", "auth-provider"}:
        raise ValueError(f"user {context['user']!r} needs a program: `kubectl create token` one")
    token_file = user.get("tokenFile")
    return {
        "server": cluster["server"].rstrip("/"),
        "ca": _pem(at, cluster, "certificate-authority"),
        "insecure": bool(cluster.get("insecure-skip-tls-verify")),
        "token": user.get("token", ""),
        "token_file": home / token_file if token_file else None,
        "certificate": _pem(home, user, "client-certificate"),
        "key": _pem(home, user, "client-key"),
    }


def _pem(folder: Path, section: Section, name: str) -> bytes:
    if data := section.get(f"{name}-data"):
        return base64.b64decode(data)
    return (folder / section[name]).read_bytes() if section.get(name) else b""
