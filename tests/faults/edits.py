"""Row 9: after any sequence of edits the cluster is as if the last objects had been applied alone.

A sequence is drawn from a seed. It changes fields of a job and of robots, to what is legal by the
schema and may be nonsense together, deletes and makes anew, wipes, presses buttons, deletes
children. Then the last spec is written, a version is announced in both worlds, and both must come
to the same end. Robots of both worlds send heartbeats and take nothing up.
"""

import asyncio
import random
from copy import deepcopy
from typing import TYPE_CHECKING

import nats

from faults.bench import Bench
from faults.oracle import BATCH
from fleet_cli.local.node.api import ApiError, Json
from fleet_contract import names
from fleet_contract.messages import Announcement, Heartbeat, Lineage, RobotState
from fleet_contract.names import Channel, Stream
from helpers import keys
from helpers.control import JOBS, ROBOTS, VERSIONS, edit, policy, press, training_job
from helpers.kube import Kube

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

STEPS = 8
WITHIN = 120.0
LAST = 900  # the version that is announced in the end
ANYTHING: list[Json] = [
    {"strategy": "Broadcast"},
    {"strategy": "Broadcast", "paused": True},
    {"mode": "Pinned", "pinnedVersion": LAST},
    {"mode": "Manual", "strategy": "Broadcast"},
    {"strategy": "Broadcast", "windows": [{"schedule": "61 * * * *", "duration": "1h"}]},
    {"steps": [{"percent": 100, "deadline": "0s"}], "approval": "Always"},
]
FINAL = ANYTHING[:3]
"""Rollouts after which the way there decides about old versions only."""


def draw_spec(rng: random.Random, rollouts: list[Json] = ANYTHING) -> Json:
    """A job's spec."""
    spec = training_job(replicas=rng.randrange(3))["spec"]
    spec["learner"] |= {"batchSize": rng.choice([8, 16]), "replicas": rng.choice([1, 1, 2])}
    pod = spec["robots"]["simulated"]["podOverrides"]["containers"][0]
    pod["command"] = rng.choice([["sleep", "1000"], ["sleep", "1001"]])
    spec["rollout"] = rng.choice(rollouts)
    spec["suspend"] = rng.random() < 0.2
    spec["tasks"] = rng.choice([[{"name": "reach"}], [{"name": "reach"}, {"name": "push"}]])
    spec["history"] = {"versions": rng.choice([1, 10])}
    spec["goal"] = rng.choice([{}, {"successRate": 1.0}])
    return deepcopy(spec)


