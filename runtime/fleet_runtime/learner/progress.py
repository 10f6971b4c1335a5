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

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import TaskTraining
    from fleet_runtime.metrics import LearnerMetrics


@dataclasses.dataclass
class Progress:
    """One run's figures; what is counted starts with the run unless said otherwise."""

    stage: LearnerStage = LearnerStage.STARTING
    epoch: int = 0
    step: int = 0  # updates over all runs
    goal_step: int = 0
    waited: float = 0.0  # seconds the training thread waited for data
    waiting_since: float | None = None  # monotonic; None while it works
    episodes: int = 0  # online episodes in the replay, earlier runs included
    offline_frames: int = 0  # drawable steps
    online_frames: int = 0
    rejected: int = 0
    published: int = 0  # last sequence
    journal_position: int = 0
    bytes_received: int = 0
    bytes_published: int = 0
    latencies: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=4096))
    tasks: Callable[[], dict[str, TaskTraining]] = dict

    def wait_seconds(self, now: float) -> float:
        """Seconds waited so far, the wait under way included."""
        since = self.waiting_since
        return self.waited + (now - since if since is not None else 0.0)


class Reporter:
    """Turns the progress since the last call into a heartbeat and into metrics."""

    def __init__(self, progress: Progress, metrics: LearnerMetrics, job_uid: str) -> None:
        self._progress = progress
        self._metrics = metrics
        self._job_uid = job_uid
        self._at = time.monotonic()
        self._seen = dataclasses.replace(progress)

    def beat(self, now: float) -> LearnerHeartbeat:
        """The heartbeat for the interval that ends now (monotonic seconds)."""
        progress, seen = self._progress, self._seen
        span = max(now - self._at, 1e-6)
        waited = progress.wait_seconds(now)
        rate = max(0, progress.step - seen.step) / span
        latencies = [progress.latencies.popleft() for _ in range(len(progress.latencies))]
        self._count(rate, waited - seen.waited, latencies)
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
            frames=progress.offline_frames + progress.online_frames,
            rejected=progress.rejected,
            published=progress.published,
            journal_position=progress.journal_position,
            bytes_received=progress.bytes_received,
            bytes_published=progress.bytes_published,
            experience_latency=statistics.median(latencies) if latencies else None,
            tasks=progress.tasks(),
            at=time.time(),
        )

    def _count(self, rate: float, waited: float, latencies: list[float]) -> None:
        progress, seen, metrics = self._progress, self._seen, self._metrics
        metrics.steps.inc(max(0, progress.step - seen.step))
        metrics.step_rate.set(rate)
        metrics.data_wait.inc(max(0.0, waited))
        metrics.records.labels("rejected").inc(progress.rejected - seen.rejected)
        metrics.bytes.labels("received").inc(progress.bytes_received - seen.bytes_received)
        metrics.bytes.labels("published").inc(progress.bytes_published - seen.bytes_published)
        metrics.policy_sequence.set(progress.published)
        metrics.frames.labels("offline").set(progress.offline_frames)
        metrics.frames.labels("online").set(progress.online_frames)
        for latency in latencies:
            metrics.experience_latency.observe(latency)
