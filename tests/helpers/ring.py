"""A job whose ring turns within seconds, and ears and eyes on it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats
from nats.aio.msg import Msg

from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.messages import Announcement, Event, EventKind, LearnerHeartbeat, Receipt
from fleet_contract.names import Channel, Kind
from helpers.kube import Kube

JOB = "ring"
JOBS = f"{names.API_VERSION}/{names.PLURALS[Kind.TRAINING_JOB]}"
ROBOTS = f"{names.API_VERSION}/{names.PLURALS[Kind.ROBOT_ACTOR]}"
VERSIONS = f"{names.API_VERSION}/{names.PLURALS[Kind.POLICY_VERSION]}"
log = logging.getLogger(__name__)
SLOW = 180.0  # seconds: three programs import torch on two cores, which others may use too


def job(dataset: str, **spec: Any) -> Json:
    """Two robots that open drawers; any candidate passes after two judged episodes."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.TRAINING_JOB,
        "metadata": {"name": JOB},
        "spec": {
            "tasks": [{"name": "drawer-open"}],
            "offline": {"datasets": [{"uri": dataset}], "steps": 300},
            # Else the learner takes a core from all others.
            "learner": {"updatesPerEpisode": 15},
            "publish": {"everySteps": 25, "minInterval": "2s"},
            "robots": {"simulated": {"replicas": 2, "controlHz": 80, "timeScale": 1}},
            "rollout": {
                "strategy": "Staged",
                "steps": [{"robots": 1, "minEpisodes": 2}],
                "analysis": {"minSuccessRate": 0.0, "successDrop": 0},
            },
            **spec,
        },
    }


async def without_keys(kube: Kube, robot: str) -> Json:
    """A simulated robot's pod as soon as it is there, which holds nothing of the store's."""
    pod = await kube.until("pods", names.robot_pod(robot), lambda _: True, SLOW)
    (container,) = pod["spec"]["containers"]
    told = {one["name"]: one for one in container["env"]}
    assert "envFrom" not in container
    assert told["FLEET_STORAGE_GRANTS"]["value"] == "true"
    assert not [name for name, one in told.items() if "AWS" in name or "secret" in str(one).lower()]
    secrets = [one["secret"]["secretName"] for one in pod["spec"]["volumes"] if "secret" in one]
    assert set(secrets) <= {*names.NATS_ROBOTS}
    return pod


class Watch:
    """What a job has said so far. Nothing in it may ever go backwards."""

    def __init__(self) -> None:
        self.announced = [0]
        self.stable = [0]
        self.epochs = [0]
        self.outcomes: dict[str, Event] = {}
        self.receipts: list[Receipt] = []
        self._news = asyncio.Condition()

    async def hear(self, message: Msg) -> None:
        match message.subject.rsplit(".", 1)[-1]:
            case Channel.EVENT:
                event = Event.decode(message.data)
                if event.kind is EventKind.OUTCOME:
                    self.outcomes[event.episode_id] = event
            case Channel.RECEIPT:
                self.receipts.append(Receipt.open(message.data))
            case Channel.HEARTBEAT:
                self.epochs.append(LearnerHeartbeat.decode(message.data).epoch)
            case _:
                self.announced.append(Announcement.decode(message.data).policy.sequence)
        await self._tell()

    async def see(self, kube: Kube) -> None:
        """Follow the job's stable version. Never returns."""
        async for kind, seen in kube.api.watch(kube.path(JOBS)):
            for item in seen["items"] if kind == "LISTED" else [seen]:
                if stable := item.get("status", {}).get("stable"):
                    self.stable.append(int(stable["sequence"]))
            await self._tell()

    async def until(self, what: str, holds: Callable[[], bool], within: float = SLOW) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(within), self._news:
                await self._news.wait_for(holds)
            log.info("%s after %.1f s", what, time.monotonic() - began)
        except TimeoutError:
            last = f"announced {self.announced[-1]}, stable {self.stable[-1]}"
            last += f", learner epoch {self.epochs[-1]}, {len(self.outcomes)} outcomes"
            raise AssertionError(f"no {what} within {within} s: {last}") from None

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@contextlib.asynccontextmanager
async def watching(url: str, kube: Kube) -> AsyncIterator[Watch]:
    """Everything the job in this namespace says from now on."""
    watch = Watch()
    connection = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    for subject in (
        names.robot_subject(kube.namespace, "*", JOB, Channel.EVENT),
        names.robot_subject(kube.namespace, "*", JOB, Channel.RECEIPT),
        names.learner_heartbeat_subject(kube.namespace, JOB),
        names.announce_subject(kube.namespace, JOB),
    ):
        await connection.subscribe(subject, cb=watch.hear)
    await connection.flush()
    eyes = asyncio.create_task(watch.see(kube))
    try:
        yield watch
    finally:
        eyes.cancel()
        await connection.close()
