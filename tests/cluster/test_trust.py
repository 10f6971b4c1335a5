"""A real operator, a real robot and somebody else at their broker."""

import asyncio
import base64
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from nats.aio.client import Client

from fleet_cli.local.cluster import LocalCluster
from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.errors import Untrusted
from fleet_contract.messages import Assignment, Kept, Manifest, PolicyRef, Signer
from fleet_contract.names import Signatory
from fleet_contract.resources.learning import Task
from fleet_contract.trust import PrivateKey, Trusted
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.publish import Version
from fleet_runtime.learner.spoil import announce
from fleet_runtime.robot.agent import Agent
from fleet_runtime.settings import RobotSettings
from helpers import keys, nats
from helpers.control import JOBS, ROBOTS, VERSIONS, Operator, edit, enroll, stable, training_job
from helpers.kube import Kube, condition, exists
from helpers.world import TASKS, PointRobot, assignment, publish


class Site:
    """The job, its store and its broker, as whoever reaches them sees them."""

    def __init__(self, cluster: LocalCluster, kube: Kube, job_uid: str, folder: Path) -> None:
        self.url, self.kube, self.uid = cluster.nats_url, kube, job_uid
        self.storage, self._store = cluster.storage_url, Store(cluster.storage_url)
        self.folder = folder / "trust"

    async def hand_out(self, count: int) -> Trusted:
        """The public keys, given to the robot as an owner does, once there are so many."""

        def there(found: Any) -> bool:
            return sum(len(keys) for keys in Trusted.read(found["data"]).keys.values()) == count

        found = await self.kube.until("configmaps", names.TRUST, there)
        self.folder.mkdir(exist_ok=True)
        for role, text in found["data"].items():
            (self.folder / role).write_text(text)
        return Trusted.read(found["data"])

    async def announce(self, sequence: int, sign: Signer | None) -> PolicyRef:
        """A version whose manifest and announcement are signed so."""
        ref = publish(self._store, sequence, job_uid=self.uid, sign=sign)
        version = Version(Manifest.open(self._store.get(ref.uri)), ref)
        await announce(self.url, self.kube.namespace, "job", version, sign)
        return ref

    async def told(self, words: str) -> None:
        """Returns once an Event of the job says so."""
        async with asyncio.timeout(60):
            path, selector = self.kube.path("events"), "reason=DocumentUntrusted"
            async for kind, seen in self.kube.api.watch(path, fieldSelector=selector):
                for item in seen["items"] if kind == "LISTED" else [seen]:
                    if item["involvedObject"]["name"] == "job" and words in item["message"]:
                        return

    async def until_runs(self, sequence: int) -> None:
        def runs(robot: Any) -> bool:
            active = robot.get("status", {}).get("active") or {}
            return active.get("sequence") == sequence and condition(robot, "PolicySynced") == "True"

        await self.kube.until(JOBS, "job", lambda job: stable(job) == sequence, 60)
        await self.kube.until(ROBOTS, "r1", runs, 60)


@contextlib.asynccontextmanager
async def robot(site: Site, uid: str, folder: Path) -> AsyncIterator[None]:
    """The real agent of an external robot."""
    settings = RobotSettings(
        namespace=site.kube.namespace,
        job="job",
        job_uid=site.uid,
        nats_url=site.url,
        storage_url=site.storage,
        robot="r1",
        robot_uid=uid,
        spool_dir=folder / "spool",
        trust_dir=site.folder,
        resync_seconds=0.5,
        spec=RobotConfig(tasks=[Task(name=name) for name in TASKS], control_hz=100.0),
    )
    agent = Agent(settings, PointRobot())
    life = asyncio.create_task(agent.run())
    try:
        yield
    finally:
        agent.stop()
        await asyncio.wait_for(life, 30)


def processes() -> str:
    """The arguments and variables of every process that we may look at."""
    found = []
    for file in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().decode(errors="replace"))
    return "\n".join(found)


async def attack(site: Site, ears: Client, trusted: Trusted) -> None:
    """Somebody else's announcement and documents are told of, and the true ones come again."""
    subject, again = names.assign_subject(site.kube.namespace, "job"), asyncio.Event()
    kept, kept_again = names.kept_subject(site.kube.namespace, "job"), asyncio.Event()

    async def hear(message: Any) -> None:
        with contextlib.suppress(Untrusted):
            Assignment.open(message.data, trusted.verifier(Signatory.OPERATOR))
            again.set()

    async def hear_kept(message: Any) -> None:
        with contextlib.suppress(Untrusted):
            Kept.open(message.data, trusted.verifier(Signatory.OPERATOR))
            kept_again.set()

    forged = await site.announce(2, keys.STRANGER.sign)
    await site.told("Version 2 was announced, but not by the learner: signed with key ")
    await ears.subscribe(subject, cb=hear)
    document = assignment(999, forged, job_uid=site.uid).seal(keys.STRANGER.sign)
    await ears.jetstream().publish(subject, document)
    await ears.subscribe(kept, cb=hear_kept)
    none = Kept(job_uid=site.uid, before=999).seal(keys.STRANGER.sign)
    await ears.jetstream().publish(kept, none)
    await site.told("Robot r1 did not believe an assignment document: signed with key ")
    await site.told(f"The assignment document on {subject} is none of ours")
    async with asyncio.timeout(60):
        await again.wait()
        await kept_again.wait()


