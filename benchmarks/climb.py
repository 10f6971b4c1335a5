"""Does the policy learn from its own deployment? One process, the product's own classes.

Noisy demonstrations, a supervised stage, then rounds of (episodes on the newest policy with a human
at hand, updates), measured with nobody helping on goals no round has seen. A line per round; the
last one says figure, goal and `ok` or `short`, and the exit status says the same.

    .venv/bin/python -m benchmarks.climb [--smoke] [--seed N] [--algorithm NAME]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass

import torch

from benchmarks.papers.learner import Learner
from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.sampler import SamplerSettings
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.episode import Stamp, finish, run_episode
from fleet_runtime.robot.evaluate import Score, evaluate, mean_rate
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from fleet_runtime.robot.metaworld import DEFAULT_TASKS, EVALUATION_SEED, MetaWorld


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    tasks: tuple[str, ...] = DEFAULT_TASKS
    demonstrations: int = 1  # per task
    demonstration_noise: float = 0.2  # of the demonstrator's hand, in action units
    first_updates: int = 2000
    rounds: int = 20
    episodes: int = 16  # per round, over all tasks
    updates: int = 800  # per round
    evaluation: int = 50  # attempts per task, before and after
    probe: int = 0  # attempts per task after every `probe_every` rounds
    probe_every: int = 5
    base_at_most: float = 0.6
    goal: float = 0.9


SMOKE = Plan(
    tasks=("drawer-open",),
    demonstrations=1,
    first_updates=200,
    rounds=3,
    episodes=4,
    updates=150,
    evaluation=10,
    base_at_most=1.0,
    goal=0.5,
)


def climb(
    plan: Plan,
    name: str,
    seed: int,
    parameters: dict[str, object],
    sampling: SamplerSettings,
    gate: GateSettings,
) -> tuple[float, float]:
    """Success without help before and after the rounds."""
    robot = MetaWorld(plan.tasks, seed=seed)
    lanes = [MetaWorld(plan.tasks) for _ in range(8)]
    demonstrator = ScriptedHuman(
        robot.expert, GateSettings(noise=plan.demonstration_noise), seed=seed
    )
    human = ScriptedHuman(robot.expert, gate, seed=seed + 1)
    demonstrations = record(robot, demonstrator, plan.tasks, plan.demonstrations, seed=seed)

    spaces = robot.spec.spaces()
    algorithm = algorithms.find(name).create(
        spaces, parameters, normalization=Normalization.measure(demonstrations), seed=seed
    )
    learner = Learner(spaces, algorithm, sampling, seed=seed)

    def learn(updates: int) -> float:
        started = time.perf_counter()
        for _ in range(updates):
            learner.update()
        return updates / (time.perf_counter() - started)

    def measure(attempts: int) -> float:
        started = time.perf_counter()
        scores = evaluate(algorithm.policy(), lanes, plan.tasks, attempts, seed=EVALUATION_SEED)
        spent = time.perf_counter() - started
        print(f"  measured {mean_rate(scores):.3f} in {spent:.0f} s: {_words(scores)}", flush=True)
        return mean_rate(scores)

    learner.add(demonstrations, Side.OFFLINE)
    rate = learn(plan.first_updates)
    print(f"supervised: {len(demonstrations)} demonstrations, {rate:.0f} updates/s", flush=True)
    base = measure(plan.evaluation)
    algorithm.online = True

    for turn in range(plan.rounds):
        started = time.perf_counter()
        policy = learner.policy(seed * 1000 + turn)
        episodes = []
        for number in range(plan.episodes):
            task = plan.tasks[number % len(plan.tasks)]
            stamp = Stamp(id=f"{turn}-{number}", robot="one", policy_sequence=turn)
            episode = finish(run_episode(robot, policy, task, stamp=stamp, human=human))
            learner.add([episode], Side.ONLINE)
            episodes.append(episode)
        speed = plan.episodes / (time.perf_counter() - started)
        rate = learn(plan.updates)
        judged = [e.judged for e in episodes if e.judged is not None]
        helped = sum(float(e.intervention.mean()) for e in episodes) / len(episodes)
        shares = " ".join(f"{share:.2f}" for share in learner.sampler.online_share())
        print(
            f"round {turn + 1:2d}: alone {sum(judged)}/{len(judged)}, human frames {helped:.2f}, "
            f"{speed:.1f} episodes/s, {rate:.0f} updates/s, online share {shares}",
            flush=True,
        )
        if plan.probe and (turn + 1) % plan.probe_every == 0 and turn + 1 < plan.rounds:
            measure(plan.probe)
    return base, measure(plan.evaluation)


def _words(scores: dict[str, Score]) -> str:
    return ", ".join(f"{t} {s.successes}/{s.episodes}" for t, s in scores.items())


def main() -> int:
    """Run the benchmark; 0 when it reached its goal."""
    parser = argparse.ArgumentParser(prog="benchmarks.climb")
    parser.add_argument("--smoke", action="store_true", help="one easy task, under a minute")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plan", type=json.loads, default={}, help="JSON of fields to change")
    parser.add_argument("--parameters", type=json.loads, default={}, help="JSON for the algorithm")
    parser.add_argument("--algorithm", default="hg-dagger", help="see `fleet algorithms`")
    parser.add_argument("--sampler", type=json.loads, default={}, help="JSON for the sampler")
    parser.add_argument("--gate", type=json.loads, default={}, help="JSON for the human's gate")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = SMOKE if options.smoke else Plan()
    changed = {k: tuple(v) if isinstance(v, list) else v for k, v in options.plan.items()}
    plan = Plan(**{**vars(plan), **changed})
    started = time.perf_counter()
    base, final = climb(
        plan,
        options.algorithm,
        options.seed,
        options.parameters,
        SamplerSettings(**options.sampler),
        GateSettings(**options.gate),
    )
    good = base <= plan.base_at_most and final >= plan.goal
    spent = time.perf_counter() - started
    print(
        f"seed {options.seed}: base {base:.3f} (goal at most {plan.base_at_most}), "
        f"final {final:.3f} (goal at least {plan.goal}), {spent:.0f} s: "
        + ("ok" if good else "short")
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
