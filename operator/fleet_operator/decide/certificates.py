"""What the broker shows and whose signature on it is taken, from three objects. Pure.

There are always two authorities: one that signs, and one that is known everywhere before it ever
does. So the present one can be followed by the next at any moment, and nobody is left out.

Written in this order: the keys, then who is to be believed, then what the server shows. An object
that is not ours is looked at and left as it is.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fleet_contract import names
from fleet_contract.names import Label
from fleet_contract.tls import in_object
from fleet_contract.trust import PrivateKey
from fleet_operator.decide import x509
from fleet_operator.decide.x509 import Certificate

DAY = 24 * 3600
SERVES = 90 * DAY
"""Seconds that a server's certificate is good for; another is made at half of it."""
SIGNS = 3650 * DAY
"""Of an authority; the next one follows while it can still outlive what it signs."""
SKEW = 3600
"""Seconds that a client's clock may be behind ours."""
CERTIFICATE, KEY = "tls.crt", "tls.key"
PRESENT, NEXT = "present", "next"
LOOPBACK = ("localhost", "127.0.0.1")
"""By `kubectl port-forward`; of use only to who has a way into the namespace."""
_CERT_MANAGER = "cert-manager.io/"  # so it marks what it writes, ours before or not
Object = dict[str, Any]


class Found(NamedTuple):
    """The objects, None where there is none."""

    authority: Object | None = None
    believed: Object | None = None
    served: Object | None = None


class Wanted(NamedTuple):
    """What to write, in this order, and what then is."""

    writes: list[Object]
    authorities: str  # PEM
    leaf: bytes | None  # what the server is to show (DER)


def hosts(url: str, namespace: str, more: str) -> list[str]:
    """What a server is called by: as its address says, in the cluster, and as somebody added."""
    called = [urlsplit(one).hostname or "" for one in url.split(",")]
    ends = ("", ".svc", ".svc.cluster.local")
    inside = [f"{one}.{namespace}{end}" for one in called for end in ends]
    inside = inside if all("." not in one and ":" not in one for one in called) else []
    added = [one.strip() for one in more.split(",")]
    return list(dict.fromkeys(filter(None, [*called, *inside, *added, *LOOPBACK])))


def lies(found: Found) -> Certificate | None:
    """What the server's files hold, whoever wrote them."""
    try:
        return next(iter(x509.read(_pem(found.served, CERTIFICATE))), None)
    except ValueError:
        return None


def wanted(
    found: Found,
    namespace: str,
    called: Sequence[str],
    shown: bytes | None,
    now: int,
    generate: Callable[[], PrivateKey],
) -> Wanted:
    """``shown``: what the server showed last (DER), where we saw it.

    Raises ``ValueError`` in words for whoever changed one of them by hand.
    """
    if found.served is not None and not _ours(found.served):
        return _given(found, shown, now)
    known = _read(found.believed)
    keys = _followed(_keys(found.authority), known, now, generate)
    present, following = (
        _certificate(keys[one], known) or _self_signed(keys[one], namespace, now)
        for one in (PRESENT, NEXT)
    )
    leaf = _good(found.served, present, called, now)
    fresh = None
    if leaf is None:
        key = generate()
        ends = min(now + SERVES, present.ends)
        leaf = x509.server(key, called, keys[PRESENT], present, now - SKEW, ends)
        fresh = _served(found.served, leaf, key, present)
    believed = [present, following, *_still(known, leaf, shown, now)]
    text = "".join(one.pem for one in dict.fromkeys(believed))
    writes = [
        _authority(found.authority, keys),
        _believed(found.believed, text),
        fresh,
    ]
    return Wanted([one for one in writes if one is not None], _told(found, text), leaf.der)


def _given(found: Found, shown: bytes | None, now: int) -> Wanted:
    """Somebody else makes the certificate, cert-manager or a person: only who signed it is told."""
    what = f"Secret {names.NATS_TLS}"
    leaf = _one(_pem(found.served, CERTIFICATE), f"{what}, {CERTIFICATE}")
    signers = _all(_pem(found.served, names.CA), f"{what}, {names.CA}")
    if not signers:  # as of an authority that machines know
        return Wanted([], _told(found, ""), leaf.der)
    still = _still(_read(found.believed), leaf, shown, now)
    text = "".join(one.pem for one in dict.fromkeys([*signers, *still]))
    write = _believed(found.believed, text)
    return Wanted([write] if write else [], _told(found, text), leaf.der)


