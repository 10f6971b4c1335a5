"""One attempt at one task, step by step, driven by whoever keeps the time.

`EpisodeRun` never sleeps, computes no chunk and knows no network, so a control loop can pace it, an
evaluation can run many in lockstep with one batched inference, and a test can run it at once:

    run = EpisodeRun(robot, task, stamp=stamp, execute=policy.execute)
    while not run.done:
        if run.wanted is not None:
            run.give(infer(policy, [run], ids)[0])
        run.tick()
    episode = run.episode()

`run_episode` is that loop as a generator which yields once per control step.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_runtime.experience.parts import UNFINISHED
from fleet_runtime.experience.types import ARRAYS, Episode
from fleet_runtime.robot.guard import unfit
from fleet_runtime.robot.human import Control

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Float, Images, Mode, Outcome
    from fleet_runtime.policies.base import Acting, Policy
    from fleet_runtime.robot.env import Observation, Robot
    from fleet_runtime.robot.human import Human


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stamp:
    """What an episode says about its origin; fixed before its first step."""

    id: str
    robot: str
    mode: Mode = "live"
    policy_digest: str = ""
    policy_sequence: int = -1


class EpisodeRun:
    """The state of an attempt between two control steps."""

    def __init__(
        self,
        robot: Robot,
        task: str,
        *,
        stamp: Stamp,
        execute: int,
        human: Human | None = None,
        guard: Callable[[Float], Float] | None = None,
        seed: int | None = None,
        horizon: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Resets the robot. `guard` maps any action to one that may be executed, or raises."""
        self._robot = robot
        self.task = task
        self._stamp = stamp
        self._execute = execute
        self._human = human
        self._guard = guard or _clip(robot)
        self._horizon = horizon or robot.spec.horizon
        self._clock = clock
        self._rows: dict[str, list[object]] = {name: [] for name in ARRAYS}
        self._frames: list[Images] = []
        self._queue: deque[tuple[int, Float]] = deque()
        self._outcome: Outcome | None = None
        self._source = ""
        self._reward = 0.0
        self.steps = 0
        robot.reset(task, seed)
        if human is not None:
            human.begin(task)
        self._started = clock()
        self._look()

    @property
    def done(self) -> bool:
        """The attempt is over and `episode` may be asked for."""
        return self._outcome is not None

    @property
    def control(self) -> Control:
        """Who decides the next action."""
        return self._control

    @property
    def wanted(self) -> Float | None:
        """The observation (O,) a chunk is needed for before the next tick; None when none is."""
        if self.done or self._queue or self._control is not Control.POLICY:
            return None
        return self._seen.value

    @property
    def seen(self) -> Observation:
        """The newest observation, frames and all."""
        return self._seen

    @property
    def done_last(self) -> Float:
        """The action (A,) that was executed last; IndexError before the first step."""
        last: Float = self._rows["action"][-1]  # type: ignore[assignment]
        return last

    def give(self, chunk: Float) -> None:
        """Queue the first `execute` actions of a chunk (H, A); earlier queued ones are dropped."""
        self._queue = deque(enumerate(chunk[: self._execute]))

    def tick(self) -> None:
        """Execute one action, look, and settle who decides the next one."""
        if self.done:
            raise RuntimeError("the attempt is over")
        asked, position = self._decide()
        now = self._clock()
        age = max(0.0, now - self._seen.time)
        executed = self._robot.act(self._guard(asked))
        events = self._robot.poll_events()
        by_policy = self._control is Control.POLICY
        row = {
            "action": executed,
            "policy_action": asked if by_policy else executed,
            "intervention": not by_policy,
            "scheduled": self._control is Control.SCHEDULED,
            "reward": events.reward,
            "time": now,
            "observation_age": age,
            "chunk_index": position,
        }
        for name, value in row.items():
            self._rows[name].append(value)
        self.steps += 1
        self._reward = events.reward
        if events.fault is not None:
            self._end("aborted", events.fault)
        elif events.ended is not None:
            self._end(events.ended, events.source)
        elif self.steps >= self._horizon:
            self._end("timeout", "horizon")
        self._look()

    def abort(self, source: str, outcome: Outcome = "aborted") -> None:
        """End the attempt where it stands; `source` says who or what wanted that."""
        if not self.done:
            self._end(outcome, source)

    def episode(self) -> Episode:
        """The attempt as data; ValueError while it runs or when it ended before its first step."""
        if self._outcome is None or self.steps == 0:
            raise ValueError("the attempt is not over, or has no step")
        return self._made(0, self.steps, self._outcome, self._source)()

    def part(self, start: int) -> Callable[[], Episode]:
        """What makes a part (see `experience.parts`) of the steps from `start` but the newest.

        The attempt goes on; call what is returned in any thread.
        """
        return self._made(start, self.steps - 1, "aborted", UNFINISHED)

    def _made(self, start: int, stop: int, outcome: Outcome, source: str) -> Callable[[], Episode]:
        rows = {
            name: self._rows[name][start : stop + letters.startswith("T+1")]
            for name, (_, letters) in ARRAYS.items()
        }
        frames = self._frames[start : stop + 1]
        duration = max(0.0, self._clock() - self._started)

        def made() -> Episode:
            arrays: dict[str, Any] = {
                name: np.array(rows[name], dtype) for name, (dtype, _) in ARRAYS.items()
            }
            return Episode(
                id=self._stamp.id,
                robot=self._stamp.robot,
                task=self.task,
                outcome=outcome,
                outcome_source=source,
                mode=self._stamp.mode,
                policy_digest=self._stamp.policy_digest,
                policy_sequence=self._stamp.policy_sequence,
                terminated=outcome in {"success", "failure"},
                truncated=outcome not in {"success", "failure"},
                duration_s=duration,
                images={
                    camera: np.stack([seen[camera] for seen in frames])
                    for camera in self._robot.spec.images
                },
                **arrays,
            )

        return made

    def _look(self) -> None:
        seen = self._robot.observe()
        if fault := unfit(seen, self._robot.spec):
            seen = self._blinded(fault)
        self._seen = seen
        self._rows["observation"].append(seen.value)
        self._frames.append(seen.images)
        if self._human is None or self.done:
            self._control = Control.POLICY
            return
        self._control = self._human.control(self.steps, self._reward)
        if self._control is not Control.POLICY:
            self._queue.clear()  # what the policy planned before the takeover is void

    def _blinded(self, fault: str) -> Observation:
        """A sensor has failed: nothing may act on that, and what was last seen stands for it."""
        if not self._frames:
            raise ValueError(fault)
        if not self.done:
            self._end("aborted", fault)
        return self._seen

    def _decide(self) -> tuple[Float, int]:
        if self._control is not Control.POLICY and self._human is not None:
            return self._human.act(self._seen.value), -1
        if not self._queue:
            raise RuntimeError("a chunk is wanted before the next tick")
        position, action = self._queue.popleft()
        return action, position

    def _end(self, outcome: Outcome, source: str) -> None:
        self._outcome = outcome
        self._source = source
        self._queue.clear()


