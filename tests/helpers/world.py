"""A tiny world (a point on a line, sent to a goal), policies for it, and a fleet's documents."""

import time

import numpy as np
import torch

from fleet_contract import names
from fleet_contract.messages import (
    Assignment,
    FileRef,
    Interface,
    Lineage,
    Manifest,
    PolicyRef,
    Signer,
    digest_of,
)
from fleet_runtime.artifacts import Store
from fleet_runtime.experience.types import Float
from fleet_runtime.policies.bundle import to_files
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.robot.env import Channel, Events, Observation, RobotSpec
from helpers import keys

TASKS = ("left", "right")
SPEC = RobotSpec(
    tasks=TASKS,
    observation=(Channel("place", 1, "m"), Channel("goal", 1, "m")),
    action=(Channel("speed", 1, "m/s"),),
    action_low=(-1.0,),
    action_high=(1.0,),
    horizon=12,
    control_hz=100.0,
    waits=True,
)


class PointRobot:
    """Moves by its action; an attempt succeeds near its goal and times out otherwise."""

    def __init__(self, spec: RobotSpec = SPEC, *, step: float = 0.1) -> None:
        self._spec = spec
        self._step = step
        self.place = self.goal = 0.0
        self.stops = 0
        self.acted: list[float] = []

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def connect(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Nothing to undo."""

    def reset(self, task: str, seed: int | None = None) -> None:
        self.place, self.goal = 0.0, -5.0 if task == "left" else 5.0

    def observe(self) -> Observation:
        return Observation(np.array([self.place, self.goal], np.float32), time.monotonic())

    def act(self, action: Float) -> Float:
        self.acted.append(float(action[0]))
        self.place += self._step * float(action[0])
        return action

    def poll_events(self) -> Events:
        near = abs(self.place - self.goal) < 0.1
        return Events(-abs(self.place - self.goal), "success" if near else None)

    def safe_stop(self) -> None:
        self.stops += 1


def flow(spec: RobotSpec = SPEC, seed: int = 0, hidden: int = 8) -> FlowPolicy:
    """A policy with small random weights."""
    spaces = spec.spaces()
    normalization = Normalization.identity(spaces.observation_size, spaces.action_size)
    config = FlowConfig(spaces=spaces, horizon=4, execute=2, hidden=hidden, layers=1, euler_steps=2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FlowPolicy(config, normalization)


def publish(
    store: Store,
    sequence: int,
    policy: FlowPolicy | None = None,
    *,
    job_uid: str = "uid-1",
    files: dict[str, bytes] | None = None,
    sign: Signer | None = keys.LEARNER.sign,
) -> PolicyRef:
    """Store a version as a learner does; `files` replaces the bundle's."""
    policy = policy or flow(seed=sequence)
    files = files or to_files(policy)
    refs = tuple(
        FileRef(name=name, digest=digest_of(data), size=len(data)) for name, data in files.items()
    )
    for ref in refs:
        store.create(names.blob_key(job_uid, ref.digest), files[ref.name])
    manifest = Manifest(
        job_uid=job_uid,
        learner_epoch=1,
        sequence=sequence,
        step=sequence,
        interface=Interface(
            observation=policy.spaces.observation_size,
            action=policy.spaces.action_size,
            low=("-1.0",),
            high=("1.0",),
        ),
        architecture=policy.architecture,
        tasks=policy.spaces.tasks,
        files=refs,
        tensors=(),
        lineage=Lineage(first=0, through=0, episodes=0),
        created_at_ms=time.time_ns() // 1_000_000,
    )
    data = manifest.seal(sign)
    store.create(names.version_key(job_uid, sequence), data)
    return PolicyRef(
        sequence=sequence, digest=digest_of(data), uri=names.version_key(job_uid, sequence)
    )


def assignment(epoch: int, default: PolicyRef | None, **fields: object) -> Assignment:
    """A document that is valid for an hour."""
    now = time.time_ns() // 1_000_000
    return Assignment.model_validate(
        {
            "job_uid": "uid-1",
            "epoch": epoch,
            "issued_at_ms": now,
            "expires_at_ms": now + 3_600_000,
            "default": default,
            **fields,
        }
    )
