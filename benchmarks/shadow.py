"""What does a shadow cost the robot, and what does its disagreement say?

A policy learns Meta-World as in `benchmarks.climb`. Then pairs of policies run as acting policy and
shadow through the robot's own control loop, at the demo's control rate; then episodes with and
without a shadow in turn, also as fast as the robot goes. The last line says figures, goals and `ok`
or `short`, and the exit status says the same.

    .venv/bin/python -m benchmarks.shadow [--smoke] [--seed N]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from benchmarks.papers.learner import Learner
from fleet_contract.messages import EventKind
from fleet_contract.resources import Shadow
from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner.spoil import scramble
from fleet_runtime.policies.bundle import from_files, to_files
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.sampler import SamplerSettings
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.episode import Stamp, finish, run_episode
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from fleet_runtime.robot.metaworld import DEFAULT_TASKS, MetaWorld
from fleet_runtime.robot.shadow_slot import ShadowSlot
from helpers.alone import Alone, loaded

if TYPE_CHECKING:
    from fleet_runtime.policies.base import Policy

HZ = 30.0
"""Control steps per second of a simulated robot of the demo: 20 at 1.5 times real time."""


PATIENCE = 900.0  # seconds


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    tasks: tuple[str, ...] = DEFAULT_TASKS
    first: int = 2000  # updates on the demonstrations
    versions: int = 5
    updates: int = 600  # from version to version, as in the demo
    between: int = 4  # episodes lived through meanwhile
    episodes: int = 4  # of each pair
    paced: int = 8  # episodes with a shadow, and as many without
    kept: float = 0.98  # of the control rate


SMOKE = Plan(tasks=("drawer-open",), first=200, versions=3, updates=150, episodes=3, paced=4)


def versions(plan: Plan, seed: int) -> list[Policy]:
    """As a learner would publish them, one after the other."""
    robot = MetaWorld(plan.tasks, seed=seed)
    shown = ScriptedHuman(robot.expert, GateSettings(noise=0.2), seed=seed)
    human = ScriptedHuman(robot.expert, GateSettings(), seed=seed + 1)
    demonstrations = record(robot, shown, plan.tasks, 1, seed=seed)
    spaces, normalization = robot.spec.spaces(), Normalization.measure(demonstrations)
    algorithm = algorithms.find("hg-dagger").create(
        spaces, {}, normalization=normalization, seed=seed
    )
    learner = Learner(spaces, algorithm, SamplerSettings(), seed=seed)
    learner.add(demonstrations, Side.OFFLINE)
    for _ in range(plan.first):
        learner.update()
    made = [learner.policy(seed)]
    algorithm.online = True
    while len(made) < plan.versions:
        for number in range(plan.between):
            task = plan.tasks[number % len(plan.tasks)]
            stamp = Stamp(id=f"{len(made)}-{number}", robot="one")
            attempt = run_episode(robot, made[-1], task, stamp=stamp, human=human)
            learner.add([finish(attempt)], Side.ONLINE)
        for _ in range(plan.updates):
            learner.update()
        made.append(learner.policy(seed + len(made)))
    robot.close()
    return made


def twin(policy: Policy) -> Policy:
    """As a robot would build it."""
    return from_files(to_files(policy))


@dataclass(frozen=True)
class Told:
    """Of one pair, over its episodes."""

    disagreement: float  # mean over episodes of their means
    least: float
    most: float
    latency: float  # seconds, median of the episodes' slowest
    skipped: float  # share of chunks


def alone_with(folder: str, robot: MetaWorld, hz: float) -> Alone:
    """Its control loop, however slow the machine is."""
    return Alone(Path(folder), robot, hz=hz, patience=PATIENCE)


def agreement(plan: Plan, acting: Policy, shadow: Policy, *, seed: int) -> Told:
    """Episodes of `acting` with `shadow` beside it."""
    robot = MetaWorld(plan.tasks, seed=seed)
    with TemporaryDirectory() as folder, alone_with(folder, robot, 2 * HZ) as alone:
        alone.desk.accompany(lambda slot: slot.offer(loaded(2, shadow)))
        alone.desk.change(lambda slot: slot.offer(loaded(1, acting)))
        alone.until(plan.episodes, EventKind.SHADOW)
    events = alone.of(EventKind.SHADOW)[: plan.episodes]
    told = [event.shadow for event in events if event.shadow is not None]
    means = [one.disagreement for one in told if one.disagreement is not None]
    skipped = sum(one.skipped for one in told)
    return Told(
        mean(means),
        min(means),
        max(means),
        median(event.latency for event in events if event.latency is not None),
        skipped / (skipped + sum(one.chunks for one in told)),
    )


def pace(plan: Plan, acting: Policy, shadow: Policy, *, seed: int, hz: float) -> tuple[float, ...]:
    """Control steps per second of episodes with nobody beside, and with the shadow; in turn."""
    robot = MetaWorld(plan.tasks, seed=seed)
    with TemporaryDirectory() as folder, alone_with(folder, robot, hz) as alone:
        alone.desk.change(lambda slot: slot.offer(loaded(1, acting)))
        beside = loaded(2, shadow)
        for number in range(1, 2 * plan.paced + 1):
            move = (lambda slot: slot.offer(beside)) if number % 2 else ShadowSlot.withdraw
            alone.desk.accompany(move)
            alone.until(number)
    accompanied = {event.episode_id for event in alone.of(EventKind.SHADOW)}
    ended = list(zip(alone.hz, alone.of(EventKind.OUTCOME), strict=True))[:-1]
    return tuple(
        median(rate for rate, event in ended if (event.episode_id in accompanied) is there)
        for there in (False, True)
    )


def main() -> int:
    """Run the benchmark; 0 when it reached its goals."""
    parser = argparse.ArgumentParser(prog="benchmarks.shadow")
    parser.add_argument("--smoke", action="store_true", help="one easy task, under a minute")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan, seed = SMOKE if options.smoke else Plan(), options.seed
    made = versions(plan, seed)
    last = made[-1]
    pairs = {f"v{n + 1} beside v{n}": pair for n, pair in enumerate(pairwise(made), 1)}
    rows = {
        "the same weights": agreement(plan, last, twin(last), seed=seed),
        **{name: agreement(plan, *pair, seed=seed) for name, pair in pairs.items()},
        "the first beside the last": agreement(plan, last, made[0], seed=seed),
        "scrambled beside the last": agreement(plan, last, scramble(twin(last)), seed=seed),
    }
    for name, row in rows.items():
        print(
            f"{name}: disagreement {row.disagreement:.3f} (episodes {row.least:.3f} to "
            f"{row.most:.3f}), slowest inference {row.latency * 1e3:.1f} ms, skipped "
            f"{row.skipped:.1%}"
        )
    rates = {hz: pace(plan, last, made[-2], seed=seed, hz=hz) for hz in (HZ, 1e6)}
    for hz, (without, there) in rates.items():
        asked = f"at {hz:.0f} Hz" if hz == HZ else "as fast as it goes"
        print(f"{asked}: {without:.2f} Hz with nobody beside, {there:.2f} Hz with a shadow")
    kept = rates[HZ][1] / rates[HZ][0]
    nearest = max(rows[name].disagreement for name in pairs)
    scrambled = rows["scrambled beside the last"].disagreement
    limit = Shadow().max_disagreement
    good = kept >= plan.kept and nearest < limit < scrambled
    print(
        f"control rate kept {kept:.3f} (goal {plan.kept}); the limit {limit} lies between the next "
        f"version, at most {nearest:.3f}, and a scrambled one, {scrambled:.3f} (goal): "
        + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
