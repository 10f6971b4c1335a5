"""``python -m helpers.dying_robot SEQUENCE``: a robot agent whose version SEQUENCE kills it."""

import asyncio
import logging
import os
import signal
import sys

from fleet_runtime.policies.flow import FlowPolicy
from fleet_runtime.robot.agent import Agent
from fleet_runtime.robot.main import serve
from fleet_runtime.settings import robot_settings
from helpers.world import PointRobot

SOUND = FlowPolicy.act


def main() -> None:
    """Until a signal, or until that version drives."""
    deadly, made = int(sys.argv[1]), []
    init = Agent.__init__

    def remembered(self: Agent, *args: object, **more: object) -> None:
        made.append(self)
        init(self, *args, **more)  # type: ignore[arg-type]

    def act(self: FlowPolicy, *args: object) -> object:
        active = made[0].desk.slot.active
        if active is not None and active.policy is self and active.ref.sequence == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return SOUND(self, *args)  # type: ignore[arg-type]

    Agent.__init__ = remembered  # type: ignore[method-assign]
    FlowPolicy.act = act  # type: ignore[method-assign,assignment]
    logging.basicConfig(level=logging.INFO)
    sys.exit(asyncio.run(serve(robot_settings(), PointRobot())))


if __name__ == "__main__":
    main()
