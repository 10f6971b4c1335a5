"""Who is minted, renewed and put out at the broker, from Secrets and who there should be. Pure.

``names.NATS_KEYS`` holds the keys and whom we put out, ``names.users`` tells where each one lies.
Whoever is no longer wanted is written down as out before the server is told, and the server is told
before the entry goes: an operator that dies in between does it again.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from fleet_contract import identity, names
from fleet_contract.identity import Account, Level, Root, User
from fleet_contract.names import Identity, Label, Role
from fleet_contract.resources import FleetTrainingJob, RobotActor, RobotMode
from fleet_contract.trust import PrivateKey

INSIDE = 24 * 3600
"""Seconds that an identity of a pod's is good for; at half of it its node shows it a newer one."""
OUTSIDE = 90 * 24 * 3600
"""Of a robot that somebody carried its credentials to; a newer one is there at half of it."""
ROOT, SYSTEM = names.NATS_ROOT
ACCOUNT, REVOKED = "account", "revoked"
Object = dict[str, Any]


class Wanted(NamedTuple):
    """One who should be there."""

    user: User
    lifetime: int = INSIDE


class Keys(NamedTuple):
    """All that identities are made from."""

    root: Root
    account: Account
    revoked: Mapping[str, int]


class Minted(NamedTuple):
    """Entries as they should be."""

    entries: Mapping[str, str]
    out: Mapping[str, int]
    """By the public key of who is out from now on, when it would have been over by itself."""


READER = Wanted(User(Identity.READER, names.READER))


def entry(user: User) -> str:
    """What its credentials are called in their Secret."""
    return names.user(user.role, user.name)


def of_job(job: FleetTrainingJob) -> list[Wanted]:
    """A job's learner, its gate and its clerk."""
    name, uid = job.metadata.name, job.metadata.uid
    roles = (Identity.LEARNER, Identity.GATE, Identity.CLERK)
    return [Wanted(User(role, name, name, uid)) for role in roles]


def of_robot(robot: RobotActor, job: FleetTrainingJob) -> Wanted:
    """A robot of the job."""
    at, of = robot.metadata, job.metadata
    issue = at.annotations.get(Label.CREDENTIALS, "")
    user = User(Identity.ROBOT, at.name, of.name, of.uid, at.uid, issue)
    return Wanted(user, OUTSIDE if robot.spec.mode is RobotMode.EXTERNAL else INSIDE)


def leaving(pods: Sequence[Object]) -> frozenset[str]:
    """Whose identity is in use by a pod."""
    found = set[str]()
    for pod in pods:
        labels = pod["metadata"].get("labels", {})
        role, robot = labels.get(Label.ROLE), labels.get(Label.ROBOT)
        if role in set(Role):
            found.add(names.user(Identity(role), robot or labels.get(Label.JOB, "")))
    return frozenset(found)


def signing(role: Identity) -> str:
    """The entry of a role's signing key."""
    return f"signing-{role}"


def completed(found: Object | None, generate: Callable[[], PrivateKey]) -> Object | None:
    """The Secret of the keys with those that are missing; None where none is."""
    data = dict((found or {}).get("data") or {})
    entries = [ROOT, SYSTEM, ACCOUNT, *map(signing, Identity)]
    fresh = {one: _encoded(generate().reveal()) for one in entries if one not in data}
    return _secret(names.NATS_KEYS, found, data | fresh) if fresh else None


def read(found: Object) -> Keys:
    """Raises ``ValueError`` in words for whoever changed it by hand."""
    data = found.get("data") or {}

    def key(entry: str) -> PrivateKey:
        try:
            return PrivateKey(base64.b64decode(data[entry]).decode())
        except (KeyError, ValueError) as fault:
            raise ValueError(
                f"Secret {names.NATS_KEYS} holds no private key under {entry!r} ({fault}): delete "
                "that entry, and another is made (every identity is then minted anew)"
            ) from fault

    try:
        revoked = json.loads(base64.b64decode(data[REVOKED])) if REVOKED in data else {}
        revoked = {str(who): int(over) for who, over in revoked.items()}
    except (ValueError, AttributeError) as fault:
        raise ValueError(
            f"Secret {names.NATS_KEYS}, {REVOKED!r}: {fault}: it is the JSON of who is out until "
            "when; correct it, for without it they would be in again"
        ) from fault
    account = Account(key(ACCOUNT), {role: key(signing(role)) for role in Identity})
    return Keys(Root(key(ROOT), key(SYSTEM)), account, revoked)


