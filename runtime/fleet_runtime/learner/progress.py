"""How the run goes: counters that the threads set and the heartbeat reads.

Each field has one writer, and a reader may be one update behind; nothing decides by them.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING

from fleet_contract.messages import LearnerHeartbeat, LearnerStage
from fleet_contract.names import Traffic
from fleet_runtime.experience.batch import Side
from fleet_runtime.traffic import Moved

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from fleet_contract.messages import TaskTraining
    from fleet_runtime.metrics import LearnerMetrics

OFFLINE = Side.OFFLINE.name.lower()


@dataclasses.dataclass
class Progress:
    """One run's figures; what is counted starts with the run unless said otherwise."""

    stage: LearnerStage = LearnerStage.STARTING
    fault: str = ""  # what preparation waits for
    epoch: int = 0
    step: int = 0  # updates over all runs
    updates: int = 0  # of this run: what a checkpoint brought back took no time
    goal_step: int = 0
    waited: float = 0.0  # seconds the training thread waited for data
    waiting_since: float | None = None  # monotonic; None while it works
    episodes: int = 0  # online episodes in the replay, earlier runs included
    frames: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    """(task, side) → steps that can be drawn."""
    loads: int = 0  # episodes fetched again because they had left the memory
    rejected: int = 0
    published: int = 0  # last sequence
    journal_position: int = 0
    journal_first: int = 0  # of the segments that are still there
    moved: Moved = dataclasses.field(default_factory=Moved)
    latencies: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=4096))
    """Seconds from an episode's end to sampleable."""
    ages: deque[NDArray[np.float64]] = dataclasses.field(default_factory=lambda: deque(maxlen=4096))
    """Of some steps of each, seconds from the step to sampleable."""
    tasks: Callable[[], dict[str, TaskTraining]] = dict

    def undemonstrated(self) -> list[str]:
        """Tasks without a step on the offline side, where others have some."""
        shown = {task: n for (task, side), n in self.frames.items() if side == OFFLINE}
        return sorted(task for task, n in shown.items() if not n) if any(shown.values()) else []

    def wait_seconds(self, now: float) -> float:
        """Seconds waited so far, the wait under way included."""
        since = self.waiting_since
        return self.waited + (now - since if since is not None else 0.0)


class Reporter:
    """Turns the progress since the last call into a heartbeat and into metrics."""

    def __init__(
        self, progress: Progress, metrics: LearnerMetrics, job_uid: str, trouble: Callable[[], str]
    ) -> None:
        """`trouble`: what is wrong with the job's store, empty while it answers."""
        self._progress = progress
        self._trouble = trouble
        self._metrics = metrics
        self._job_uid = job_uid
        self._at = time.monotonic()
        self._seen = dataclasses.replace(progress)
        self._moved = progress.moved.table()
        self._refused = 0

    def beat(self, now: float) -> LearnerHeartbeat:
        """The heartbeat for the interval that ends now (monotonic seconds)."""
        progress, seen = self._progress, self._seen
        span = max(now - self._at, 1e-6)
        waited = progress.wait_seconds(now)
        rate = (progress.updates - seen.updates) / span
        latencies = [progress.latencies.popleft() for _ in range(len(progress.latencies))]
        self._count(waited - seen.waited, latencies)
        # Replaced as a whole: the copy's `waited` holds the wait that was under way.
        self._seen, self._at = dataclasses.replace(progress, waited=waited), now
        return LearnerHeartbeat(
            job_uid=self._job_uid,
            epoch=progress.epoch,
            stage=progress.stage,
            step=progress.step,
            goal_step=progress.goal_step,
            steps_per_second=rate,
            data_wait=min(1.0, max(0.0, (waited - seen.waited) / span)),
            episodes=progress.episodes,
            frames=sum(progress.frames.values()),
            rejected=progress.rejected,
            published=progress.published,
            journal_position=progress.journal_position,
            bytes_received=progress.moved.received[Traffic.EXPERIENCE],
            bytes_published=progress.moved.sent[Traffic.POLICY]
            + progress.moved.sent[Traffic.DELTA],
            experience_latency=statistics.median(latencies) if latencies else None,
            tasks=progress.tasks(),
            undemonstrated=progress.undemonstrated(),
            fault=progress.fault or self._trouble(),
            at=time.time(),
        )

    def _count(self, waited: float, latencies: list[float]) -> None:
        progress, metrics = self._progress, self._metrics
        metrics.data_wait.inc(max(0.0, waited))
        metrics.segments.set(max(0, progress.journal_position - progress.journal_first))
        metrics.loads.inc(max(0, progress.loads - self._seen.loads))
        for (task, side), frames in progress.frames.items():
            metrics.frames(task, side).set(frames)
        before, self._moved = self._moved, progress.moved.table()
        for pair, count in self._moved.items():
            metrics.bytes(*pair).inc(count - before[pair])
        metrics.refusals.inc(progress.moved.refused - self._refused)
        self._refused = progress.moved.refused
        for latency in latencies:
            metrics.experience_latency("episode").observe(latency)
        while progress.ages:
            for age in progress.ages.popleft().tolist():
                metrics.experience_latency("step").observe(age)
