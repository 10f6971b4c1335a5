"""What our broker shows and whose signature on it is taken: looked at, made."""

import asyncio
import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract import names, tls
from fleet_contract.errors import Retry
from fleet_contract.trust import PrivateKey
from fleet_operator import metrics
from fleet_operator.cluster import Cluster, Object, RefusedError

if TYPE_CHECKING:
    from fleet_operator.decide.certificates import Wanted
    from fleet_operator.decide.x509 import Certificate

ROUNDS = 3  # looks until what was written is what is there: another operator may write too

logger = logging.getLogger(__name__)


class Broker(NamedTuple):
    """The one whose certificate we see to."""

    url: str
    names: str
    """What else it is called by, separated by commas."""


class Certificates:
    """One per process."""

    def __init__(self, cluster: Cluster, broker: Broker | None) -> None:
        """Without a ``broker`` nothing is made: what people wrote is taken."""
        self._cluster, self._broker = cluster, broker
        self._wanted: Wanted | None = None
        self._shown: bytes | None = None
        self._lock = asyncio.Lock()

    async def authorities(self) -> str:
        """Whose signature is taken (PEM); empty: whose the machine knows. Raises ``Retry``."""
        if self._broker is None:
            try:
                return tls.in_object(await self._cluster.get("ConfigMap", names.NATS_CA))
            except RefusedError as fault:
                raise Retry(f"whose certificate a broker may show: {fault}") from fault
        async with self._lock:
            wanted = self._wanted or await self._look(self._broker)
            return wanted.authorities

    async def look(self) -> None:
        """All as it should be. Raises ``Retry``."""
        if self._broker is not None:
            async with self._lock:
                await self._look(self._broker)

    def seen(self, shown: bytes | None) -> bool:
        """Whether our broker, which shows this (DER), is to look at its files anew."""
        self._shown = shown
        if shown is not None and self._broker is not None:
            from fleet_operator.decide import x509

            _tell("shown", x509.Certificate.of_der(shown))
        leaf = self._wanted and self._wanted.leaf
        return leaf is not None and shown != leaf

    async def _look(self, broker: Broker) -> "Wanted":
        # What makes certificates is slow to load: only where they are made.
        from fleet_operator.decide import certificates as decide
        from fleet_operator.decide import x509

        cluster = self._cluster
        called = decide.hosts(broker.url, cluster.namespace, broker.names)
        for _ in range(ROUNDS):
            found = decide.Found(
                await cluster.get("Secret", names.NATS_AUTHORITY),
                await cluster.get("ConfigMap", names.NATS_CA),
                await cluster.get("Secret", names.NATS_TLS),
            )
            if (there := decide.lies(found)) is not None:  # also where none can follow it
                _tell("made", there)
            try:
                wanted = decide.wanted(
                    *(found, cluster.namespace, called, self._shown, int(time.time())),
                    PrivateKey.generate,
                )
                if all([await self._write(one) for one in wanted.writes]):
                    self._wanted = wanted
                    if wanted.leaf is not None:
                        _tell("made", x509.Certificate.of_der(wanted.leaf))
                    return wanted
            except (ValueError, RefusedError) as fault:
                raise Retry(f"the broker's certificate: {fault}") from fault
        raise Retry("the broker's certificate changes at every look: is another operator at work?")

    async def _write(self, manifest: Object) -> bool:
        kind, at = manifest["kind"], manifest["metadata"]
        logger.info("writing %s %s", kind, at["name"])
        if "resourceVersion" in at:
            return await self._cluster.replace(manifest) is not None
        return await self._cluster.create(manifest) is not None


def _tell(which: str, found: "Certificate") -> None:
    metrics.CERTIFICATE_BEGIN.labels(which).set(found.begins)
    metrics.CERTIFICATE_END.labels(which).set(found.ends)
