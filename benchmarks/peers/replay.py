"""Replay buffers of others, behind one small interface: fill once, draw many times.

They live in a folder of their own (`--setup` makes it), never in .venv, and are imported from there
after everything of ours. lerobot pins an older torch and much else, of which its buffer needs
nothing: it is installed alone, and what its modules import but the buffer never calls is a stub.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[int], "Tensors"]
    """Rows wanted → a batch."""

CACHE = Path(os.environ.get("FLEET_CACHE") or Path.home() / ".cache" / "fleetloop")
FOLDER = CACHE / "bench" / "replay"
PACKAGES = (
    "lerobot==0.4.4", "torchrl==0.14.1", "tensordict==0.14.3", "cpprb==11.0.0",
    "hoptorch==0.1.4", "pyvers==0.2.3", "tqdm==4.70.1",
)  # fmt: skip
STUBS: dict[str, dict[str, object]] = {
    "lerobot.datasets": {},
    "lerobot.datasets.lerobot_dataset": {"LeRobotDataset": object},
    "huggingface_hub": {},
    "huggingface_hub.constants": {"HF_HOME": ""},
}

Tensors = list[torch.Tensor]
"""State, action and next state, (B, …) each: float32, or uint8 where frames were kept so."""


class Data(NamedTuple):
    """Transitions to store: one array a field, rows first; the next state is the row after."""

    state: np.ndarray  # (N, …) float32, or uint8 frames
    action: np.ndarray  # (N, A)


def reach() -> None:
    """Import the peers that are there, so that what they take themselves is taken already."""
    if FOLDER.is_dir() and str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    for name, members in STUBS.items():
        stub = types.ModuleType(name)
        vars(stub).update(members)
        sys.modules.setdefault(name, stub)
    os.environ.setdefault("RL_LOGGING_LEVEL", "ERROR")
    for name in ("lerobot.rl.buffer", "torchrl.data", "cpprb"):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)


def setup() -> None:
    """Install the peers into their folder."""
    uv = Path(sys.executable).with_name("uv")
    command = (uv, "pip", "install", "--system-certs", "--python", sys.executable)
    subprocess.run((*command, "--no-deps", "--target", FOLDER, *PACKAGES), check=True)


def lerobot(data: Data) -> Draw:
    """Its ReplayBuffer as it comes: float32, next states kept beside states."""
    buffer = _lerobot_buffer(data)

    def draw(rows: int) -> Tensors:
        batch = buffer.sample(rows)
        return [
            batch["state"]["observation.x"],
            batch["action"],
            batch["next_state"]["observation.x"],
        ]

    return draw


def _lerobot_buffer(data: Data) -> Any:
    """Filled row by row in its own way for one row, then at once: only drawing is timed."""
    module = importlib.import_module("lerobot.rl.buffer")
    size = len(data.state)
    buffer: Any = module.ReplayBuffer(
        size, device="cpu", state_keys=["observation.x"], use_drq=False
    )
    state, action = torch.from_numpy(data.state), torch.from_numpy(data.action)
    first = {"observation.x": state[:1]}
    buffer.add(first, action[:1], 0.0, first, done=False, truncated=False)
    buffer.states["observation.x"].copy_(state)
    buffer.next_states["observation.x"].copy_(state.roll(-1, 0))
    buffer.actions.copy_(action)
    for field in (buffer.rewards, buffer.dones, buffer.truncateds):
        field.zero_()
    buffer.size = size
    return buffer


def lerobot_mixed(data: Data) -> Draw:
    """Its actor–learner's mix: half from an online, half from an offline buffer, concatenated."""
    half = len(data.state) // 2
    online, offline = (
        _lerobot_buffer(Data(*(a[part] for a in data))) for part in (slice(half), slice(half, None))
    )
    module = importlib.import_module("lerobot.rl.buffer")

    def draw(rows: int) -> Tensors:
        both = module.concatenate_batch_transitions(
            online.sample(rows // 2), offline.sample(rows // 2)
        )
        return [both["state"]["observation.x"], both["action"], both["next_state"]["observation.x"]]

    return draw


def torchrl(data: Data, *, prioritized: bool = False) -> Draw:
    """Its TensorDict buffer in memory; rows by priority are what it has for an uneven mix."""
    rl: Any = importlib.import_module("torchrl.data")
    tensordict: Any = importlib.import_module("tensordict").TensorDict
    storage, size = rl.LazyTensorStorage(len(data.state)), len(data.state)
    if prioritized:
        buffer = rl.TensorDictPrioritizedReplayBuffer(alpha=0.7, beta=0.5, storage=storage)
    else:
        buffer = rl.TensorDictReplayBuffer(storage=storage)
    state = torch.from_numpy(data.state)
    row = {
        "state": state, "action": torch.from_numpy(data.action), "next_state": state.roll(-1, 0),
        "reward": torch.zeros(size), "done": torch.zeros(size, dtype=torch.bool),
    }  # fmt: skip
    buffer.extend(tensordict(row, batch_size=[size]))

    def draw(rows: int) -> Tensors:
        batch = buffer.sample(rows)
        return [batch["state"], batch["action"], batch["next_state"]]

    return draw


def cpprb(data: Data) -> Draw:
    """Its ReplayBuffer, a next state read from the row after.

    It makes arrays; they are taken for tensors without a copy.
    """
    module: Any = importlib.import_module("cpprb")
    state, size = data.state, len(data.state)
    buffer = module.ReplayBuffer(
        size,
        {
            "state": {"shape": state.shape[1:], "dtype": state.dtype},
            "action": {"shape": data.action.shape[1:]}, "reward": {}, "done": {},
        },
        next_of="state",
    )  # fmt: skip
    buffer.add(
        state=state, action=data.action, next_state=np.roll(state, -1, 0),
        reward=np.zeros(size), done=np.zeros(size),
    )  # fmt: skip

    def draw(rows: int) -> Tensors:
        batch = buffer.sample(rows)
        return [torch.from_numpy(batch[name]) for name in ("state", "action", "next_state")]

    return draw
