"""Row 17: a whole robot agent without a network, for hours of virtual time, and what becomes of it.

Real are the agent, its disk, the nats-server that is killed and started again, and the store.
"""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.messages import digest_of
from fleet_contract.names import Stream
from fleet_contract.resources.learning import Task
from fleet_runtime.artifacts import Store
from fleet_runtime.robot.agent import Agent
from fleet_runtime.settings import RobotSettings
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.nats import Broker, make_streams, running_broker
from helpers.toy_learner import ToyLearner
from helpers.virtual import VirtualClock, VirtualThinker
from helpers.world import SPEC, TASKS, PointRobot, assignment, publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

EPISODE = 60.0
"""Virtual seconds of an episode."""
PATIENCE = 120.0
"""Real seconds for anything to come about, and again for each hour."""


def settings(broker: Broker, folder: Path, steps: int) -> RobotSettings:
    """Those of the robot r0."""
    return RobotSettings(
        namespace="default",
        job="job",
        job_uid="uid-1",
        nats_url=broker.url,
        storage_url=f"file://{folder}/objects",
        robot="r0",
        robot_uid="robot-uid",
        spool_dir=folder / "spool",
        trust_dir=keys.trust(folder / "trust"),
        resync_seconds=0.3,
        spec=RobotConfig(tasks=[Task(name=name) for name in TASKS], control_hz=steps / EPISODE),
    )


@asynccontextmanager
async def running(
    told: RobotSettings, robot: PointRobot, clock: VirtualClock
) -> AsyncIterator[Any]:
    agent = Agent(told, robot, clock=clock, thinker=VirtualThinker(clock))
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        await asyncio.wait_for(task, PATIENCE)


async def until(holds: Callable[[], object], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - the control thread tells nobody else
            await asyncio.sleep(0.02)


class Ground:
    """The other ends: the fleet's will, and who takes the episodes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.learner = ToyLearner(wire)

    async def assign(self, told: RobotSettings) -> None:
        """Give the robot version 1."""
        ref = publish(Store(told.storage_url), 1)
        await self.wire.store(
            names.assign_subject("default", "job"), assignment(1, ref).seal(keys.OPERATOR.sign)
        )

    async def catch_up(self, spool: str, through: int) -> None:
        """Until each of the spool's first episodes has come, and each of its events."""
        while not all((spool, n) in self.learner.records for n in range(1, through + 1)):
            await self.learner.take()
            await self.learner.settle(spool)
        events = names.stream("uid-1", Stream.EVENTS)
        while True:
            state = await self.wire.stream_state(events)
            if state is not None and state.messages >= through:
                return
            await asyncio.sleep(0.1)


async def hours_alone(
    folder: Path, hours: float, *, steps: int = 12, room: int | None = None
) -> dict[str, Any]:
    """Take a policy, lose the network, restart, drive for `hours`; then the network comes back.

    `steps`: of an episode. `room`: bytes that the spool may take, where not as many as usual.
    """
    robot = PointRobot(dataclasses.replace(SPEC, horizon=steps))
    patience = PATIENCE * (1 + hours)
    with running_broker(folder / "nats") as broker:
        told = settings(broker, folder, steps)
        await make_streams(broker.url)
        ground = Ground(await Wire.connect(broker.url, "ground"))
        await ground.assign(told)
        async with running(told, robot, VirtualClock(limit=0.0)) as agent:
            await until(lambda: agent.desk.slot.good is not None, PATIENCE)
        broker.kill()
        before = len(list((folder / "spool" / "uid-1").glob("*.rec")))
        clock = VirtualClock(limit=hours * 3600)
        async with running(told, robot, clock) as agent:
            spool = agent._spool
            spool._max_bytes = room or spool._max_bytes
            await until(clock.reached.is_set, patience)
            episodes, drives = agent.desk.tally.episodes, agent.desk.slot.active
            depth, held = spool.depth, spool.nbytes
            broker.start()
            await ground.wire.ready()
            async with asyncio.timeout(patience):
                await ground.catch_up(spool.spool_id, depth)
            lost, evicted = agent.desk.tally.lost, spool.evicted
        await ground.wire.close()
    came = [entry for (_, n), entry in sorted(ground.learner.records.items()) if n <= depth]
    ids = {record.episode_id for record, _ in came}
    given_up = sum(record.evicted for record, _ in came)
    whole = sum(not one.evicted and digest_of(data) == one.digest for one, data in came)
    rules = {
        "version 1 no longer drives": drives is None or drives.ref.sequence != 1,
        "it stood still": episodes < hours * 3600 / EPISODE - 1,
        # It may have been looked at between the two counts of one episode.
        f"{depth - before} of {episodes} are kept": depth - before - episodes not in {0, 1},
        f"{len(ids)} episodes came of {depth}": len(ids) != depth,
        f"it lost {lost}": bool(lost),
        f"{whole} are whole of {depth}": whole + given_up != depth,
        # What had reached the broker before may come whole although it was given up since.
        f"it gave up {given_up} and said {evicted}": given_up > (evicted if room else 0),
        f"{held} bytes in the spool": bool(room) and held > (room or 0),
        "what no motor must hear": not (np.abs(robot.acted) <= 1.0).all(),
    }
    return {
        "wrong": [rule for rule, broken in rules.items() if broken],
        "hours": hours,
        "acts": len(robot.acted),
        "episodes": depth,
        "whole": whole,
        "given_up": given_up,
    }
