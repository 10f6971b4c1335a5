"""How good a policy is with nobody helping: attempts from fixed starts, many in lockstep."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from fleet_runtime.robot.episode import EpisodeRun, Stamp, infer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet_runtime.policies.base import Acting
    from fleet_runtime.robot.env import Robot


@dataclasses.dataclass(frozen=True)
class Score:
    """Attempts at one task, how many succeeded, and the mean steps of those that did."""

    episodes: int
    successes: int
    steps: float
    all_steps: int  # of all attempts together

    @property
    def rate(self) -> float:
        """Share of attempts that succeeded."""
        return self.successes / self.episodes if self.episodes else 0.0


def mean_rate(scores: dict[str, Score]) -> float:
    """The mean of the tasks' rates: every task counts alike."""
    return sum(score.rate for score in scores.values()) / len(scores)


def evaluate(
    policy: Acting,
    robots: Sequence[Robot],
    tasks: Sequence[str],
    episodes: int,
    *,
    seed: int,
    ended: Callable[[str, bool], None] = lambda _task, _success: None,
) -> dict[str, Score]:
    """`episodes` attempts at each task, without a human; task → score.

    Attempt i of a task starts from seed + i (Meta-World: pass `EVALUATION_SEED`), so every policy
    meets the same starts. Each robot runs one attempt at a time; one inference serves them all.
    `ended` is told the task of each attempt that ends, and whether it succeeded.
    """
    ids = {task: policy.spaces.task_id(task) for task in tasks}
    queues = _share(len(robots), tasks, episodes)
    results: dict[str, list[tuple[bool, int]]] = {task: [] for task in tasks}
    running: dict[int, tuple[str, EpisodeRun]] = {}
    policy.seed(seed % 2**31)
    while True:
        for lane, queue in enumerate(queues):
            if lane not in running and queue:
                task, attempt = queue.popleft()
                stamp = Stamp(id=f"{task}-{attempt}", robot=f"lane-{lane}", mode="eval")
                running[lane] = (
                    task,
                    EpisodeRun(
                        robots[lane], task, stamp=stamp, execute=policy.execute, seed=seed + attempt
                    ),
                )
        if not running:
            break
        waiting = [(run, ids[task]) for task, run in running.values() if run.wanted is not None]
        if waiting:
            runs, tasks_wanted = zip(*waiting, strict=True)
            chunks = infer(policy, runs, np.array(tasks_wanted))
            for run, chunk in zip(runs, chunks, strict=True):
                run.give(chunk)
        for lane, (task, run) in list(running.items()):
            run.tick()
            if run.done:
                success = run.episode().success
                results[task].append((success, run.steps))
                ended(task, success)
                del running[lane]
    return {task: _score(rows) for task, rows in results.items()}


def _share(lanes: int, tasks: Sequence[str], episodes: int) -> list[deque[tuple[str, int]]]:
    """Attempts per lane; a lane keeps to few tasks, since each costs it a simulator."""
    queues: list[deque[tuple[str, int]]] = [deque() for _ in range(lanes)]
    for position, task in enumerate(tasks):
        mine = [lane for lane in range(lanes) if lane % len(tasks) == position % lanes]
        for attempt in range(episodes):
            queues[mine[attempt % len(mine)]].append((task, attempt))
    return queues


def _score(rows: list[tuple[bool, int]]) -> Score:
    steps = [length for success, length in rows if success]
    return Score(
        len(rows),
        len(steps),
        float(np.mean(steps)) if steps else 0.0,
        sum(length for _, length in rows),
    )
