"""Runs under lerobot 0.4.4: writes a small dataset; `dataset` beside this file is one.

`python write.py FOLDER` writes three episodes of two tasks, 10 frames a second.
"""

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

FPS = 10
EPISODES = (("Pick up the cube.", 4), ("Pick up the cube.", 6), ("Push the cube.", 5))


def state(episode: int, frame: int) -> np.ndarray:
    return np.array([episode, frame, frame / FPS], np.float32)


def action(episode: int, frame: int) -> np.ndarray:
    return np.array([frame / 10, -episode / 10], np.float32)


def main(folder: Path) -> None:
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["vx", "vy"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "observation.effort": {"dtype": "float32", "shape": (1,), "names": None},
    }
    made = LeRobotDataset.create(
        "fleet/made", FPS, features, root=folder, robot_type="so101", use_videos=False
    )
    for number, (task, steps) in enumerate(EPISODES):
        for frame in range(steps):
            made.add_frame(
                {
                    "observation.state": state(number, frame),
                    "action": action(number, frame),
                    "next.reward": np.array([frame == steps - 1], np.float32),
                    "observation.effort": np.array([0.5], np.float32),
                    "task": task,
                }
            )
        made.save_episode()
    made.finalize()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