def draw_robot(rng: random.Random, name: str) -> Json:
    """An external robot, of this job or of one that is not there."""
    spec = {
        "job": rng.choice(["job", "job", "nobody"]),
        "mode": "External",
        "suspend": rng.random() < 0.3,
        "site": rng.choice(["", "lab"]),
    }
    if rng.random() < 0.3:
        spec["pin"] = rng.choice([1, 777])
    kind = {"apiVersion": names.API_VERSION, "kind": "RobotActor"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


class World:
    """One namespace, and the objects that somebody last applied to it."""

    def __init__(self, bench: Bench, rng: random.Random) -> None:
        self.kube, self.url, self.rng = bench.kube, bench.nats_url, rng
        self.job: Json = {}
        self.robots: dict[str, Json] = {}
        self.did: list[str] = []

    async def apply(self, job: Json, robots: dict[str, Json]) -> None:
        self.job, self.robots = deepcopy(job), deepcopy(robots)
        await self.kube.create(JOBS, deepcopy(job))
        for robot in robots.values():
            await self.kube.create(ROBOTS, deepcopy(robot))

    async def step(self) -> None:
        """One of the things that people do."""
        ways: list[Callable[[], Awaitable[str]]] = [
            *(self._edit_job, self._edit_job, self._edit_robot, self._swap_robot),
            *(self._press, self._lose_child, self._wipe, self._job_anew, self._announce),
        ]
        try:
            self.did.append(await self.rng.choice(ways)())
        except ApiError as error:
            if error.status not in {404, 409, 429}:
                raise
            self.did.append(f"in vain: {error}")

    async def _edit_job(self) -> str:
        wanted = draw_spec(self.rng)

        def change(found: Json) -> None:
            found["spec"] = deepcopy(wanted)

        await edit(self.kube, JOBS, "job", change)
        self.job["spec"] = wanted
        return f"edit the job: {wanted['rollout']} suspend={wanted['suspend']}"

    async def _edit_robot(self) -> str:
        name = self.rng.choice(["r1", "r2"])
        wanted = draw_robot(self.rng, name)
        if name not in self.robots:
            await self.kube.create(ROBOTS, deepcopy(wanted))
            self.robots[name] = wanted
            return f"enroll {name}: {wanted['spec']}"
        wanted["spec"]["job"] = self.robots[name]["spec"]["job"]  # immutable

        def change(found: Json) -> None:
            found["spec"] = deepcopy(wanted["spec"])

        await edit(self.kube, ROBOTS, name, change)
        self.robots[name] = wanted
        return f"edit {name}: {wanted['spec']}"

    async def _swap_robot(self) -> str:
        if not self.robots:
            return await self._edit_robot()
        name = self.rng.choice(sorted(self.robots))
        await self.kube.delete(ROBOTS, name)
        del self.robots[name]
        return f"delete {name}"

    async def _press(self) -> str:
        verb, nonce = self.rng.choice(list(names.Verb)), self.rng.randrange(10**6)
        request = f"{verb}@{self.rng.choice([1, 2, 900])}#{nonce}"
        if verb is names.Verb.PAUSE:  # would outlive the sequence, as it is meant to
            request = self.rng.choice(["nonsense", "promote@x#y"])
        await press(self.kube, "job", request)
        return f"press {request}"

    async def _lose_child(self) -> str:
        kind = self.rng.choice([ROBOTS, VERSIONS, BATCH, "pods"])
        found = [
            one["metadata"]["name"]
            for one in (await self.kube.get(kind))["items"]
            if one["metadata"]["name"] not in self.robots
        ]
        if not found:
            return f"no {kind} to delete"
        name = self.rng.choice(sorted(found))
        policy = self.rng.choice(["Background", "Foreground", "Orphan"])
        await self.kube.delete(kind, name, propagationPolicy=policy)
        return f"delete {kind} {name} {policy}"

    async def _wipe(self) -> str:
        kind = self.rng.choice([JOBS, ROBOTS, VERSIONS])
        found = [one["metadata"]["name"] for one in (await self.kube.get(kind))["items"]]
        if not found:
            return f"no {kind} to wipe"
        name = self.rng.choice(sorted(found))
        await edit(self.kube, kind, f"{name}/status", lambda one: one.update(status={}))
        return f"wipe {kind} {name}"

    async def _job_anew(self) -> str:
        await self.kube.delete(JOBS, "job", propagationPolicy="Background")
        await self.kube.until_gone(JOBS, "job", WITHIN)
        self.job["spec"] = draw_spec(self.rng)
        await self.kube.create(JOBS, deepcopy(self.job))
        return "delete the job and make it anew"

    async def _announce(self) -> str:
        sequence = self.rng.choice([1, 2])
        await announce(self.kube, self.url, sequence)
        return f"announce {sequence}"


async def announce(kube: Kube, url: str, sequence: int) -> None:
    """As the learner does, once the job's streams are there: its own, not a deleted namesake's."""
    uid = (await kube.get(JOBS, "job"))["metadata"]["uid"]
    message = Announcement(
        job_uid=uid,
        learner_epoch=1,
        policy=policy(sequence),
        step=sequence,
        size=1000,
        lineage=Lineage(first=0, through=1, episodes=1),
        published_at=0.0,
    )
    message = message.sealed((await keys.of(kube)).sign)
    subject = names.announce_subject(kube.namespace, "job")
    stream = names.stream(uid, Stream.CONTROL)
    client = await nats.connect(url)
    try:
        async with asyncio.timeout(WITHIN):
            while True:
                try:
                    await client.jetstream().publish(
                        subject, message.encode(), timeout=2, stream=stream
                    )
                except nats.errors.Error:
                    await asyncio.sleep(0.5)  # the streams are being made
                else:
                    return
    finally:
        await client.close()


async def heartbeats(kube: Kube, url: str) -> None:
    """Of every robot there is, until cancelled."""
    client = await nats.connect(url)
    try:
        while True:
            uids = {one["metadata"]["name"]: one for one in (await kube.get(JOBS))["items"]}
            for one in (await kube.get(ROBOTS))["items"]:
                robot, job = one["metadata"], one["spec"]["job"]
                if job not in uids:
                    continue
                beat = Heartbeat(
                    robot=robot["name"],
                    robot_uid=robot["uid"],
                    job_uid=uids[job]["metadata"]["uid"],
                    state=RobotState.RUNNING,
                    at=0.0,
                )
                subject = names.robot_subject(kube.namespace, robot["name"], job, Channel.HEARTBEAT)
                await client.publish(subject, beat.encode())
            await asyncio.sleep(1)
    finally:
        await client.close()
