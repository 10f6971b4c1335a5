"""How many bytes does a version cost a robot? The demo's policy, trained as the demo does.

Four tasks of Meta-World, a noisy demonstration each, a supervised stage; then, from these weights,
a learner of its own for each learning rate, whose versions are taken 1, 25 and 100 updates apart.
Each is published as the learner does it, and rebuilt as a robot does it. Beside it, of the same
versions: LeRobot's message (`state_to_bytes`: all float32 weights by torch.save, written here after
its code; lerobot itself is not installed), bsdiff4 between the bfloat16 files, zipnn on the whole
one (where they are installed), and the order-0 entropy of the steps in ulp. A line each; the last
one says figure, goal and `ok` or `short`.

    .venv/bin/python -m benchmarks.policy_bytes [--smoke] [--seed N]
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import importlib
import importlib.util
import io
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch

from benchmarks.papers.learner import Learner
from fleet_contract.messages import Lineage, Manifest
from fleet_contract.resources.learning import Weights
from fleet_runtime import algorithms
from fleet_runtime.artifacts import Store
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner.publish import Snapshot, Versions
from fleet_runtime.policies import delta
from fleet_runtime.policies.bundle import MODEL
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.published import bundle
from fleet_runtime.replay.sampler import SamplerSettings
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from fleet_runtime.robot.metaworld import MetaWorld
from fleet_runtime.robot.rebuild import Step, rebuild

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_contract.messages import FileRef
    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.policies.base import Policy

TASKS = ("push", "pick-place", "coffee-pull", "drawer-open")
APART = (1, 25, 100)
OF_FLOAT32 = {1: 0.009, 25: 0.06, 100: 0.10}  # goals at a learning rate of 5e-6: share of float32
TIMES_LEROBOT = {1: 100.0, 25: 16.0, 100: 10.0}  # … and how many times less than LeRobot
ENTROPY = 1.05  # goal: bytes over the order-0 entropy of the steps
LORA = 0.02  # goal: share of float32 at 5e-6, adapters alone, 100 updates apart


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    supervised: int = 2000  # updates before
    settle: int = 400  # … at the new learning rate, before the first version
    repeats: int = 5  # of timings


SMOKE = Plan(supervised=300, settle=60, repeats=3)


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to train on."""

    name: str
    rate: float
    trainable: str = "all"


CASES = (
    Case("5e-6", 5e-6),
    Case("1e-4", 1e-4),
    Case("5e-6, LoRA", 5e-6, "lora"),
    Case("1e-4, LoRA", 1e-4, "lora"),
)
SLOW, ADAPTED = CASES[0], CASES[2]  # those that have goals


@dataclasses.dataclass(frozen=True)
class Row:
    """Two versions so many updates apart, in bytes."""

    case: Case
    apart: int
    ours: int
    manifest: int
    whole: int
    float32: int
    lerobot: int
    entropy: float
    others: dict[str, int]
    encode: float  # milliseconds
    decode: float
    same: bool


def peers() -> dict[str, Callable[[bytes, bytes], int]]:
    """What is installed of others: (old file, new file) → bytes."""
    found: dict[str, Callable[[bytes, bytes], int]] = {}
    if importlib.util.find_spec("bsdiff4"):
        bsdiff4 = importlib.import_module("bsdiff4")
        found["bsdiff4"] = lambda old, new: len(bsdiff4.diff(old, new))
    if importlib.util.find_spec("zipnn"):
        packer = importlib.import_module("zipnn").ZipNN(bytearray_dtype="bfloat16")
        found["zipnn"] = lambda _, new: len(packer.compress(bytearray(new)))
    return found


def state_to_bytes(policy: Policy) -> int:
    """Bytes of LeRobot's message: its state_dict, moved to the CPU and torch.saved."""
    buffer = io.BytesIO()
    torch.save(policy.tensors(), buffer)
    return buffer.tell()


