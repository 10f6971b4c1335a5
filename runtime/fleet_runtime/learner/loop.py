"""The training loop: it fits one screen and knows no algorithm's name.

    journaled episodes in → update → losses to the sampler → version and checkpoint out

It runs in a thread of its own. Everything slow (network, serialising, disk) happens elsewhere on
copies; what this thread waits for, it awaits as an event.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import Reject, Retry
from fleet_contract.messages import LearnerStage, Lineage, Outcome, TaskTraining
from fleet_runtime.algorithms.ranks import ALONE, Order
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner.checkpoint import Saved, pack
from fleet_runtime.learner.intake import News
from fleet_runtime.learner.library import Unreadable
from fleet_runtime.learner.publish import Snapshot
from fleet_runtime.learner.steady import SteadyFeed
from fleet_runtime.learner.step import advance, stage
from fleet_runtime.tracing import MOST_LINKED

if TYPE_CHECKING:
    import threading
    from collections import Counter
    from collections.abc import Callable, Iterator

    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.algorithms.ranks import Ranks
    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.announce import Publisher
    from fleet_runtime.learner.checkpoint import Checkpointer
    from fleet_runtime.learner.crew import Crew
    from fleet_runtime.learner.handoff import Admitted, Handoff
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.metrics import LearnerMetrics
    from fleet_runtime.replay.index import ReplayIndex
    from fleet_runtime.replay.limiter import UpdateLimiter
    from fleet_runtime.replay.sampler import AdaptiveSampler

log = logging.getLogger(__name__)

IDLE = 0.5
"""Seconds a wait for data may last before versions and checkpoints are looked after again."""

MEASURED = 8
"""Of so many steps one has its age measured."""


def train(run: Training, stop: threading.Event) -> None:
    """Until `stop`. Raises FleetError when training has diverged."""
    while True:
        run.take_in()
        order = run.agree(stop)
        if order.stop:
            break
        for _ in range(order.updates):
            run.update()
            run.hand_out()
        if not order.updates:
            run.wait()
            run.hand_out()
    if run.presentable:
        run.save(time.monotonic())


@dataclasses.dataclass
class Training:
    """The parts of one run, bound together before the loop starts."""

    algorithm_name: str
    algorithm: Algorithm
    index: ReplayIndex
    sampler: AdaptiveSampler
    feed: Iterator[Batch]
    limiter: UpdateLimiter | None  # None: no limit
    handoff: Handoff
    publisher: Publisher
    checkpointer: Checkpointer
    progress: Progress
    metrics: LearnerMetrics
    epoch: int
    offline_steps: int
    from_scratch: bool  # the weights before the first update are random
    by_task: Counter[str]  # online episodes taken in, journal replay included
    through: int = 0  # the journal position up to which episodes were taken in
    place_of: Callable[[str], int] = lambda _: 0
    """The journal position of an online episode."""
    ranks: Ranks = ALONE
    _metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    _fresh: deque[tuple[str, float]] = dataclasses.field(
        default_factory=lambda: deque(maxlen=MOST_LINKED)
    )
    _offline: bool = False
    _data: bool = False

    def __post_init__(self) -> None:
        self.progress.step = self.algorithm.updates
        self.progress.goal_step = self.offline_steps
        self.progress.tasks = self.tasks
        self.look()

    def lead(self, crew: Crew, stop: threading.Event) -> None:
        """Train with other ranks from now on; they start from what this one holds."""
        crew.share(pack(self.saved(), self.algorithm.state()))
        self.ranks = crew
        self.algorithm.join(crew)
        self.feed = SteadyFeed(self.feed, self.index, stop)

    @property
    def episodes(self) -> int:
        """Online episodes taken in."""
        return self.by_task.total()

    @property
    def presentable(self) -> bool:
        """Whether the weights are worth keeping: random ones are for nobody."""
        return self.algorithm.updates > 0 or not self.from_scratch

    def take_in(self) -> None:
        """Make what was journaled sampleable."""
        # With other ranks whole segments: all of them index the same.
        taken = self.handoff.take() if self.ranks.count == 1 else self.handoff.take(sys.maxsize)
        for admitted in taken:
            self.through = max(self.through, admitted.position + 1)
            record = admitted.record
            try:
                admitted.enter(self.index)
            except (Reject, ValueError) as fault:
                log.warning("episode %s cannot train: %s", record.episode_id, fault)
                continue
            if admitted.counts:
                self.by_task[record.task] += 1
                outcome = record.outcome.value if record.outcome else Outcome.ABORTED.value
                self.metrics.episodes(record.task, outcome).inc()
                self._fresh.append((record.episode_id, time.time()))
            if admitted.episode is not None and not record.closes:
                self._measure(admitted, admitted.episode)
        if taken:
            self.look()

    def _measure(self, admitted: Admitted, episode: Episode) -> None:
        """How old it is by now; its robot's clock told when it ended. A step counts once."""
        latency = max(0.0, time.time() - admitted.record.ended_at)
        early = episode.intervention & self.index.spec.unfinished
        new = np.ones(len(episode), bool)
        if admitted.news is News.PART:
            new = early
        elif admitted.news is News.JOINED:
            new = ~early
        if admitted.news is not News.PART:
            self.progress.latencies.append(latency)
        self.progress.ages.append(latency + episode.time[-1] - episode.time[new][::MEASURED])

    def agree(self, stop: threading.Event) -> Order:
        """What all ranks do next; one that was asked to leave has all of them stop after that."""
        updates = self._allowed()
        order = Order(
            updates=0 if stop.is_set() else updates,
            online=self.progress.stage is LearnerStage.ONLINE,
            through=self.through,
            stop=stop.is_set(),
        )
        order, leaving = self.ranks.agree(order)
        if leaving:
            stop.set()
        self.algorithm.online = order.online
        return order

    def _allowed(self) -> int:
        """Updates of the next order: what there is to train on is not worn out by them."""
        step, most = self.algorithm.updates, self.ranks.stride
        if self.limiter:
            most = min(most, self.limiter.allowed(step, self.episodes))
        self.progress.stage = stage(
            step=step,
            offline_steps=self.offline_steps,
            offline=self._offline,
            data=self._data,
            allowed=most,
        )
        if self.progress.stage is LearnerStage.OFFLINE:  # its last update ends an order
            return min(max(most, 1), self.offline_steps - step)
        return most if self.progress.stage is LearnerStage.ONLINE else 0

    def update(self) -> None:
        """One update. A payload that cannot be read costs its episode, not the run."""
        try:
            update = advance(self.algorithm, self.feed, self.sampler, self.ranks)
        except Unreadable as fault:
            log.error("%s; the episode is left out", fault)  # noqa: TRY400
            self.index.drop(fault.episode_id)
            self.look()
            return
        except Retry as fault:
            log.warning("training waits for the store: %s", fault)
            self.wait()
            return
        self._metrics = update.metrics
        self.progress.updates += self.algorithm.updates - self.progress.step
        self.progress.step = self.algorithm.updates
        self.progress.loads = self.index.loads

    def wait(self) -> None:
        """Until an episode arrives, or a moment has passed."""
        started = self.progress.waiting_since = time.monotonic()
        self.handoff.wait(IDLE)
        self.progress.waited += time.monotonic() - started
        self.progress.waiting_since = None

    def hand_out(self) -> None:
        """Offer copies to publisher and checkpointer when they are due."""
        now, step = time.monotonic(), self.algorithm.updates
        if (
            self.progress.stage is not LearnerStage.OFFLINE
            and self.presentable
            and self.publisher.due(step, now)
        ):
            through = max(0, self.progress.journal_position - 1)
            lineage = Lineage(first=0, through=through, episodes=self.episodes)
            policy, metrics = self.algorithm.policy(), dict(self._metrics)
            snapshot = Snapshot(policy, step, metrics, lineage, tuple(self._fresh))
            self._fresh.clear()
            self.publisher.offer(snapshot, now)
        if self.presentable and self.checkpointer.due(now):
            self.save(now)

    def save(self, now: float) -> None:
        """Hand a copy of everything that is not experience to the checkpointer."""
        self.checkpointer.offer(self.saved(), self.algorithm.state(), now)

    def saved(self) -> Saved:
        """What a checkpoint says besides its tensors."""
        return Saved(
            learner_epoch=self.epoch,
            algorithm=self.algorithm_name,
            step=self.algorithm.updates,
            sequence=self.progress.published,
            journal_position=self.progress.journal_position,
            journal_first=self._first(),
            spaces=self.index.spaces,
            sampler=dict(self.sampler.state()),
        )

    def _first(self) -> int:
        """The journal position of the oldest episode held, 0 while there was room for all."""
        oldest = self.index.oldest(Side.ONLINE) if self.index.dropped else None
        return 0 if oldest is None else self.place_of(oldest)

    def tasks(self) -> dict[str, TaskTraining]:
        """The sampler's view, for the heartbeat."""
        means, share = self.sampler.means(), self.sampler.online_share()
        return {
            name: TaskTraining(
                loss_online=_number(means[i, Side.ONLINE]),
                loss_offline=_number(means[i, Side.OFFLINE]),
                online_weight=_number(share[i]),
                episodes=self.by_task[name],
            )
            for i, name in enumerate(self.index.spaces.tasks)
        }

    def look(self) -> None:
        """Note what the index holds, after it changed."""
        self.progress.episodes = self.episodes
        eligible = self.index.eligible()
        self._offline = bool(eligible[:, Side.OFFLINE].any())
        self._data = bool((eligible.sum(axis=1) * self.sampler.weights).any())
        self.progress.frames = {
            (task, side.name.lower()): int(eligible[i, side])
            for i, task in enumerate(self.index.spaces.tasks)
            for side in Side
        }


def _number(value: np.floating) -> float | None:
    return float(value) if np.isfinite(value) else None
