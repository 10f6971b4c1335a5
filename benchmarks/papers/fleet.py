"""N robots and a learner on a virtual clock.

Two cores show what N robots would: all that takes time takes simulated time, and a learner that
needs longer here than a simulated minute is simply waited for. One process, no threads: the same
seeds give the same episodes, updates and weights.

    robot:    reset_s, then one control step each 1/control_hz until the attempt is over
    upload:   an episode is sampleable upload_delay_s after its end, whole
    learner:  update k is made k · 60/updates_per_minute after it began
    publish:  each publish_every updates a version; robots may take it up publish_delay_s later
    people:   so many robots are helped at a time
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.papers.clock import Clock
from benchmarks.papers.crew import Crew, Shared
from benchmarks.papers.inference import infer
from benchmarks.papers.pace import Actor, Budget, Due, Lived, Pace, Version
from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import Side
from fleet_runtime.robot.episode import EpisodeRun, Stamp
from fleet_runtime.robot.tasks import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.papers.learner import Learner
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.human import Human


class Fleet:
    """Actors, a learner and the delays between them."""

    def __init__(
        self, learner: Learner, robots: Sequence[tuple[Robot, Human]], pace: Pace, *, seed: int
    ) -> None:
        self.learner, self.pace = learner, pace
        self.clock = Clock()
        self.lived: list[Lived] = []
        self.arrived: dict[str, float] = {}  # episode → when it became sampleable
        self.made: list[float] = []  # when each version was made; its number is the position
        self.updates = 0
        self._seed = seed
        self._started = 0
        self._budget = Budget()
        self._over = False
        self._spent: Counter[str] = Counter()  # of the budget
        self._learning = False
        self._began = (0, 0.0)  # updates before the learner's present run, and when it began
        crew = Crew(pace.people)
        self._idle = [
            Actor(
                name := f"robot-{number}",
                robot,
                Shared(human, crew, name),
                Schedule(dict.fromkeys(robot.spec.tasks, 1.0), start=number),
            )
            for number, (robot, human) in enumerate(robots)
        ]
        self.version = self._publish()
        self._do: dict[int, Callable[[list[Any]], None]] = {
            Due.END: self._end,
            Due.ARRIVE: self._arrive,
            Due.UPDATE: self._update,
            Due.VISIBLE: self._take_up,
            Due.WATCH: self._watch,
            Due.START: self._start,
            Due.STEP: self._step,
        }

    def run(self, budget: Budget) -> None:
        """Live through a budget; without `minutes` until it is spent and every delay has passed."""
        until = self.clock.now + budget.minutes * 60
        if until == math.inf and math.inf in {budget.episodes, budget.updates}:
            raise ValueError("either time must end, or episodes and updates must")
        self._budget = budget
        self._spent.clear()
        idle, self._idle = self._idle, []
        for actor in idle:
            self._rest(actor, 0.0)
        if not self._learning:
            self._began = self.updates, self.clock.now
            self._schedule_update()
        while self.clock.waits and self.clock.next <= until and not self._over:
            rank, due = self.clock.pop()
            self._do[rank](due)
        if until < math.inf and not self._over:
            self.clock.now = until

    def stop(self) -> None:
        """End this life where it is, whatever its budget has left."""
        self._over = True

    def watch(self, seconds: float, call: Callable[[], None]) -> None:
        """Have `call` made so long from now; it takes no simulated time."""
        self.clock.at(self.clock.now + seconds, Due.WATCH, call)

    def _has(self, *what: str) -> bool:
        return all(self._spent[one] < getattr(self._budget, one) for one in what)

    def _rest(self, actor: Actor, seconds: float) -> None:
        # Starts lie on a grid of chunks, so that robots in step share an inference.
        every, hz = self.version.policy.execute, self.pace.control_hz
        actor.tick = math.ceil((self.clock.now + seconds) * hz / every - 1e-9) * every
        self.clock.at(max(self.clock.now, actor.tick / hz), Due.START, actor)

    def _start(self, actors: list[Actor]) -> None:
        for actor in actors:
            if not self._has("episodes", "frames", "human_frames"):
                self._idle.append(actor)
                continue
            self._spent["episodes"] += 1
            self._started += 1
            actor.started = self.clock.now
            stamp = Stamp(
                id=f"{self._seed}-{self._started}",
                robot=actor.name,
                policy_sequence=self.version.sequence,
            )
            run = EpisodeRun(
                actor.robot,
                actor.schedule.next(),
                stamp=stamp,
                execute=self.version.policy.execute,
                human=actor.human,
                clock=lambda: self.clock.now,
            )
            self.clock.at(self.clock.now, Due.STEP, (actor, run, self.version))

    def _step(self, running: list[tuple[Actor, EpisodeRun, Version]]) -> None:
        infer([(run, version) for _, run, version in running])
        for actor, run, version in running:
            run.tick()
            actor.tick += 1
            # The last action, too, takes its time.
            rank = Due.END if run.done else Due.STEP
            self.clock.at(actor.tick / self.pace.control_hz, rank, (actor, run, version))

    def _end(self, ended: list[tuple[Actor, EpisodeRun, Version]]) -> None:
        for actor, run, version in ended:
            actor.human.leave()
            episode = run.episode()
            human_frames = int(episode.intervention.sum())
            self._spent.update(frames=len(episode), human_frames=human_frames)
            actor.schedule.spent(episode.task, len(episode))
            self.lived.append(
                Lived(
                    id=episode.id,
                    robot=actor.name,
                    version=version.sequence,
                    started=actor.started,
                    ended=self.clock.now,
                    frames=len(episode),
                    human_frames=human_frames,
                    success=episode.success,
                )
            )
            arrival = self.clock.now + self.pace.upload_delay_s
            self.clock.at(arrival, Due.ARRIVE, (episode.id, codec.encode(episode)))
            self._rest(actor, self.pace.reset_s)

    def _arrive(self, episodes: list[tuple[str, bytes]]) -> None:
        for name, data in episodes:
            self.learner.add([data], Side.ONLINE)
            self.arrived[name] = self.clock.now

    def _schedule_update(self) -> None:
        done, began = self._began
        due = began + (self.updates + 1 - done) * 60 / self.pace.updates_per_minute
        self._learning = self._has("updates")
        if self._learning:
            self.clock.at(due, Due.UPDATE)

    def _update(self, _: list[None]) -> None:
        if self._has("updates"):
            self._spent["updates"] += 1
            self.updates += 1
            self.learner.update()
            if self.updates % self.pace.publish_every == 0:
                delay = self.pace.publish_delay_s
                self.clock.at(self.clock.now + delay, Due.VISIBLE, self._publish())
        self._schedule_update()

    def _publish(self) -> Version:
        sequence = len(self.made)
        self.made.append(self.clock.now)
        return Version(sequence, self.learner.policy(self._seed * 1_000_003 + sequence))

    def _take_up(self, versions: list[Version]) -> None:
        self.version = versions[-1]

    @staticmethod
    def _watch(calls: list[Callable[[], None]]) -> None:
        for call in calls:
            call()