async def followed(site: Site, cluster: LocalCluster, file: Path) -> PrivateKey:
    """The learner's key is followed by another, as docs/trust.md says."""
    command = (sys.executable, "-m", "fleet_contract.trust")
    made = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    text, _ = await made.communicate()
    await asyncio.to_thread(file.write_bytes, text)
    key = PrivateKey(yaml.safe_load(text)["stringData"][names.KEY])

    def add(found: Any) -> None:
        found["data"]["learner"] += f"{key.public}\n"

    await edit(site.kube, "configmaps", names.TRUST, add)
    await site.hand_out(3)
    patched = await asyncio.create_subprocess_exec(
        *(cluster.kubectl, "--kubeconfig", cluster.kubeconfig, "-n", site.kube.namespace),
        *("patch", "secret", names.LEARNER_KEY, "--patch-file", file),
    )
    assert await patched.wait() == 0
    found = await keys.of(site.kube)
    assert found.id == key.id
    return key


async def demand_hidden(kube: Kube, secret: Iterable[PrivateKey], *logs: str) -> None:
    """No key is in a log, an object that is no Secret, an argument or a variable."""
    running = processes()
    assert f"/{names.KEY}\0" in running  # the learner's pod is among them, and told of a file
    kinds = ("events", "pods", "configmaps", "batch/v1/jobs", JOBS, ROBOTS, VERSIONS)
    seen = [*logs, running, *[json.dumps(await kube.get(one)) for one in kinds]]
    for key in secret:
        shown = base64.b64encode(key.reveal().encode()).decode()  # as a Secret has it
        assert not any(hidden in text for text in seen for hidden in (key.reveal(), shown))


async def test_what_nobody_signed_reaches_no_robot_and_is_told_and_no_key_is_seen_anywhere(
    kinds: None,
    cluster: LocalCluster,
    kube: Kube,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = tmp_path / "operator.log"
    operator = Operator(cluster, kube.namespace, log=log, FLEET_RESYNC_SECONDS="5")
    await operator.start()
    ears = await nats.connect(cluster.nats_url)
    try:
        tasks = [{"name": name} for name in TASKS]
        made = training_job(tasks=tasks, rollout={"strategy": "Broadcast"})
        uid = (await kube.create(JOBS, made))["metadata"]["uid"]
        await enroll(kube, "job", "r1")
        enrolled = (await kube.get(ROBOTS, "r1"))["metadata"]["uid"]
        site = Site(cluster, kube, uid, tmp_path)
        trusted = await site.hand_out(2)
        await kube.until(JOBS, "job", lambda job: condition(job, "StreamsReady") == "True")
        learner = await keys.of(kube)
        assert learner.id in trusted.keys[Signatory.LEARNER]
        own = await keys.of(kube, names.OPERATOR_KEY)
        async with robot(site, enrolled, tmp_path):
            await site.announce(1, learner.sign)
            await site.until_runs(1)

            await attack(site, ears, trusted)
            found = await kube.get(ROBOTS, "r1")
            assert found["status"]["active"]["sequence"] == 1
            assert not await exists(kube, VERSIONS, "job-v2")

            await site.announce(3, learner.sign)
            await site.until_runs(3)

            after = await followed(site, cluster, tmp_path / "new.yaml")
            await site.announce(4, after.sign)
            await site.until_runs(4)

            await kube.delete("secrets", names.OPERATOR_KEY)
            await site.hand_out(4)
            await site.announce(5, learner.sign)  # both are still believed
            await site.until_runs(5)
            signed = await keys.of(kube, names.OPERATOR_KEY)
            assert signed.id != own.id
        said = log.read_text()
        assert said.count("making Secret") == 3
        await demand_hidden(kube, (learner, after, own, signed), said, caplog.text)
    finally:
        await ears.close()
        await operator.stop()
        await nats.drop_streams(cluster.nats_url, kube.namespace)


async def test_a_slip_in_the_public_keys_stalls_the_job_in_words_and_goes_with_its_cause(
    operator: Operator, kube: Kube
) -> None:
    right = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.TRUST},
        "data": {"learner": f"{keys.LEARNER.public}\n", "operator": "no key\n"},
    }
    await kube.create("configmaps", right)
    await kube.create(JOBS, training_job())
    found = await kube.until(JOBS, "job", lambda job: condition(job, "Stalled") == "True")
    (stalled,) = [one for one in found["status"]["conditions"] if one["type"] == "Stalled"]
    assert "ConfigMap fleetloop-trust, operator: line 1 is no public key" in stalled["message"]
    await kube.delete("configmaps", names.TRUST)
    await kube.until(JOBS, "job", lambda job: condition(job, "StreamsReady") == "True")
