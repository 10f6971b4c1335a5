"""``python -m fleet_runtime.robot``: a robot agent from its environment (see `settings`).

Exit codes: 143 after SIGTERM or SIGINT, 1 for a fault that a restart may cure, 78 for a
configuration that it will not. Of 1 and 78 the container's termination log says why.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import zlib
from typing import TYPE_CHECKING

from fleet_contract import logs
from fleet_contract.agents import EXIT_REFUSED
from fleet_contract.errors import Fenced
from fleet_runtime import last_words, tracing
from fleet_runtime.robot import environments

if TYPE_CHECKING:
    from fleet_contract.agents import RobotConfig
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.human import Human
    from fleet_runtime.settings import RobotSettings

NEVER_STALLED = 1_000_000_000

log = logging.getLogger(__name__)


def main() -> None:
    """Run until SIGTERM."""
    # One thread for arithmetic: policies are small and a robot's cores have other work.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logs.begin("robot")
    from fleet_runtime.settings import robot_settings

    settings = robot_settings()
    whose = {"namespace": settings.namespace, "job": settings.job, "robot": settings.robot}
    logs.bind(**whose)
    try:
        settings.demand_keys()
        settings.demand_credentials()
        robot = make_robot(settings)
    except (ImportError, LookupError, ValueError) as fault:
        sys.exit(_refused(fault))
    tracing.begin("robot", **whose)
    code = asyncio.run(serve(settings, robot))
    tracing.end()
    sys.exit(code)


async def serve(settings: RobotSettings, robot: Robot) -> int:
    """Run the agent until a signal ends it; the program's exit code."""
    from fleet_runtime.robot.agent import Agent

    try:
        agent = Agent(settings, robot, make_human(settings, robot), start=_own(settings))
    except Fenced as fault:
        log.error("%s", fault)  # noqa: TRY400
        last_words.say(str(fault))
        return 1
    except ValueError as fault:
        return _refused(fault)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    orderly = await agent.run()
    return 128 + signal.SIGTERM if orderly else 1


def _refused(fault: Exception) -> int:
    log.error("configuration: %s", fault)
    last_words.say(str(fault))
    return EXIT_REFUSED


def make_robot(settings: RobotSettings) -> Robot:
    """The robot its tasks' environment names.

    Raises LookupError for an unknown environment, ValueError for tasks that do not share one.
    """
    config = settings.spec
    named = {task.environment.name for task in config.tasks}
    if len(named) != 1:
        raise ValueError(f"tasks name the environments {sorted(named)}: one robot lives in one")
    (name,) = named
    factory = environments.find(name)
    tasks = environment_tasks(config)
    # Another series of starts after each restart, and never another robot's.
    seed = (config.seed * 7919 + _own(settings) + int.from_bytes(os.urandom(2))) % 2**31
    robot = factory(tuple(tasks.values()), seed=seed)
    if all(ours == theirs for ours, theirs in tasks.items()):
        return robot
    from fleet_runtime.robot.renamed import renamed

    return renamed(robot, tasks)


def environment_tasks(config: RobotConfig) -> dict[str, str]:
    """The job's name of each task → the environment's."""
    return {task.name: task.environment.task or task.name for task in config.tasks}


def make_human(settings: RobotSettings, robot: Robot) -> Human | None:
    """Who stands by it; a script, of a simulated robot that brings experts; None for any other."""
    from fleet_runtime.robot.env import Attended, Scripted
    from fleet_runtime.robot.human import GateSettings, ScriptedHuman

    if isinstance(robot, Attended):
        return robot.human()
    if not isinstance(robot, Scripted):
        return None
    wanted = settings.spec.interventions
    gate = GateSettings(
        scheduled_fraction=wanted.scheduled, stall_steps=wanted.stall_steps or NEVER_STALLED
    )
    return ScriptedHuman(robot.expert, gate, seed=settings.spec.seed + _own(settings))


def _own(settings: RobotSettings) -> int:
    """A number of this robot's own, the same at every start."""
    return zlib.crc32(f"{settings.namespace}/{settings.robot}".encode()) % 2**20
