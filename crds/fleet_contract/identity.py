"""Who a program is to the broker: NATS JWTs, minted in plain Python.

Three levels, each signed by the one above. The *root* (NATS calls it the operator) is what a server
trusts; it signs *accounts*, one a namespace; a signing key of the account signs *users*. There is
a signing key for each role, and what the role may do stands in the account beside that key
(`permissions`), not in the user: whoever steals one key makes users of one role only, and another
table counts for users that were made before. A user brings its name and tags, which fill the gaps.

Keys are ``PrivateKey`` of `trust`; only what NATS reads is in NATS's own spelling.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from fleet_contract import names
from fleet_contract.names import Identity
from fleet_contract.permissions import Table, table
from fleet_contract.trust import PrivateKey

HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
UNLIMITED = -1
ADMINISTRATOR = "administrator"
SUBSCRIPTIONS = 64  # of one connection; our programs hold fewer than ten
Claims = dict[str, Any]


class Level(Enum):
    """What a key is for; the value is the first byte of its public spelling."""

    ROOT = 14 << 3  # O…
    ACCOUNT = 0  # A…
    USER = 20 << 3  # U…


SEED = 18 << 3  # S, then the level's letter


class Root(NamedTuple):
    """What a server trusts: its own key, and that of the account its administrators are in."""

    key: PrivateKey
    system: PrivateKey


class Account(NamedTuple):
    """A namespace's: its key, and a signing key for each role."""

    key: PrivateKey
    signing: Mapping[Identity, PrivateKey]


class User(NamedTuple):
    """A robot, or a job's learner or gate; the operator and readers have neither job nor UID.

    Where anything here differs from what was minted, that is void.
    """

    role: Identity
    name: str
    job: str = ""
    job_uid: str = ""
    uid: str = ""  # a robot's own: one made anew under a name is another
    issue: str = ""  # whatever a person last asked another one by

    @property
    def tags(self) -> list[str]:
        tags = {"job": self.job, "uid": self.job_uid, "robot": self.uid, "issue": self.issue}
        return [f"{key}:{value}" for key, value in tags.items() if value]


class Passport(NamedTuple):
    """A JWT and the key that proves one may show it."""

    token: str
    key: PrivateKey

    def prove(self, nonce: str) -> bytes:
        """The answer to a server's challenge."""
        _, signature = self.key.sign(nonce.encode())
        return base64.b64encode(bytes.fromhex(signature))


def public(key: PrivateKey, level: Level) -> str:
    """A public key as NATS spells it."""
    return _public(key.public, level)


@lru_cache(maxsize=64)  # an account's are asked for with each of its users
def _public(key: str, level: Level) -> str:
    return _spelled(bytes([level.value]) + bytes.fromhex(key))


def seed(key: PrivateKey, level: Level) -> str:
    """A private key as NATS spells it."""
    head = bytes([SEED | level.value >> 5, (level.value & 31) << 3])
    return _spelled(head + bytes.fromhex(key.reveal()))


def _spelled(data: bytes) -> str:
    crc = 0
    for byte in data:  # CRC-16/XMODEM
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


def _minted(claims: Claims, signer: PrivateKey, level: Level) -> str:
    claims |= {"iss": public(signer, level)}
    digest = hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).digest()
    claims |= {"jti": base64.b32encode(digest).decode().rstrip("=")}
    said = f"{_part(HEADER)}.{_part(claims)}"
    _, signature = signer.sign(said.encode())
    return f"{said}.{_url(bytes.fromhex(signature))}"


def _part(value: Claims) -> str:
    return _url(json.dumps(value, separators=(",", ":")).encode())


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def claims(token: str) -> Claims:
    """What a JWT says, unchecked; raises ``ValueError`` where it is none."""
    try:
        body = token.split(".")[1]
        found: Claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError) as fault:
        raise ValueError("this is no JWT") from fault
    return found


def root_jwt(root: Root, now: int) -> str:
    """What a server is started with: whose accounts it takes."""
    nats = {"type": "operator", "version": 2, "system_account": public(root.system, Level.ACCOUNT)}
    body = {"iat": now, "name": "fleetloop", "sub": public(root.key, Level.ROOT), "nats": nats}
    return _minted(body, root.key, Level.ROOT)


def _account(key: PrivateKey, name: str, now: int, root: Root, **nats: Any) -> str:
    limits: Claims = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn"), UNLIMITED
    )
    limits |= {"wildcards": True} | nats.pop("limits", {})
    said = {"type": "account", "version": 2, "limits": limits} | nats
    body = {"iat": now, "name": name, "sub": public(key, Level.ACCOUNT), "nats": said}
    return _minted(body, root.key, Level.ROOT)


