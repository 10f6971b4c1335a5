"""Harm for a ring at work, and the audit after it: what was told of and what the journal holds."""

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sized
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import nats
from nats.js.errors import NotFoundError

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.victims import kill_pod_processes, main_processes
from fleet_contract import names
from fleet_contract.messages import Event, EventKind, Receipt
from fleet_contract.names import Env, Label, Role, Stream
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.journal import Entry, Journal
from helpers.kube import Kube
from helpers.ring import SLOW, Watch

OPERATOR = "app.kubernetes.io/name=fleetloop-operator"
LEARNER = f"{Label.ROLE}={Role.LEARNER}"
BROKER = "nats-server"
LATER_EPOCH = 1_000_000  # than any learner's, so that the journal shows us everything


async def running(kube: Kube, selector: str) -> tuple[str, str]:
    """Name and UID of the one pod that runs."""
    pods = (await kube.get("pods", labelSelector=selector))["items"]
    (found,) = (pod for pod in pods if pod["status"]["phase"] == "Running")
    return found["metadata"]["name"], found["metadata"]["uid"]


async def killed(kube: Kube, selector: str) -> None:
    """kill -9 of a pod's process, which was there."""
    _, uid = await running(kube, selector)
    assert len(kill_pod_processes(uid)) == 1


async def struck(cluster: LocalCluster, kube: Kube, victim: str) -> int:
    """kill -9 of whoever it is, in whatever state; how many processes died of it."""
    if victim == BROKER:
        return int(cluster.restart(BROKER) > 0)
    pods = (await kube.get("pods", labelSelector=victim))["items"]
    return sum(len(kill_pod_processes(pod["metadata"]["uid"])) for pod in pods)


class Twin:
    """A second learner process of the same job, as a node that lost its API server keeps one."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def twin_learner(kube: Kube, log: Path) -> AsyncIterator[Twin]:
    """Started with all that the pod's learner was told."""
    _, uid = await running(kube, LEARNER)
    (pid,) = main_processes(uid)
    told = dict(line.split("=", 1) for line in _environment(pid))
    # Not under the node's marks, by which it would be killed, nor in the other one's way.
    env = {key: value for key, value in told.items() if not key.startswith("FLEETLOOP_")}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fleet_runtime.learner"),
            env=env | {Env.METRICS_PORT: "0"},
            stderr=out,
        )
    try:
        yield Twin(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment(pid: int) -> list[str]:
    found = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return [line for line in found if "=" in line]


async def lose_streams(url: str, uid: str, *streams: Stream) -> None:
    """By hand, with all they hold."""
    connection = await nats.connect(url)
    try:
        for stream in streams:
            await connection.jetstream().delete_stream(names.stream(uid, stream))
    finally:
        await connection.close()


async def lose_consumer(url: str, uid: str) -> None:
    """The learner's durable, by hand."""
    connection = await nats.connect(url)
    try:
        stream = names.stream(uid, Stream.EXPERIENCE)
        await connection.jetstream().delete_consumer(stream, names.LEARNER_CONSUMER)
    finally:
        await connection.close()


async def goes_on(watch: Watch) -> None:
    """A version that the learner announced from now on reaches the fleet."""
    known = watch.announced[-1]
    await watch.until(f"later stable version than {known}", lambda: watch.stable[-1] > known)


async def another_learner(watch: Watch, before: int) -> None:
    await watch.until("new learner", lambda: max(watch.epochs) > before)


async def at_work(watch: Watch, robot: str, *, not_uid: str = "") -> None:
    """The robot ends another episode, and tells of it."""
    # All are on this machine's clock; what a dead robot's outbox still holds is older.
    since = time.time()

    def told() -> bool:
        new = (event for event in watch.outcomes.values() if event.at > since)
        return any(event.robot == robot and event.robot_uid != not_uid for event in new)

    await watch.until(f"episode of {robot}", told)


async def stored_outcomes(url: str, uid: str) -> set[str]:
    """Ids of the episodes whose outcome the broker holds."""
    connection = await nats.connect(url)
    try:
        stream, context = names.stream(uid, Stream.EVENTS), connection.jetstream()
        state = (await context.stream_info(stream)).state
        numbers = range(state.first_seq, state.last_seq + 1)
        found = [await context.get_msg(stream, number) for number in numbers]
    finally:
        await connection.close()
    events = [Event.decode(message.data) for message in found if message.data is not None]
    return {event.episode_id for event in events if event.kind is EventKind.OUTCOME}


async def streams_of(url: str, uid: str) -> list[Stream]:
    """Those of a job that there are."""
    connection = await nats.connect(url)
    found = []
    try:
        for stream in Stream:
            try:
                await connection.jetstream().stream_info(names.stream(uid, stream))
            except NotFoundError:
                continue
            found.append(stream)
    finally:
        await connection.close()
    return found


def journaled(cluster: LocalCluster, uid: str) -> list[Entry]:
    journal = Journal(Store(cluster.storage_url), uid, LATER_EPOCH)
    return [entry for segment in journal.replay() for entry in segment.entries]


async def nothing_lost(cluster: LocalCluster, uid: str, watch: Watch) -> None:
    """Every episode told of, and every record receipted, is in the journal, once."""
    # Pods of a namesake that was deleted may have been heard too, in its last moments.
    heard = {name for name, event in watch.outcomes.items() if event.job_uid == uid}
    told = await stored_outcomes(cluster.nats_url, uid) | heard
    receipted = promised([receipt for receipt in watch.receipts if receipt.job_uid == uid])
    entries = await _journaled_with(told, cluster, uid, watch)
    counted = Counter(entry.record.key for entry in entries)
    assert set(counted.values()) == {1}
    assert receipted <= set(counted)
    assert [entry.refusal for entry in entries if entry.refusal] == []


async def _journaled_with(
    told: Collection[str], cluster: LocalCluster, uid: str, watch: Watch
) -> list[Entry]:
    """The journal once these episodes are in it; what spools still hold comes with a receipt."""
    missing = set(told)
    try:
        async with asyncio.timeout(SLOW):
            while True:
                heard, entries = len(watch.receipts), journaled(cluster, uid)
                missing = set(told) - {entry.record.episode_id for entry in entries}
                if not missing:
                    return entries
                await watch.until("another receipt", partial(_more, watch.receipts, heard))
    except TimeoutError:
        raise AssertionError(f"told of and never journaled: {sorted(missing)}") from None


def _more(heard: Sized, than: int) -> bool:
    return len(heard) > than


def promised(receipts: list[Receipt]) -> set[tuple[str, str, int]]:
    """Every record that a robot was told it may forget."""
    return {
        (receipt.robot_uid, receipt.spool_id, n)
        for receipt in receipts
        for n in (*range(1, receipt.through + 1), *receipt.extras)
    }
