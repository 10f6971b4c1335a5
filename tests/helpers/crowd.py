"""A large fleet as the bus hears it: each robot's heartbeat once a second, and its episodes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import count, cycle
from typing import Any, Self

import nats
from nats.aio.client import Client

from fleet_contract import names
from fleet_contract.messages import (
    Announcement,
    Assignment,
    Event,
    EventKind,
    Heartbeat,
    Lineage,
    Outcome,
    PolicyRef,
    RobotState,
)
from fleet_contract.names import Channel
from fleet_contract.trust import PrivateKey
from helpers.control import policy

TICKS = 50  # a second, over which heartbeats are spread


class Crowd:
    """The robots of one job. They take what they are assigned at once, as between two episodes."""

    def __init__(
        self, client: Client, namespace: str, job: str, uids: Mapping[str, str], key: PrivateKey
    ) -> None:
        self._client, self._namespace, self._job = client, namespace, job
        self.job_uid = ""
        self._key = key
        self.uids = uids
        self.active: dict[str, PolicyRef | None] = dict.fromkeys(uids)
        self.documents = 0
        self.document: Assignment | None = None
        self.episode: float | None = None
        """Seconds that an episode lasts; None: they stand."""
        self._ended = dict.fromkeys(uids, 0)
        self._beats: dict[str, bytes] = {}
        self._ids = count(1)
        self._took = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def of(
        cls,
        url: str,
        namespace: str,
        job: str,
        job_uid: str,
        uids: Mapping[str, str],
        key: PrivateKey,
    ) -> AsyncIterator[Self]:
        """Heartbeats from now on; ``key`` is the learner's."""
        client = await nats.connect(url)
        crowd = cls(client, namespace, job, uids, key)
        crowd.job_uid = job_uid
        await client.subscribe(names.assign_subject(namespace, job), cb=crowd._assigned)
        life = asyncio.create_task(crowd._live())
        try:
            yield crowd
        finally:
            life.cancel()
            await client.close()

    async def announce(self, sequence: int) -> None:
        """As the learner does."""
        message = Announcement(
            job_uid=self.job_uid,
            learner_epoch=1,
            policy=policy(sequence),
            step=sequence * 25,
            size=1000,
            lineage=Lineage(first=0, through=1, episodes=1),
            published_at=0.0,
        )
        subject = names.announce_subject(self._namespace, self._job)
        await self._client.jetstream().publish(
            subject, message.sealed(self._key.sign).encode(), timeout=30
        )

    async def succeed(self, robots: Iterable[str], episodes: int) -> None:
        """So many episodes of these robots end well, in turn."""
        for robot, _ in zip(cycle(robots), range(episodes), strict=False):
            await self._end_episode(robot)
        await self._client.flush()

    async def until_all_run(self, sequence: int, within: float = 60.0) -> None:
        """Every robot was given that version."""

        def all_run() -> bool:
            return all(one is not None and one.sequence == sequence for one in self.active.values())

        async with asyncio.timeout(within), self._took:
            await self._took.wait_for(all_run)

    async def _assigned(self, message: Any) -> None:
        document = Assignment.open(message.data)
        if self.document is not None and document.order <= self.document.order:
            return
        async with self._took:
            self.document, self.documents = document, self.documents + 1
            for robot in self.uids:
                self.active[robot] = document.policy_for(robot)
            self._beats.clear()
            self._took.notify_all()

    async def _end_episode(self, robot: str) -> None:
        event = Event(
            robot=robot,
            robot_uid=self.uids[robot],
            job_uid=self.job_uid,
            policy=self.active[robot],
            at=0.0,
            kind=EventKind.OUTCOME,
            episode_id=f"episode-{next(self._ids)}",
            task="reach",
            outcome=Outcome.SUCCESS,
            judged=True,
        )
        self._ended[robot] += 1
        self._beats.pop(robot, None)
        subject = names.robot_subject(self._namespace, robot, self._job, Channel.EVENT)
        await self._client.publish(subject, event.encode())

    async def _live(self) -> None:
        """Each tick's share of the robots, at times that do not drift."""
        robots, clock = list(self.uids), asyncio.get_running_loop().time
        started, ended = clock(), 0.0
        for tick in count():
            for robot in robots[tick % TICKS :: TICKS]:
                await self._beat(robot)
            if self.episode is not None:
                ended += len(robots) / self.episode / TICKS
                for _ in range(int(ended)):
                    await self._end_episode(robots[next(self._ids) % len(robots)])
                ended %= 1
            await asyncio.sleep(max(0.0, started + (tick + 1) / TICKS - clock()))

    async def _beat(self, robot: str) -> None:
        if robot not in self._beats:
            self._beats[robot] = Heartbeat(
                robot=robot,
                robot_uid=self.uids[robot],
                job_uid=self.job_uid,
                state=RobotState.RUNNING,
                active=self.active[robot],
                assignment_epoch=self.document.epoch if self.document else 0,
                episodes=self._ended[robot],
                at=0.0,
            ).encode()
        subject = names.robot_subject(self._namespace, robot, self._job, Channel.HEARTBEAT)
        await self._client.publish(subject, self._beats[robot])