def _told(found: Found, ours: str) -> str:
    """What programs take: ours, or what a person wrote in its place."""
    theirs = found.believed is not None and not _ours(found.believed)
    return in_object(found.believed) if theirs else ours


def _still(
    known: Sequence[Certificate], leaf: Certificate, shown: bytes | None, now: int
) -> list[Certificate]:
    """Who was believed before, until the server is seen to show what the present one signed."""
    return [one for one in known if one.ends > now and shown != leaf.der]


def _keys(authority: Object | None) -> dict[str, PrivateKey]:
    data = (authority or {}).get("data") or {}
    try:
        return {
            entry: PrivateKey(base64.b64decode(data[entry]).decode())
            for entry in (PRESENT, NEXT)
            if entry in data
        }
    except ValueError as fault:
        raise ValueError(
            f"Secret {names.NATS_AUTHORITY} holds no private key ({fault}): delete the entry that "
            "is none, and the next authority takes its place"
        ) from fault


def _followed(
    keys: dict[str, PrivateKey],
    known: Sequence[Certificate],
    now: int,
    generate: Callable[[], PrivateKey],
) -> dict[str, PrivateKey]:
    """The next one in the place of one that is over, or that somebody took away."""
    present, following = keys.get(PRESENT), keys.get(NEXT)
    if present is None or _over(present, known, now):
        present, following = following or generate(), None
    return {PRESENT: present, NEXT: following or generate()}


def _over(key: PrivateKey, known: Sequence[Certificate], now: int) -> bool:
    found = _certificate(key, known)
    return found is not None and found.ends - now < SERVES


def _certificate(key: PrivateKey, known: Sequence[Certificate]) -> Certificate | None:
    return next((one for one in known if one.of(key) and one.subject == one.issuer), None)


def _self_signed(key: PrivateKey, namespace: str, now: int) -> Certificate:
    return x509.authority(key, namespace, now - SKEW, now + SIGNS)


def _good(
    served: Object | None, by: Certificate, called: Sequence[str], now: int
) -> Certificate | None:
    """What lies there, where it need not be another."""
    try:
        (leaf,) = x509.read(_pem(served, CERTIFICATE))
    except ValueError:
        return None
    good = leaf.issuer == by.subject and leaf.serves(called)
    return leaf if good and leaf.ends - now >= min(SERVES, by.ends - now) / 2 else None


def _ours(found: Object) -> bool:
    at = found["metadata"]
    taken = any(one.startswith(_CERT_MANAGER) for one in at.get("annotations") or {})
    return (at.get("labels") or {}).get(Label.MANAGED_BY.value) == names.FIELD_MANAGER and not taken


def _pem(found: Object | None, entry: str) -> str:
    data = (found or {}).get("data") or {}
    return base64.b64decode(data.get(entry) or "").decode(errors="replace")


def _read(believed_: Object | None) -> list[Certificate]:
    return _all(in_object(believed_), f"ConfigMap {names.NATS_CA}, {names.CA}")


def _all(text: str, where: str) -> list[Certificate]:
    try:
        return x509.read(text)
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}: correct it, or delete it") from fault


def _one(text: str, where: str) -> Certificate:
    found = _all(text, where)
    if not found:
        raise ValueError(f"{where}: it holds no certificate: whoever made that Secret renews it")
    return found[0]


def _authority(before: Object | None, keys: dict[str, PrivateKey]) -> Object | None:
    data = {entry: _encoded(key.reveal()) for entry, key in keys.items()}
    if before is not None and data == before.get("data"):
        return None
    return _object("Secret", names.NATS_AUTHORITY, before, data=data)


def _believed(before: Object | None, text: str) -> Object | None:
    if before is not None and (not _ours(before) or in_object(before) == text):
        return None
    return _object("ConfigMap", names.NATS_CA, before, data={names.CA: text})


def _served(before: Object | None, leaf: Certificate, key: PrivateKey, by: Certificate) -> Object:
    files = {CERTIFICATE: leaf.pem, KEY: x509.private(key), names.CA: by.pem}
    data = {entry: _encoded(text) for entry, text in files.items()}
    return _object("Secret", names.NATS_TLS, before, type="kubernetes.io/tls", data=data)


def _object(kind: str, name: str, before: Object | None, **more: Any) -> Object:
    version = {"resourceVersion": before["metadata"]["resourceVersion"]} if before else {}
    labels = {Label.MANAGED_BY.value: names.FIELD_MANAGER}
    metadata = {"name": name, "labels": labels} | version
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata} | more


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
