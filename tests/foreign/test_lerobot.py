"""lerobot itself loads what we export, and writes what we import: `make lerobot`.

FLEET_LEROBOT names a Python 3.12 with lerobot 0.6.1 in it. Importing that takes most of the time.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleet_runtime.datasets import program
from fleet_runtime.datasets.statistics import QUANTILES
from fleet_runtime.experience import codec
from learning.makers import episode, frames

HERE = Path(__file__).parent
PYTHON = os.environ.get("FLEET_LEROBOT", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="FLEET_LEROBOT names no Python with lerobot in it: `make lerobot` makes one"
)


def lerobot(script: str, *words: str | Path, home: Path) -> str:
    command = [PYTHON, str(HERE / script), *map(str, words)]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=offline, check=True, capture_output=True, text=True).stdout


def test_lerobot_loads_our_export_frame_by_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = [
        episode(
            f"e{number}",
            **frames("..hhs.." + "." * number),
            task=("left", "right")[number % 2],
            observation=rng.normal(size=(8 + number, 3)).astype(np.float32),
            action=rng.uniform(-1, 1, (7 + number, 2)).astype(np.float32),
            policy_action=rng.uniform(-1, 1, (7 + number, 2)).astype(np.float32),
            outcome=("success", "failure")[number % 2],
            images={"top": rng.integers(0, 256, (8 + number, 6, 8, 3), np.uint8)},
        )
        for number in range(3)
    ]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    for one in made:
        (ours / f"{one.id}.episode").write_bytes(codec.encode(one, quality=None))
    assert program.main(["export", str(ours), str(theirs), "--fps", "20"]) == 0
    found = json.loads(lerobot("load.py", theirs, home=tmp_path / "home").splitlines()[-1])
    assert (found["episodes"], found["fps"]) == (3, 20)
    assert found["tasks"] == ["left", "right"]
    assert found["inputs"] == ["action", "observation.images.top", "observation.state"]
    assert np.array_equal(np.float32(found["chunk"]), made[0].action[:3])
    steps = [(one, step) for one in made for step in range(len(one))]
    for (one, step), frame in zip(steps, found["frames"], strict=True):
        assert np.array_equal(np.float32(frame["observation.state"]), one.observation[step])
        assert np.array_equal(np.float32(frame["action"]), one.action[step])
        pixels = np.array(frame["observation.images.top"]).transpose(1, 2, 0) * 255
        assert np.array_equal(np.rint(pixels), one.images["top"][step])
        assert frame["task"] == one.task
        assert frame["timestamp"] == np.float32(step / 20)
        assert (frame["frame_index"], frame["episode_index"]) == (step, made.index(one))
        assert frame["intervention"] == one.intervention[step]
        assert frame["next.done"] == (step == len(one) - 1)
        assert frame["next.success"] == (step == len(one) - 1 and one.success)
    action = np.concatenate([one.action for one in made])
    stats: dict[str, Any] = found["stats"]["action"]
    assert stats.keys() == {"min", "max", "mean", "std", "count", *QUANTILES}
    assert np.allclose(stats["mean"], action.mean(axis=0), atol=1e-6)
    assert np.allclose(stats["std"], action.std(axis=0), atol=1e-6)


def test_lerobot_still_writes_the_datasets_that_the_other_tests_read(tmp_path: Path) -> None:
    for name, flags in (("dataset", ()), ("filmed", ("--filmed",))):
        lerobot("write.py", tmp_path / name, *flags, home=tmp_path / "home")
        read: list[dict[str, bytes]] = []
        for folder in (tmp_path / name, HERE / name):
            target = tmp_path / f"{name}-{len(read)}"
            assert program.main(["import", str(folder), str(target), "--lossless"]) == 0
            read.append({path.name: path.read_bytes() for path in target.iterdir()})
        assert read[0] == read[1]
        assert len(read[0]) == 3
