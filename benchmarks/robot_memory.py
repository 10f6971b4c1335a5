"""Does a robot's agent keep its size? The program itself, many short episodes, a real broker.

The robot lives in a process of its own, in a world that costs nothing; this one takes its records
and receipts them. The last line says figures, goal and `ok` or `short`, and the exit status says
the same.

    .venv/bin/python -m benchmarks.robot_memory [--smoke] [--episodes N]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.messages import Heartbeat
from fleet_contract.names import Channel, Env
from fleet_contract.resources.learning import Task
from fleet_runtime.artifacts import Store
from fleet_runtime.robot.main import serve
from fleet_runtime.settings import robot_settings
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.counts import resident
from helpers.nats import make_streams, running_broker
from helpers.toy_learner import ToyLearner
from helpers.world import SPEC, TASKS, PointRobot, assignment, publish


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    first: int = 100  # episodes before the first look
    last: int = 1000
    growth: float = 0.10
    within: float = 3600.0  # seconds


SMOKE = Plan(first=60, last=300)
CONFIG = RobotConfig(tasks=[Task(name=name) for name in TASKS], control_hz=100.0, time_scale=20.0)


class Watched:
    """The robot as its heartbeats tell of it."""

    def __init__(self) -> None:
        self.episodes = 0

    async def hear(self, _subject: str, data: bytes) -> None:
        self.episodes = Heartbeat.decode(data).episodes


async def lived(robot: Watched, learner: ToyLearner, episodes: int) -> None:
    """Receipt what comes until the robot has so many episodes behind it."""
    while robot.episodes < episodes:
        if await learner.take(0.2):
            (spool, *_) = {spool for spool, _ in learner.seen}
            await learner.settle(spool)


async def measure(folder: Path, url: str, plan: Plan) -> tuple[float, float]:
    """MiB after the first and after the last episodes."""
    store = Store(f"file://{folder}/objects")
    await make_streams(url)
    wire = await Wire.connect(url, "benchmark")
    robot, learner = Watched(), ToyLearner(wire)
    beats = names.robot_subject("default", "r0", "job", Channel.HEARTBEAT)
    await wire.subscribe(beats, robot.hear)
    document = assignment(1, publish(store, 1))
    await wire.store(names.assign_subject("default", "job"), document.seal(keys.OPERATOR.sign))
    environment = os.environ | {
        Env.NAMESPACE: "default",
        Env.JOB: "job",
        Env.JOB_UID: "uid-1",
        Env.ROBOT: "r0",
        Env.ROBOT_UID: "robot-uid",
        Env.NATS_URL: url,
        Env.STORAGE_URL: f"file://{folder}/objects",
        Env.SPOOL_DIR: str(folder / "spool"),
        Env.TRUST_DIR: str(keys.trust(folder / "trust")),
        Env.SPEC: CONFIG.model_dump_json(by_alias=True, exclude_none=True),
        "OMP_NUM_THREADS": "1",
    }
    command = (sys.executable, "-m", "benchmarks.robot_memory", "--robot")
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        async with asyncio.timeout(plan.within):
            await lived(robot, learner, plan.first)
            first = resident(process.pid)
            await lived(robot, learner, plan.last)
            return first, resident(process.pid)
    finally:
        process.terminate()
        await process.wait()
        await wire.close()


def main() -> int:
    """Run the benchmark; 0 when it reached its goal."""
    parser = argparse.ArgumentParser(prog="benchmarks.robot_memory")
    parser.add_argument("--smoke", action="store_true", help="fewer episodes, under a minute")
    parser.add_argument("--robot", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--episodes", type=int, default=Plan().last)
    options = parser.parse_args()
    if options.robot:
        fast = replace(SPEC, control_hz=CONFIG.control_hz)
        return asyncio.run(serve(robot_settings(), PointRobot(fast)))
    plan = SMOKE if options.smoke else Plan(last=options.episodes)
    with TemporaryDirectory() as name, running_broker(Path(name) / "nats") as broker:
        first, last = asyncio.run(measure(Path(name), broker.url, plan))
    growth = last / first - 1
    good = growth < plan.growth
    print(
        f"RSS after {plan.first} episodes {first:.1f} MiB, after {plan.last} {last:.1f} MiB: "
        f"{growth:+.1%} (goal less than {plan.growth:+.0%}): " + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
