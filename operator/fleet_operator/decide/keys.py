"""Which keys a namespace has, and which are to be made. Pure.

Of a namespace, not of a job: so the operator's Role names the three objects it may read, and no
other Secret. Whoever may start pods in a namespace could mount the keys of each of its jobs anyway.

Public keys are added, never taken away: that is what a person does to end a key.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fleet_contract import names
from fleet_contract.names import Label, Signatory
from fleet_contract.trust import PrivateKey, Trusted, read_public

SECRETS = {Signatory.OPERATOR: names.OPERATOR_KEY, Signatory.LEARNER: names.LEARNER_KEY}
HEAD = "# Public keys of the {}, one a line: docs/trust.md says how one follows another.\n"
Object = dict[str, Any]


class Keyring(NamedTuple):
    """What the operator signs with and whom it believes."""

    own: PrivateKey
    trusted: Trusted


def missing(
    secrets: Mapping[Signatory, Object | None],
    trust: Object | None,
    generate: Callable[[], PrivateKey],
) -> list[Object]:
    """What to write, in this order: a public key is out before anybody can sign with it.

    A key that a person took out of the ConfigMap stays out while its Secret is there. Raises
    ``ValueError`` where a key is to be added to a file that cannot be read.
    """
    fresh = {role: generate() for role, found in secrets.items() if found is None}
    files = dict((trust or {}).get("data") or {})
    for role, found in secrets.items():
        if role in fresh:
            public = fresh[role].public
        elif trust is None and found is not None:
            public = found["metadata"].get("annotations", {}).get(Label.PUBLIC_KEY, "")
        else:
            continue
        known = files.get(role.value) or HEAD.format(role)
        try:
            listed = read_public(known).values()
        except ValueError as fault:
            raise ValueError(f"ConfigMap {names.TRUST}, {role}: {fault}: correct it") from fault
        if public and public not in listed:
            files[role.value] = f"{known.rstrip()}\n{public}\n"
    writes = []
    if trust is None or files != (trust.get("data") or {}):
        writes.append(_trust(files, trust))
    return writes + [_secret(role, key) for role, key in fresh.items()]


def keyring(own: Object, trust: Object) -> Keyring:
    """Raises ``ValueError`` in words for whoever changed one of the two by hand."""
    where = f"Secret {names.OPERATOR_KEY}"
    try:
        key = PrivateKey(base64.b64decode(own["data"][names.KEY]).decode())
    except (KeyError, TypeError, ValueError) as fault:
        raise ValueError(
            f"{where} holds no private key under {names.KEY!r} ({fault}): delete it, and another "
            "is made"
        ) from fault
    try:
        trusted = Trusted.read(trust.get("data") or {})
    except ValueError as fault:
        raise ValueError(
            f"ConfigMap {names.TRUST}: {fault}: correct it, or delete it, and it is made anew"
        ) from fault
    if key.id not in trusted.keys[Signatory.OPERATOR]:
        raise ValueError(
            f"ConfigMap {names.TRUST} does not hold the public key {key.public} of {where}: add "
            f"it under {Signatory.OPERATOR.value!r}, or delete the Secret, and another key is made"
        )
    return Keyring(key, trusted)


def _trust(files: Mapping[str, str], before: Object | None) -> Object:
    version = {"resourceVersion": before["metadata"]["resourceVersion"]} if before else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.TRUST, "labels": _LABELS} | version,
        "data": dict(files),
    }


def _secret(role: Signatory, key: PrivateKey) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRETS[role],
            "labels": _LABELS,
            "annotations": {Label.PUBLIC_KEY.value: key.public},
        },
        "data": {names.KEY: base64.b64encode(key.reveal().encode()).decode()},
    }


_LABELS = {Label.MANAGED_BY.value: names.FIELD_MANAGER}
