"""How good a published version is with nobody helping: ``python -m fleet_runtime.robot.measure``.

The last line of output is JSON: task → [successes, episodes].
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from fleet_runtime.artifacts import Store
from fleet_runtime.published import load
from fleet_runtime.robot.evaluate import evaluate
from fleet_runtime.robot.metaworld import EVALUATION_SEED, MetaWorld

LANES = 8
"""Simulators that step side by side behind one inference."""


def main(arguments: list[str] | None = None) -> None:
    """Starts are drawn from evaluation seeds, which no training ever used."""
    parser = argparse.ArgumentParser(prog="fleet_runtime.robot.measure", description=__doc__)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--storage", required=True, help="URL of the object store")
    parser.add_argument("--manifest", required=True, help="key of the version's manifest")
    parser.add_argument("--episodes", type=int, default=50, help="attempts a task")
    parser.add_argument("--seed", type=int, default=0, help="which evaluation starts")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    _, policy = load(Store(chosen.storage), chosen.manifest)
    robots = [MetaWorld(chosen.tasks) for _ in range(LANES)]
    scores = evaluate(
        policy, robots, chosen.tasks, chosen.episodes, seed=EVALUATION_SEED + chosen.seed
    )
    counts = {task: [score.successes, score.episodes] for task, score in scores.items()}
    sys.stdout.write(json.dumps(counts) + "\n")


if __name__ == "__main__":
    main()
