"""The line as an environment that is installed, and a policy that learned to move on it."""

from functools import cache
from pathlib import Path

import torch

from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner.spoil import scramble
from fleet_runtime.policies.bundle import from_files, to_files
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from learning.makers import SPACES, TASKS, Line

UPDATES = 300
PLUG_IN = {
    "line_world-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: line-world\nVersion: 1.0\n",
    "line_world-1.0.dist-info/entry_points.txt": (
        "[fleetloop.environments]\nline = line_world:world\n"
    ),
    "line_world.py": (
        "from learning.makers import Line\n\n\n"
        "def world(tasks, *, seed, broken=False):\n"
        "    if broken:\n"
        "        raise ValueError('the line is broken')\n"
        "    return Line()\n"
    ),
}


def plug_in(folder: Path) -> str:
    """Below a folder, the environment `line` as a package; what PYTHONPATH must say to find it."""
    for name, text in PLUG_IN.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return f"{folder}:{Path(__file__).parents[1]}"


@cache
def learned() -> dict[str, bytes]:
    """The bundle of a policy that does both tasks."""
    torch.set_num_threads(1)  # the tests share two cores with everybody else
    robot = Line()
    shown = record(robot, ScriptedHuman(robot.expert, GateSettings(noise=0.1)), TASKS, 3)
    algorithm = algorithms.find("bc").create(
        SPACES,
        {"hidden": 32, "layers": 2, "batch_size": 64},
        normalization=Normalization.measure(shown),
        seed=0,
    )
    kept = {one.id: one for one in shown}
    index = ReplayIndex(SPACES, algorithm.sample_spec, kept.__getitem__)
    for one in shown:
        index.add(one, Side.OFFLINE)
    batches = Feed(index, AdaptiveSampler(len(TASKS)))
    for _ in range(UPDATES):
        algorithm.update(batches)
    return to_files(algorithm.policy())


def scrambled() -> dict[str, bytes]:
    """The same with its weights shuffled."""
    return to_files(scramble(from_files(dict(learned()))))
