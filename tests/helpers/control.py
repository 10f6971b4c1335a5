"""The control plane in a test: the operator as a process, robots and learner as bare messages."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any, Self

import nats
from nats.aio.client import Client

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import ApiError, Json
from fleet_contract import names
from fleet_contract.messages import (
    Announcement,
    Assignment,
    AssignmentRole,
    AssignmentState,
    Event,
    EventKind,
    Heartbeat,
    Kept,
    Lineage,
    Outcome,
    PolicyRef,
    RobotState,
    Shadowed,
    digest_of,
)
from fleet_contract.names import Channel, Kind
from helpers import keys
from helpers.kube import Kube, condition

JOBS = f"{names.API_VERSION}/{names.PLURALS[Kind.TRAINING_JOB]}"
ROBOTS = f"{names.API_VERSION}/{names.PLURALS[Kind.ROBOT_ACTOR]}"
VERSIONS = f"{names.API_VERSION}/{names.PLURALS[Kind.POLICY_VERSION]}"
IDLE = {"command": ["sleep", "1000"]}  # what test pods run instead of a learner or robot


def training_job(name: str = "job", replicas: int = 0, **spec: Any) -> dict[str, Any]:
    """A job whose pods do nothing."""

    def idle(container: str) -> dict[str, Any]:
        return {"podOverrides": {"containers": [{"name": container, **IDLE}]}}

    return {
        "apiVersion": names.API_VERSION,
        "kind": "FleetTrainingJob",
        "metadata": {"name": name},
        "spec": {
            "tasks": [{"name": "reach"}],
            "learner": idle("learner"),
            "robots": {"simulated": {"replicas": replicas, **idle("robot")}},
            **spec,
        },
    }


def policy(sequence: int) -> PolicyRef:
    return PolicyRef(
        sequence=sequence, digest=digest_of(str(sequence).encode()), uri=f"versions/{sequence}"
    )


async def enroll(kube: Kube, job: str, *robots: str, **spec: Any) -> None:
    """External robots."""
    for name in robots:
        robot = {"metadata": {"name": name}, "spec": {"job": job, "mode": "External", **spec}}
        body = {"apiVersion": names.API_VERSION, "kind": "RobotActor", **robot}
        await kube.create(ROBOTS, body)


async def edit(kube: Kube, resource: str, name: str, change: Callable[[Json], None]) -> None:
    """Read, change, write; again when somebody else wrote in between."""
    while True:
        found = await kube.get(resource, name)
        change(found)
        try:
            await kube.api.update(kube.path(resource, name), found)
        except ApiError as error:
            if error.status != 409:
                raise
        else:
            return


async def press(kube: Kube, job: str, request: str) -> None:
    """A button, as kubectl annotate presses it."""

    def annotate(found: Json) -> None:
        found["metadata"].setdefault("annotations", {})[names.Label.REQUEST.value] = request

    await edit(kube, JOBS, job, annotate)


class Operator:
    """``python -m fleet_operator`` in one namespace."""

    def __init__(
        self,
        cluster: LocalCluster,
        namespace: str,
        nats_url: str = "",
        *,
        log: Path | None = None,
        **env: str,
    ) -> None:
        """`env` replaces what the operator is told; what it says goes to `log`."""
        self._log = log
        self._env = os.environ | {
            "KUBECONFIG": str(cluster.kubeconfig),
            "FLEET_NAMESPACE": namespace,
            "FLEET_NATS_URL": nats_url or cluster.nats_url,
            "FLEET_STORAGE_URL": cluster.storage_url,
            "FLEET_PROBE_PORT": "0",
            "FLEET_METRICS_PORT": "0",
            "FLEET_LOST_AFTER": "6",
            "FLEET_PATIENCE_SECONDS": "3",
            "FLEET_RESYNC_SECONDS": "20",
            **env,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Self:
        with self._log.open("ab") if self._log else contextlib.nullcontext() as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "fleet_operator", env=self._env, stderr=log
            )
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def ended(self) -> int:
        """Returns its exit code when the one that runs now has ended, by whomever."""
        assert self._process is not None
        return await self._process.wait()

    async def kill(self) -> None:
        """kill -9, and it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        code = await self._process.wait()
        self._process = None
        return code


