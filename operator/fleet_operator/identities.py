"""Who may come to the broker: looked at now and then, and whenever somebody comes or goes."""

import asyncio
import logging
import time
from collections.abc import Mapping

from fleet_contract import identity, names
from fleet_contract.errors import Retry
from fleet_contract.identity import Passport, User
from fleet_contract.names import Identity, Kind, Label
from fleet_contract.resources import FleetTrainingJob, RobotActor
from fleet_contract.trust import PrivateKey
from fleet_operator import claims
from fleet_operator.certificates import Certificates
from fleet_operator.cluster import Cluster, Object, RefusedError
from fleet_operator.decide import identities as decide
from fleet_operator.decide.identities import Keys, Wanted

ROUNDS = 3  # looks until what was written is what is there: another operator may write too
ADMINISTERS = 60  # seconds that an administrator's identity is good for

logger = logging.getLogger(__name__)


class Identities:
    """One per process, for the one broker whose accounts are ours."""

    def __init__(self, cluster: Cluster, url: str, certificates: Certificates) -> None:
        self.url = url
        self._cluster, self._certificates = cluster, certificates
        self._keys: Keys | None = None
        self._known: Mapping[str, User] = {}
        self._secrets = {names.NATS_USERS, *names.NATS_ROBOTS}
        """Those that there may be: a small fleet's look is a small one, but for the first."""
        self._own = PrivateKey.generate()
        self._lock = asyncio.Lock()

    async def settle(self, entry: str, user: User | None) -> None:
        """This one has its identity, or, None, has none any more. Raises ``Retry``.

        A fleet that comes or goes at once is one look: who waits for it finds it done.
        """
        async with self._lock:
            if self._keys is None or self._known.get(entry) != user:
                await self._look(tell=False)

    async def look(self) -> None:
        """All as it should be, and the server knows. Raises ``Retry``."""
        async with self._lock:
            await self._look(tell=True)

    async def tell(self) -> None:
        """The server knows our account: it may have lost its disk. Raises ``Retry``."""
        async with self._lock:
            if self._keys is None:
                await self._look(tell=False)
            assert self._keys is not None  # noqa: S101 - just looked
            await self._tell(self._keys)

    def passport(self) -> Passport:
        """The operator's own, minted this moment and nowhere kept; after ``tell``."""
        assert self._keys is not None  # noqa: S101 - told before
        now, user = int(time.time()), User(Identity.OPERATOR, names.FIELD_MANAGER)
        token = identity.user_jwt(user, self._own, self._keys.account, now, now + decide.INSIDE)
        return Passport(token, self._own)

    async def _look(self, *, tell: bool) -> None:
        for _ in range(ROUNDS):
            try:
                found = await self._cluster.get("Secret", names.NATS_KEYS)
                missing = decide.completed(found, PrivateKey.generate)
                if missing is None and found is not None:
                    return await self._bring_up_to_date(found, decide.read(found), tell=tell)
            except (ValueError, RefusedError) as fault:
                raise Retry(f"identities at the broker: {fault}") from fault
            if missing is not None:
                logger.info("making keys in Secret %s", names.NATS_KEYS)
                await self._write(missing)
        raise Retry(f"Secret {names.NATS_KEYS} changes at every look: is another operator at work?")

    async def _bring_up_to_date(self, found: Object, keys: Keys, *, tell: bool) -> None:
        now = int(time.time())
        before = {name: await self._cluster.get("Secret", name) for name in sorted(self._secrets)}
        entries = decide.together(before)
        wanted, leaving = await self._everybody()
        make = PrivateKey.generate
        minted = decide.minted(entries, wanted, leaving, keys.account, now, make)
        if minted.out:
            manifest = decide.put_out(found, minted.out, now)
            logger.info("%d identities are void at the broker from now on", len(minted.out))
            await self._write(manifest)
            keys = decide.read(manifest)
        if self._keys is None:
            await self._cluster.create(decide.server(keys.root, now))
        self._keys = keys
        if minted.out:  # they stay in the entries until the server knows
            await self._tell(keys)
        self._secrets = {names.NATS_USERS, *(name for name, one in before.items() if one)}
        for one in decide.users(before, minted.entries):
            self._secrets.add(one["metadata"]["name"])
            await self._write(one)
        self._known = {entry: one.user for entry, one in wanted.items()}
        if tell and not minted.out:
            await self._tell(keys)

    async def _everybody(self) -> tuple[Mapping[str, Wanted], frozenset[str]]:
        """Who should be there, and who has a pod yet, by entry."""
        pods = await self._cluster.list("Pod", labelSelector=Label.JOB.value)
        jobs = {
            job.metadata.name: job
            for job in map(
                FleetTrainingJob.model_validate, await self._cluster.list(Kind.TRAINING_JOB)
            )
            if job.spec.transport.nats.url in {"", self.url}
        }
        robots = map(RobotActor.model_validate, await self._cluster.list(Kind.ROBOT_ACTOR))
        users = [decide.READER]
        users += [one for job in jobs.values() for one in decide.of_job(job)]
        users += [
            decide.of_robot(one, jobs[one.spec.job]) for one in robots if one.spec.job in jobs
        ]
        return {decide.entry(one.user): one for one in users}, decide.leaving(pods)

    async def _write(self, manifest: Object) -> None:
        """Raises ``Retry`` where somebody else wrote in between."""
        if "resourceVersion" in manifest["metadata"]:
            written = await self._cluster.replace(manifest)
        else:
            written = await self._cluster.create(manifest)
        if written is None:
            name = manifest["metadata"]["name"]
            raise Retry(f"Secret {name} was written by somebody else meanwhile; looking again")

    async def _tell(self, keys: Keys) -> None:
        now, key = int(time.time()), PrivateKey.generate()
        token = identity.administrator_jwt(key, keys.root, now, now + ADMINISTERS)
        account = identity.account_jwt(
            keys.account, self._cluster.namespace, keys.root, now, keys.revoked
        )
        known = self._certificates
        await claims.tell(
            *(self.url, Passport(token, key), account),
            authorities=await known.authorities(),
            stale=known.seen,
        )
