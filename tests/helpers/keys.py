"""The keys of a fleet in a test, and those of a namespace that an operator works in."""

import base64
from pathlib import Path

from fleet_contract import names
from fleet_contract.names import Signatory
from fleet_contract.trust import PrivateKey
from helpers.kube import Kube

OPERATOR, LEARNER, STRANGER = (PrivateKey.generate() for _ in range(3))


def trust(
    folder: Path,
    *,
    operator: tuple[PrivateKey, ...] = (OPERATOR,),
    learner: tuple[PrivateKey, ...] = (LEARNER,),
) -> Path:
    """The public keys as a robot has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, keys in {Signatory.OPERATOR: operator, Signatory.LEARNER: learner}.items():
        (folder / role).write_text("".join(f"{key.public}\n" for key in keys))
    return folder


def private(folder: Path, key: PrivateKey = LEARNER) -> Path:
    """A private key as a learner has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names.KEY).write_text(key.reveal())
    return folder / names.KEY


async def of(kube: Kube, secret: str = names.LEARNER_KEY) -> PrivateKey:
    """The key that the operator made, once it is there."""
    found = await kube.until("secrets", secret, lambda _: True)
    return PrivateKey(base64.b64decode(found["data"][names.KEY]).decode())
