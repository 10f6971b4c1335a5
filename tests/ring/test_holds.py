"""The ring under kill -9 and deletion: versions only grow, it goes on, no experience is lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Sized
from functools import partial

import nats
import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.victims import kill_pod_processes
from fleet_contract import names
from fleet_contract.messages import Event, EventKind, Receipt
from fleet_contract.names import Label, Role, Stream
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.journal import Entry, Journal
from helpers.kube import Kube
from helpers.ring import JOB, JOBS, ROBOTS, SLOW, Watch, job, watching

OPERATOR = "app.kubernetes.io/name=fleetloop-operator"
LEARNER = f"{Label.ROLE}={Role.LEARNER}"
LATER_EPOCH = 1_000_000  # than any learner's, so that the journal shows us everything

pytestmark = pytest.mark.usefixtures("operator")


async def running(kube: Kube, selector: str) -> tuple[str, str]:
    """Name and UID of the one pod that runs."""
    pods = (await kube.get("pods", labelSelector=selector))["items"]
    (found,) = (pod for pod in pods if pod["status"]["phase"] == "Running")
    return found["metadata"]["name"], found["metadata"]["uid"]


async def killed(kube: Kube, selector: str) -> None:
    """kill -9 of a pod's process, which was there."""
    _, uid = await running(kube, selector)
    assert len(kill_pod_processes(uid)) == 1


async def goes_on(watch: Watch) -> None:
    """A version that the learner announced from now on reaches the fleet."""
    known = watch.announced[-1]
    await watch.until(f"later stable version than {known}", lambda: watch.stable[-1] > known)


async def another_learner(watch: Watch, before: int) -> None:
    await watch.until("new learner", lambda: watch.epochs[-1] > before)


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
        last = (await context.stream_info(stream)).state.last_seq
        found = [await context.get_msg(stream, seq) for seq in range(1, last + 1)]
    finally:
        await connection.close()
    events = [Event.decode(message.data) for message in found if message.data is not None]
    return {event.episode_id for event in events if event.kind is EventKind.OUTCOME}


def journaled(cluster: LocalCluster, uid: str) -> list[Entry]:
    journal = Journal(Store(cluster.storage_url), uid, LATER_EPOCH)
    return [entry for segment in journal.replay() for entry in segment.entries]


async def journaled_with(
    told: set[str], cluster: LocalCluster, uid: str, watch: Watch
) -> list[Entry]:
    """The journal once these episodes are in it; what spools still hold comes with a receipt."""
    missing = told
    try:
        async with asyncio.timeout(SLOW):
            while True:
                heard, entries = len(watch.receipts), journaled(cluster, uid)
                missing = told - {entry.record.episode_id for entry in entries}
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


async def test_the_ring_goes_on_and_loses_nothing_whatever_is_killed_or_deleted(
    cluster: LocalCluster, kube: Kube, dataset: str
) -> None:
    """One ring and one harm after the other: to bring it up takes longer than all of them."""
    robot = names.simulated_robot(JOB, 0)
    of_robot = f"{Label.ROBOT}={robot}"
    async with watching(cluster.nats_url, kube) as watch:
        uid = (await kube.create(JOBS, job(dataset)))["metadata"]["uid"]
        await watch.until("second version", lambda: watch.stable[-1] > 1)

        await killed(kube, OPERATOR)
        await goes_on(watch)

        epoch = watch.epochs[-1]
        await killed(kube, LEARNER)
        await another_learner(watch, epoch)
        await goes_on(watch)

        await killed(kube, of_robot)
        await at_work(watch, robot)
        await goes_on(watch)

        cluster.restart("nats-server")
        await at_work(watch, robot)
        await goes_on(watch)

        pod, _ = await running(kube, of_robot)
        await kube.delete("pods", pod)
        await kube.until("pods", pod, lambda p: "deletionTimestamp" not in p["metadata"])
        await at_work(watch, robot)

        before = (await kube.get(ROBOTS, robot))["metadata"]["uid"]
        await kube.delete(ROBOTS, robot)
        await at_work(watch, robot, not_uid=before)
        await goes_on(watch)

        epoch = watch.epochs[-1]
        pod, _ = await running(kube, LEARNER)
        await kube.delete("pods", pod)
        await another_learner(watch, epoch)
        await goes_on(watch)

        assert watch.stable == sorted(watch.stable)
        assert watch.announced == sorted(watch.announced)
        assert watch.epochs == sorted(watch.epochs)

        told = await stored_outcomes(cluster.nats_url, uid) | set(watch.outcomes)
        receipted = promised(watch.receipts)
        entries = await journaled_with(told, cluster, uid, watch)
    counted = Counter(entry.record.key for entry in entries)
    assert set(counted.values()) == {1}
    assert receipted <= set(counted)
    assert [entry.refusal for entry in entries if entry.refusal] == []
