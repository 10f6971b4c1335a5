"""Runs under lerobot 0.6.1: loads a dataset and prints as JSON what lerobot makes of it.

`python load.py FOLDER`
"""

import json
import sys
from pathlib import Path
from typing import Any

from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.feature_utils import dataset_to_policy_features


def cell(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def main(folder: Path) -> None:
    found = LeRobotDataset("fleet/export", root=folder, delta_timestamps=None)
    ahead = LeRobotDataset(
        "fleet/export", root=folder, delta_timestamps={"action": [i / found.fps for i in range(3)]}
    )
    frames = [{name: cell(value) for name, value in frame.items()} for frame in found]
    answer = {
        "episodes": found.num_episodes,
        "frames": frames,
        "fps": found.fps,
        "tasks": list(found.meta.tasks.index),
        "stats": {
            feature: {name: cell(value) for name, value in stats.items()}
            for feature, stats in found.meta.stats.items()
        },
        "inputs": sorted(dataset_to_policy_features(found.meta.features)),
        "chunk": cell(ahead[0]["action"]),
    }
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
