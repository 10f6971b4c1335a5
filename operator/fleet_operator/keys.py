"""The namespace's keys: looked at now and then, made where they are missing."""

import asyncio
import logging

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.names import Signatory
from fleet_contract.trust import PrivateKey
from fleet_operator.cluster import Cluster, RefusedError
from fleet_operator.decide import keys
from fleet_operator.decide.keys import SECRETS, Keyring

ROUNDS = 3  # looks until what was written is what is there: another operator may write too

logger = logging.getLogger(__name__)


class Keys:
    """One per process. The learner's private key is made here, but never read."""

    def __init__(self, cluster: Cluster, every: float) -> None:
        """``every``: seconds between two looks."""
        self._cluster, self._every = cluster, every
        self._known: Keyring | None = None
        self._looked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def ring(self) -> Keyring:
        """As it was at the last look. Raises ``Retry``, and ``RefusedError`` for a person."""
        now = asyncio.get_running_loop().time()
        async with self._lock:
            if self._known is None or now - self._looked_at >= self._every:
                self._known = await self._look()
                self._looked_at = now
            return self._known

    async def _look(self) -> Keyring:
        cluster = self._cluster
        for _ in range(ROUNDS):
            own = await cluster.get("Secret", SECRETS[Signatory.OPERATOR])
            learner = await cluster.metadata("Secret", SECRETS[Signatory.LEARNER])
            trust = await cluster.get("ConfigMap", names.TRUST)
            try:
                found = {Signatory.OPERATOR: own, Signatory.LEARNER: learner}
                writes = keys.missing(found, trust, PrivateKey.generate)
                if not writes and own is not None and trust is not None:
                    return keys.keyring(own, trust)
            except ValueError as fault:
                raise RefusedError(str(fault)) from fault
            for manifest in writes:
                logger.info("making %s %s", manifest["kind"], manifest["metadata"]["name"])
                if "resourceVersion" in manifest["metadata"]:
                    await cluster.replace(manifest)
                else:
                    await cluster.create(manifest)
        raise Retry("the keys of the namespace change at every look: is another operator at work?")