class Fleet:
    """A job's robots and learner, as far as NATS sees them."""

    def __init__(self, client: Client, kube: Kube, job: str, job_uid: str) -> None:
        self.client, self.kube, self.job, self.job_uid = client, kube, job, job_uid
        self.uids: dict[str, str] = {}
        self.active: dict[str, PolicyRef] = {}
        self.assignment: Assignment | None = None
        self.kept: Kept | None = None
        self.says: dict[str, Any] = {}
        """More that every robot tells in its heartbeats."""
        self.refusing: dict[int, str] = {}
        """Versions that no robot takes, and why."""
        self._episodes = count(1)
        self._took = asyncio.Condition()

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, kube: Kube, url: str, job: str, robots: Iterable[str]) -> AsyncIterator[Self]:
        """Robots that are enrolled send heartbeats and take up what they are assigned."""
        found = await kube.until(JOBS, job, lambda job: condition(job, "StreamsReady") == "True")
        client = await nats.connect(url)
        fleet = cls(client, kube, job, found["metadata"]["uid"])

        async def assigned(message: Any) -> None:
            await fleet.take(Assignment.open(message.data))

        await client.subscribe(names.assign_subject(kube.namespace, job), cb=assigned)

        async def told(message: Any) -> None:
            async with fleet._took:
                fleet.kept = Kept.open(message.data)
                fleet._took.notify_all()

        await client.subscribe(names.kept_subject(kube.namespace, job), cb=told)
        for robot in robots:
            await fleet.join(robot)
        beats = asyncio.create_task(fleet._beat())
        try:
            yield fleet
        finally:
            beats.cancel()
            await client.close()

    async def until_closed(self, within: float = 60.0) -> None:
        async with asyncio.timeout(within), self._took:
            await self._took.wait_for(
                lambda: (
                    self.assignment is not None and self.assignment.state is AssignmentState.CLOSED
                )
            )

    async def quiet(self, duration: float) -> None:
        """Let time pass in which nothing shall happen; there is no event to await."""
        await asyncio.sleep(duration)

    async def join(self, robot: str) -> None:
        self.uids[robot] = (await self.kube.get(ROBOTS, robot))["metadata"]["uid"]

    async def take(self, document: Assignment) -> None:
        if self.assignment and document.order <= self.assignment.order:
            return
        async with self._took:
            self.assignment = document
            for robot in self.uids:
                if (assigned := document.policy_for(robot)) is None:
                    continue
                if assigned.sequence not in self.refusing:
                    self.active[robot] = assigned
                    continue
                why = self.refusing[assigned.sequence]
                await self._event(
                    robot, kind=EventKind.REFUSAL, of=assigned, episode_id="", detail=why
                )
            self._took.notify_all()

    async def until_runs(self, robot: str, sequence: int, within: float = 60.0) -> None:
        async with asyncio.timeout(within), self._took:
            await self._took.wait_for(
                lambda: robot in self.active and self.active[robot].sequence == sequence
            )

    async def until_kept(self, *versions: int, within: float = 60.0) -> None:
        """The learner was told to keep these and no others."""
        async with asyncio.timeout(within), self._took:
            await self._took.wait_for(
                lambda: self.kept is not None and self.kept.versions == versions
            )

    async def publish(self, subject: str, data: bytes) -> None:
        await self.client.jetstream().publish(subject, data, timeout=5)

    async def announce(self, sequence: int) -> None:
        message = Announcement(
            job_uid=self.job_uid,
            learner_epoch=1,
            policy=policy(sequence),
            step=sequence * 25,
            size=1000,
            lineage=Lineage(first=0, through=1, episodes=1),
            published_at=0.0,
        )
        key = await keys.of(self.kube)
        subject = names.announce_subject(self.kube.namespace, self.job)
        await self.publish(subject, message.sealed(key.sign).encode())

    async def end_episode(self, robot: str, *, success: bool, episode: str = "") -> None:
        await self._event(
            robot,
            kind=EventKind.OUTCOME,
            episode_id=episode or f"episode-{next(self._episodes)}",
            task="reach",
            outcome=Outcome.SUCCESS if success else Outcome.FAILURE,
            judged=success,
        )

    async def until_computes(self, robot: str, sequence: int, within: float = 60.0) -> None:
        """Beside what it runs."""

        def computes() -> bool:
            role = AssignmentRole.SHADOW
            told = self.assignment.policy_for(robot, role) if self.assignment else None
            return (told.sequence if told else 0) == sequence

        async with asyncio.timeout(within), self._took:
            await self._took.wait_for(computes)

    async def compute_episode(self, robot: str, *, episode: str = "", **figures: Any) -> None:
        """What a robot tells of the version that computed beside the one it runs."""
        assert self.assignment is not None
        beside = self.assignment.policy_for(robot, AssignmentRole.SHADOW)
        figures = {"chunks": 4, "disagreement": 0.1, "most": 0.2} | figures
        await self._event(
            robot,
            of=beside,
            kind=EventKind.SHADOW,
            role=AssignmentRole.SHADOW,
            episode_id=episode or f"episode-{next(self._episodes)}",
            task="reach",
            latency=0.01,
            detail="an action 6 out of bounds" if figures.get("trips") else "",
            shadow=Shadowed(acted=self.active[robot], **figures),
        )

    async def trip_guard(self, robot: str) -> None:
        await self._event(robot, kind=EventKind.GUARD, episode_id=f"trip-{next(self._episodes)}")

    async def _event(self, robot: str, *, of: PolicyRef | None = None, **fields: Any) -> None:
        event = Event(
            robot=robot,
            robot_uid=self.uids[robot],
            job_uid=self.job_uid,
            policy=of or self.active.get(robot),
            at=0.0,
            **fields,
        )
        subject = names.robot_subject(self.kube.namespace, robot, self.job, Channel.EVENT)
        await self.publish(subject, event.encode())

    async def _beat(self) -> None:
        while True:
            for robot, uid in list(self.uids.items()):
                beat = Heartbeat(
                    robot=robot,
                    robot_uid=uid,
                    job_uid=self.job_uid,
                    state=RobotState.RUNNING,
                    active=self.active.get(robot),
                    at=0.0,
                    **self.says,
                )
                namespace = self.kube.namespace
                subject = names.robot_subject(namespace, robot, self.job, Channel.HEARTBEAT)
                await self.client.publish(subject, beat.encode())
            await asyncio.sleep(1)

    async def until(self, holds: Callable[[dict[str, Any]], bool], within: float = 60.0) -> Any:
        """The job once the condition holds for it."""
        return await self.kube.until(JOBS, self.job, holds, within)


def candidate(job: Json) -> int:
    """The sequence under trial or in wait for it; 0: none."""
    found = job["status"].get("rollout", {}).get("candidate") or {}
    return int(found.get("sequence", 0))


def stable(job: Json) -> int:
    """The sequence the fleet runs; 0: none."""
    return int(job["status"].get("stable", {}).get("sequence", 0))


def trial(job: Json) -> list[str]:
    """The robots that try the candidate."""
    robots: list[str] = job["status"].get("rollout", {}).get("robots", [])
    return robots