def minted(
    entries: Mapping[str, str],
    wanted: Mapping[str, Wanted],
    leaving: AbstractSet[str],
    account: Account,
    now: int,
    generate: Callable[[], PrivateKey],
) -> Minted:
    """What lies there, brought up to date: missing, changed or half over is minted anew.

    Who is ``leaving`` has a pod yet, which sends what it still holds: it stays as it is.
    """
    after, out = dict[str, str](), dict[str, int]()
    for entry, text in entries.items():
        said = _said(text)
        if entry in leaving and entry not in wanted:
            after[entry] = text
        elif entry not in wanted or _differs(said, wanted[entry].user, account):
            out |= {said["sub"]: said["exp"]} if {"sub", "exp"} <= said.keys() else {}
        elif said["exp"] - now >= wanted[entry].lifetime / 2:
            after[entry] = text
    for entry, (user, lifetime) in wanted.items():
        if entry not in after:
            key = generate()
            token = identity.user_jwt(user, key, account, now, now + lifetime)
            after[entry] = identity.credentials(token, key)
    return Minted(after, out)


def _said(text: str) -> identity.Claims:
    try:
        return identity.claims(identity.token_of(text))
    except ValueError:
        return {}


def _differs(said: identity.Claims, user: User, account: Account) -> bool:
    """Whether what was minted says anything else than we would."""
    ours = {
        "name": user.name,
        "iss": identity.public(account.signing[user.role], Level.ACCOUNT),
        "tags": user.tags,
        "account": identity.public(account.key, Level.ACCOUNT),
    }
    nats = said.get("nats", {})
    theirs = {"name": said.get("name"), "iss": said.get("iss")}
    return ours != theirs | {"tags": nats.get("tags"), "account": nats.get("issuer_account")}


def put_out(found: Object, out: Mapping[str, int], now: int) -> Object:
    """The Secret of the keys, with whom we put out; who could not come in any more is forgotten."""
    all_ = {**read(found).revoked, **out}
    kept = {who: over for who, over in all_.items() if over >= now}
    data = found["data"] | {REVOKED: _encoded(json.dumps(kept, sort_keys=True))}
    return _secret(names.NATS_KEYS, found, data)


def entries_of(found: Object | None) -> dict[str, str]:
    """Credentials files, by whose they are."""
    data = (found or {}).get("data") or {}
    return {entry: base64.b64decode(text).decode(errors="replace") for entry, text in data.items()}


def together(secrets: Mapping[str, Object | None]) -> dict[str, str]:
    """All entries, by whose they are; one that lies in two Secrets counts where it belongs."""
    found = [
        (names.users(entry) == name, entry, text)
        for name, one in secrets.items()
        for entry, text in entries_of(one).items()
    ]
    return {entry: text for _, entry, text in sorted(found)}


def users(secrets: Mapping[str, Object | None], entries: Mapping[str, str]) -> list[Object]:
    """The Secrets that are to be written, so that these entries are in them and no others.

    Robots' come first: one that lay beside all others, as they did once, is never nowhere.
    """
    wanted: dict[str, dict[str, str]] = {name: {} for name, found in secrets.items() if found}
    for entry, text in entries.items():
        wanted.setdefault(names.users(entry), {})[entry] = text
    return [
        _secret(name, secrets.get(name), {entry: _encoded(t) for entry, t in wanted[name].items()})
        for name in sorted(wanted, key=lambda name: name == names.NATS_USERS)
        if secrets.get(name) is None or entries_of(secrets[name]) != wanted[name]
    ]


def server(root: Root, now: int) -> Object:
    """By what a broker in the namespace takes our identities; nothing in it is secret."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.NATS_SERVER, "labels": _LABELS},
        "data": {"accounts.conf": identity.server_settings(root, "/data/accounts", now)},
    }


def _secret(name: str, before: Object | None, data: Mapping[str, str]) -> Object:
    version = {"resourceVersion": before["metadata"]["resourceVersion"]} if before else {}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": _LABELS} | version,
        "data": dict(data),
    }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


_LABELS = {Label.MANAGED_BY.value: names.FIELD_MANAGER}
