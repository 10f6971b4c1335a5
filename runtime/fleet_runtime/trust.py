"""Keys in files, as a pod or the owner of a robot has them.

They are read at every use: documents are few, and a key that is changed counts from then on, with
nothing started anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_contract.errors import Retry, Untrusted
from fleet_contract.names import Env, Signatory
from fleet_contract.trust import PrivateKey, Trusted, check

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_contract.messages import Signer, Verifier


def read(folder: Path) -> Trusted:
    """The public keys in a folder, a file a role. Raises ``ValueError`` saying what to do."""
    try:
        files = {role.value: (folder / role.value).read_text() for role in Signatory}
        return Trusted.read(files)
    except (OSError, ValueError) as fault:
        raise ValueError(
            f"{Env.TRUST_DIR}: {folder} must hold the public keys of the fleet, in a file "
            f"{' and a file '.join(Signatory)}: {fault}. `fleet robots enroll` shows them"
        ) from fault


def verifier(folder: Path | None, role: Signatory) -> Verifier | None:
    """Takes what the role signed, by the keys that lie there then; None: takes everything."""
    if folder is None:
        return None

    def verify(key: str, data: bytes, signature: str) -> None:
        try:
            trusted = read(folder)
        except ValueError as fault:
            raise Untrusted(str(fault)) from fault
        check(trusted, role, key, data, signature)

    return verify


def signer(file: Path | None) -> Signer | None:
    """Signs with the key that lies there then; raises ``Retry`` while there is none."""
    if file is None:
        return None

    def sign(data: bytes) -> tuple[str, str]:
        try:
            return PrivateKey(file.read_text()).sign(data)
        except (OSError, ValueError) as fault:
            raise Retry(f"{Env.KEY_FILE}: nothing can be signed: {fault}") from fault

    return sign
