"""Runs under lerobot 0.6.1: writes a small dataset; `dataset` and `filmed` beside this are such.

`python write.py FOLDER` writes three episodes of two tasks, 10 frames a second; with `--filmed` two
cameras besides, `top` as video and `hand` as images.
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


def picture(episode: int, frame: int) -> np.ndarray:
    """A colour that tells episode and frame, in 64 x 64: encoders take no smaller."""
    return np.full((64, 64, 3), (40 + 60 * episode, 30 * frame, 128), np.uint8)


CAMERAS = {
    f"observation.images.{name}": {
        "dtype": kind,
        "shape": (64, 64, 3),
        "names": ["height", "width", "channels"],
    }
    for name, kind in (("top", "video"), ("hand", "image"))
}


def main(folder: Path, filmed: bool) -> None:
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["vx", "vy"]},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "observation.effort": {"dtype": "float32", "shape": (1,), "names": None},
    }
    cameras = CAMERAS if filmed else {}
    made = LeRobotDataset.create(
        "fleet/made", FPS, features | cameras, root=folder, robot_type="so101", use_videos=filmed
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
                    **dict.fromkeys(cameras, picture(number, frame)),
                }
            )
        made.save_episode()
    made.finalize()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--filmed" in sys.argv)
