"""Store the scripted experts' demonstrations: ``python -m fleet_runtime.robot.record``.

The last line of output is JSON: ``{"episodes": n}``.
"""

from __future__ import annotations

import argparse
import json
import sys

from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.robot import environments
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.env import Scripted
from fleet_runtime.robot.human import GateSettings, ScriptedHuman

NOISE = 0.2
"""Standard deviation of a demonstrator's hand, in the action's unit (bounds are ±1)."""


def main(arguments: list[str] | None = None) -> None:
    """Record and store; what fails ends with a traceback and exit code 1."""
    parser = argparse.ArgumentParser(prog="fleet_runtime.robot.record", description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--storage", required=True, help="URL of the object store")
    parser.add_argument("--folder", required=True, help="key prefix of the dataset")
    parser.add_argument("--environment", default="metaworld", help="their world")
    parser.add_argument("--count", type=int, default=2, help="demonstrations a task")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    robot = environments.find(chosen.environment)(tuple(chosen.tasks), seed=chosen.seed)
    if not isinstance(robot, Scripted):
        raise TypeError(f"environment {chosen.environment} brings no scripted experts")
    human = ScriptedHuman(robot.expert, GateSettings(noise=NOISE), seed=chosen.seed)
    store = Store(chosen.storage)
    robot.connect()
    try:
        episodes = record(robot, human, chosen.tasks, chosen.count, seed=chosen.seed)
    finally:
        robot.close()
    for episode in episodes:
        store.create(f"{chosen.folder}/{episode.id}.episode", codec.encode(episode))
    sys.stdout.write(json.dumps({"episodes": len(episodes)}) + "\n")


if __name__ == "__main__":
    main()