def system_jwt(root: Root, now: int) -> str:
    """The account of those who administer the server; nobody's streams are in it."""
    return _account(root.system, "SYS", now, root)


def account_jwt(
    account: Account, namespace: str, root: Root, now: int, revoked: Mapping[str, int]
) -> str:
    """The namespace's account: what each role may do, and whose users are out.

    ``revoked``: by a user's public key the second until which whatever is minted for it is void.
    """
    storage = ("disk_storage", "streams", "consumer", "disk_max_stream_bytes", "max_ack_pending")
    scopes = [
        {
            "kind": "user_scope",
            "key": public(key, Level.ACCOUNT),
            "role": role.value,
            "template": _template(table(namespace)[role], role),
        }
        for role, key in account.signing.items()
    ]
    return _account(
        account.key,
        namespace,
        now,
        root,
        limits=dict.fromkeys(storage, UNLIMITED),
        signing_keys=scopes,
        **({"revocations": dict(revoked)} if revoked else {}),
    )


def _template(may: Table, role: Identity) -> Claims:
    many = UNLIMITED if role is Identity.OPERATOR else SUBSCRIPTIONS
    return {
        "pub": {"allow": list(may.publish)},
        "sub": {"allow": list(may.subscribe)},
        "subs": many,
        "data": UNLIMITED,
        "payload": UNLIMITED,
    }


def user_jwt(user: User, key: PrivateKey, account: Account, now: int, expires: int) -> str:
    """A user of the account's; it may what its role may, until ``expires``."""
    nats = {
        "type": "user",
        "version": 2,
        "issuer_account": public(account.key, Level.ACCOUNT),
        "tags": user.tags,
    }
    body = {"iat": now, "exp": expires, "name": user.name, "sub": public(key, Level.USER)}
    return _minted(body | {"nats": nats}, account.signing[user.role], Level.ACCOUNT)


def administrator_jwt(key: PrivateKey, root: Root, now: int, expires: int) -> str:
    """A user who may tell the server of accounts and of newer files, and nothing else."""
    nats = {
        "type": "user",
        "version": 2,
        "pub": {"allow": [names.CLAIMS_UPDATE, names.reload("*")]},
        "sub": {"allow": [f"{names.inbox(Identity.OPERATOR, ADMINISTRATOR)}.>"]},
        **dict.fromkeys(("subs", "data", "payload"), UNLIMITED),
    }
    body = {"iat": now, "exp": expires, "name": ADMINISTRATOR, "sub": public(key, Level.USER)}
    return _minted(body | {"nats": nats}, root.system, Level.ACCOUNT)


def credentials(token: str, key: PrivateKey) -> str:
    """A credentials file, as NATS's own tools write it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed(key, Level.USER)}\n"
        "------END USER NKEY SEED------\n"
    )


def token_of(text: str) -> str:
    """The JWT in a credentials file; raises ``ValueError`` where there is none."""
    lines = text.splitlines()
    found = [after for line, after in pairwise(lines) if "BEGIN NATS USER JWT" in line]
    if not found:
        raise ValueError("it holds no NATS user JWT: it is not a credentials file")
    return found[0].strip()


def passport_of(text: str) -> Passport:
    """What a credentials file holds; raises ``ValueError``, whose words do not repeat it."""
    lines = text.splitlines()
    found = [after for line, after in pairwise(lines) if "BEGIN USER NKEY SEED" in line]
    try:
        spelled = found[0].strip()
        data = base64.b32decode(spelled + "=" * (-len(spelled) % 8))
        return Passport(token_of(text), PrivateKey(data[2:34].hex()))
    except (IndexError, ValueError):
        raise ValueError("it holds no NATS user JWT with its seed") from None


def server_settings(root: Root, folder: str, now: int) -> str:
    """The part of a server's configuration by which it takes our accounts. Nothing in it is secret.

    ``folder``: where the server keeps the accounts that it was told of.
    """
    system = public(root.system, Level.ACCOUNT)
    return (
        f"operator: {root_jwt(root, now)}\n"
        f"system_account: {system}\n"
        f"resolver: {{ type: full, dir: {json.dumps(folder)}, allow_delete: false }}\n"
        f"resolver_preload: {{ {system}: {system_jwt(root, now)} }}\n"
    )
