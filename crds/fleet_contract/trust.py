"""Who signed a document: Ed25519 keys, what each may sign, and whose word is taken.

The learner's key signs manifests, announcements and receipts, the operator's signs assignments. A
key is 64 hex digits, the private one as well as the public one, and is called by the first sixteen
of its public half's SHA-256: nobody can give it the name of another. Several public keys of a role
are trusted at a time, so that one can follow another.

``python -m fleet_contract.trust`` prints a new pair, as a patch of the Secret of a role's key.
"""

import hashlib
import re
import sys
from collections.abc import Mapping
from typing import NamedTuple, Self

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from fleet_contract import names
from fleet_contract.errors import Untrusted
from fleet_contract.messages.envelope import Verifier
from fleet_contract.names import Signatory

_KEY = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


class PrivateKey:
    """Signs. Neither its name nor what it prints as gives it away."""

    def __init__(self, text: str) -> None:
        """Raises ``ValueError`` for anything but 64 hex digits; the message does not repeat it."""
        if not _KEY.fullmatch(text := text.strip()):
            raise ValueError(
                f"a private key is 64 hex digits, this has {len(text)} characters: "
                "`python -m fleet_contract.trust` makes one"
            )
        self._key = SigningKey(bytes.fromhex(text))
        self.public = self._key.verify_key.encode().hex()
        self.id = key_id(self.public)

    @classmethod
    def generate(cls) -> Self:
        return cls(SigningKey.generate().encode().hex())

    def __repr__(self) -> str:
        return f"PrivateKey({self.id})"

    def reveal(self) -> str:
        """Itself, for the one place where it is kept."""
        return self._key.encode().hex()

    def sign(self, data: bytes) -> tuple[str, str]:
        """A ``Signer``: (key id, signature)."""
        return self.id, self._key.sign(data).signature.hex()


def key_id(public: str) -> str:
    """What a public key is called."""
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]


def read_public(text: str) -> dict[str, str]:
    """Key id → public key: one a line, blank lines and what follows a ``#`` left out.

    Raises ``ValueError`` with the line that is none.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if key := line.split("#")[0].strip():
            if not _KEY.fullmatch(key):
                raise ValueError(f"line {number} is no public key of 64 hex digits: {key:.80}")
            found[key_id(key)] = key
    return found


class Trusted(NamedTuple):
    """The public keys whose word is taken, by role and key id."""

    keys: Mapping[Signatory, Mapping[str, str]]

    @classmethod
    def read(cls, files: Mapping[str, str]) -> Self:
        """From a role's name → its file. Raises ``ValueError`` where one is missing or wrong."""
        keys = {}
        for role in Signatory:
            try:
                keys[role] = read_public(files.get(role.value, ""))
            except ValueError as fault:
                raise ValueError(f"public keys of the {role}: {fault}") from fault
            if not keys[role]:
                raise ValueError(f"no public key of the {role}")
        return cls(keys)

    def verifier(self, role: Signatory) -> Verifier:
        """Takes what this role signed, by any of its keys."""

        def verify(key: str, data: bytes, signature: str) -> None:
            check(self, role, key, data, signature)

        return verify


def check(trusted: Trusted, role: Signatory, key: str, data: bytes, signature: str) -> None:
    """Raises ``Untrusted`` unless one of the role's keys signed these very bytes."""
    known = trusted.keys.get(role, {})
    if not key or not signature:
        raise Untrusted(
            f"it carries no signature of the {role}: whoever made it is not the {role}, or is one "
            "of before there were keys and must be started anew"
        )
    if key not in known:
        others = [one for one in trusted.keys if key in trusted.keys[one]]
        whose = f"the {others[0]}'s" if others else "nobody's that is known here"
        named = key if _ID.fullmatch(key) else "of no known form"  # a stranger's words are not told
        raise Untrusted(
            f"signed with key {named}, {whose}, not the {role}'s ({', '.join(sorted(known))}): "
            f"if that key is right, add it to the public keys of the {role}"
        )
    # One spelling of a signature: else a changed letter of it could go unnoticed.
    if not _SIGNATURE.fullmatch(signature):
        raise Untrusted(f"its signature by key {key} is not 128 hex digits: it was changed")
    try:
        VerifyKey(bytes.fromhex(known[key])).verify(data, bytes.fromhex(signature))
    except BadSignatureError as fault:
        raise Untrusted(
            f"its signature by key {key} does not fit what it says: it was changed on its way"
        ) from fault


def main() -> None:
    key = PrivateKey.generate()
    sys.stdout.write(
        f"# Key {key.id}. The public half, for ConfigMap {names.TRUST}: {key.public}\n"
        f"metadata: {{annotations: {{{names.Label.PUBLIC_KEY}: {key.public!r}}}}}\n"
        f"stringData: {{{names.KEY}: {key.reveal()!r}}}\n"
    )


if __name__ == "__main__":
    main()