def run_episode(
    robot: Robot,
    policy: Policy,
    task: str,
    *,
    stamp: Stamp,
    human: Human | None = None,
    guard: Callable[[Float], Float] | None = None,
    seed: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[EpisodeRun, None, Episode]:
    """Run an attempt, yielding after each control step; the generator's value is the episode.

    The caller sleeps between steps as the control rate asks, and may call `abort` on what is
    yielded. Close the generator to drop the attempt altogether.
    """
    run = EpisodeRun(
        robot,
        task,
        stamp=stamp,
        execute=policy.execute,
        human=human,
        guard=guard,
        seed=seed,
        clock=clock,
    )
    ids = np.array([policy.spaces.task_id(task)])
    while not run.done:
        if run.wanted is not None:
            run.give(infer(policy, [run], ids)[0])
        run.tick()
        yield run
    return run.episode()


def infer(policy: Acting, runs: Sequence[EpisodeRun], ids: NDArray[np.integer]) -> Float:
    """Chunks (B, H, A) for B attempts at the tasks `ids` (B,), in one inference."""
    return answer(policy, [run.seen for run in runs], ids)


def answer(policy: Acting, seen: Sequence[Observation], ids: NDArray[np.integer]) -> Float:
    """The same, of what was seen in each attempt."""
    values = np.stack([one.value for one in seen])
    cameras = policy.spaces.images
    if not cameras:
        return policy.act(values, ids)
    images = {name: np.stack([one.images[name] for one in seen]) for name in cameras}
    return policy.act(values, ids, images)


def finish(running: Generator[EpisodeRun, None, Episode]) -> Episode:
    """Drive `run_episode` to its end at once, without pacing."""
    while True:
        try:
            next(running)
        except StopIteration as end:
            episode: Episode = end.value
            return episode


def _clip(robot: Robot) -> Callable[[Float], Float]:
    low, high = robot.spec.action_low, robot.spec.action_high

    def guard(action: Float) -> Float:
        clipped: Float = np.clip(action, low, high).astype(np.float32)
        return clipped

    return guard