def entropy(old: bytes, new: bytes) -> float:
    """Bytes of the steps in ulp of the tensors that changed, each step coded by its frequency."""
    steps = []
    before, after = safetensors.torch.load(old), safetensors.torch.load(new)
    for name, tensor in after.items():
        places = []
        for one in (before[name], tensor):
            bits = one.reshape(-1).view(torch.int16).numpy().astype(np.int32)
            places.append(np.where(bits < 0, -(bits & 0x7FFF), bits))
        if not np.array_equal(places[0], places[1]):
            steps.append(places[1] - places[0])
    _, counts = np.unique(np.concatenate(steps), return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of processor time, whatever else the machine does."""
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        spent.append(1e3 * (time.process_time() - started))
    return statistics.median(spent)


def compare(case: Case, apart: int, old: Policy, new: Policy, plan: Plan) -> Row:
    """Publish both in a store of their own, rebuild the newer one from the older, and measure."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"file://{folder}")
        learner = Versions(store, "uid", 1, 20.0, Weights.BFLOAT16)
        lineage = Lineage(first=0, through=0, episodes=0)
        first, second = (
            learner.publish(Snapshot(policy, step, {}, lineage))
            for step, policy in ((0, old), (apart, new))
        )
        base = bundle(store, first.manifest)
        (told,) = second.manifest.deltas
        parts = {part.name: _blob(store, second.manifest, part) for part in told.files}
        robots = rebuild(base, [Step(told, second.manifest)], lambda part: parts[part.name])
        wanted = bundle(store, second.manifest)
        manifest = len(store.get(second.ref.uri))
    before, after = base[MODEL], wanted[MODEL]
    ours = second.delta_size
    assert ours is not None
    return Row(
        case=case,
        apart=apart,
        ours=ours,
        manifest=manifest,
        whole=len(after),
        float32=4 * sum(tensor.numel() for tensor in new.tensors().values()),
        lerobot=state_to_bytes(new),
        entropy=entropy(before, after),
        others={name: peer(before, after) for name, peer in peers().items()},
        encode=timed(lambda: delta.encode(before, after), plan.repeats),
        decode=timed(lambda: delta.decode(before, parts[MODEL], len(after)), plan.repeats),
        same=all(
            hashlib.sha256(robots[name]).digest() == hashlib.sha256(data).digest()
            for name, data in wanted.items()
        ),
    )


def _blob(store: Store, manifest: Manifest, file: FileRef) -> bytes:
    return bundle(store, manifest.model_copy(update={"files": (file,)}))[file.name]


def learner(
    case: Case | None, spaces: Spaces, data: Sequence[Episode], initial: Policy | None, seed: int
) -> tuple[Algorithm, Learner]:
    """The product's learner on these demonstrations."""
    parameters = {"learning_rate": case.rate, "trainable": case.trainable} if case else {}
    algorithm = algorithms.find("hg-dagger").create(
        spaces,
        parameters,
        normalization=Normalization.measure(data),
        initial=initial,
        seed=seed,
    )
    made = Learner(spaces, algorithm, SamplerSettings(), seed=seed)
    made.add(data, Side.OFFLINE)
    return algorithm, made


def run(plan: Plan, seed: int) -> list[Row]:
    """All rows, printed as they come."""
    robot = MetaWorld(TASKS, seed=seed)
    human = ScriptedHuman(robot.expert, GateSettings(noise=0.2), seed=seed)
    data = record(robot, human, TASKS, 1, seed=seed)
    algorithm, made = learner(None, robot.spec.spaces(), data, None, seed)
    for _ in range(plan.supervised):
        made.update()
    trained = algorithm.policy()
    rows = []
    for case in CASES:
        algorithm, made = learner(case, robot.spec.spaces(), data, trained, seed)
        for _ in range(plan.settle):
            made.update()
        first = algorithm.policy()
        for number in range(1, max(APART) + 1):
            made.update()
            if number in APART:
                rows.append(compare(case, number, first, algorithm.policy(), plan))
                print(line(rows[-1]), flush=True)
    return rows


def line(row: Row) -> str:
    """A row in words."""
    others = ", ".join(f"{name} {size}" for name, size in row.others.items())
    return (
        f"lr {row.case.name}, {row.apart:3d} apart: delta {row.ours} bytes = "
        f"{row.ours / row.float32:.2%} of float32, 1/{row.lerobot / row.ours:.0f} of lerobot's "
        f"{row.lerobot}, {row.ours / row.entropy:.2f} of the entropy {row.entropy:.0f}; whole "
        f"{row.whole}, manifest {row.manifest}; {others or 'no peer installed'}; encode "
        f"{row.encode:.0f} ms, decode {row.decode:.0f} ms; sha256 "
        + ("equal" if row.same else "DIFFERS")
    )


def judged(rows: Sequence[Row]) -> tuple[str, bool]:
    """The last line: figures beside their goals."""
    slow = [row for row in rows if row.case is SLOW]
    shares = " / ".join(f"{row.ours / row.float32:.2%}" for row in slow)
    times = " / ".join(f"{row.lerobot / row.ours:.0f}" for row in slow)
    coded = max(row.ours / row.entropy for row in rows)
    (lora,) = (row for row in rows if row.case is ADAPTED and row.apart == max(APART))
    good = (
        all(row.same for row in rows)
        and all(row.ours <= OF_FLOAT32[row.apart] * row.float32 for row in slow)
        and all(row.lerobot >= TIMES_LEROBOT[row.apart] * row.ours for row in slow)
        and coded <= ENTROPY
        and lora.ours <= LORA * lora.float32
    )
    return (
        f"at 5e-6 {shares} of float32 (goal at most 0.90% / 6% / 10%), {times} times less than "
        f"lerobot (goal at least 100 / 16 / 10); at most {coded:.2f} of the order-0 entropy (goal "
        f"{ENTROPY}); LoRA {lora.ours / lora.float32:.2%} after 100 (goal at most 2%): "
        + ("ok" if good else "short"),
        good,
    )


def main() -> int:
    """Run the benchmark; 0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="benchmarks.policy_bytes")
    parser.add_argument("--smoke", action="store_true", help="less training, under a minute")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    said, good = judged(run(SMOKE if options.smoke else Plan(), options.seed))
    print(said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
