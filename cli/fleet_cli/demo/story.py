"""What the demo has seen so far: a fold over messages and objects, without I/O or clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleet_contract.messages import Event, EventKind, Heartbeat, LearnerHeartbeat
from fleet_contract.names import ConditionType
from fleet_contract.resources import FleetTrainingJob, PolicyPhase, PolicyVersion

if TYPE_CHECKING:
    from fleet_contract.messages import Announcement

WINDOW = 20  # judged episodes behind a task's success rate


@dataclass
class TaskStory:
    """One task's judged episodes, newest last."""

    judged: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW))
    episodes: int = 0
    interventions: int = 0
    curve: list[tuple[float, float]] = field(default_factory=list)
    """(seconds since the start, success rate over the window)."""

    @property
    def rate(self) -> float | None:
        return sum(self.judged) / len(self.judged) if self.judged else None

    def trend(self, now: float, span: float = 30.0) -> float:
        """How much the rate rose over the last ``span`` seconds."""
        if not self.curve:
            return 0.0
        before = [rate for at, rate in self.curve if at <= now - span]
        return self.curve[-1][1] - (before[-1] if before else self.curve[0][1])


@dataclass
class Story:
    """Everything the view and the report show."""

    tasks: dict[str, TaskStory]
    robots: dict[str, Heartbeat] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)
    learner: LearnerHeartbeat | None = None
    job: FleetTrainingJob | None = None
    deleted: bool = False
    versions: dict[int, PolicyVersion] = field(default_factory=dict)
    announced: int = 0
    first_step_at: float | None = None
    base: dict[str, tuple[int, int]] | None = None
    final: dict[str, tuple[int, int]] | None = None
    chapter: str = "starting"
    log: list[tuple[float, str]] = field(default_factory=list)
    policy_latencies: deque[float] = field(default_factory=lambda: deque(maxlen=200))

    def say(self, now: float, line: str) -> None:
        self.log.append((now, line))

    def on_heartbeat(self, now: float, message: Heartbeat) -> None:
        before = self.robots.get(message.robot)
        if message.policy_latency is not None and (
            before is None or before.policy_latency != message.policy_latency
        ):
            self.policy_latencies.append(message.policy_latency)
        if self.first_step_at is None and message.control_hz > 0:
            self.first_step_at = now
            self.say(now, f"first robot steps: {message.robot}")
        self.robots[message.robot] = message
        self.seen_at[message.robot] = now

    def on_event(self, now: float, message: Event) -> None:
        if message.kind is EventKind.OUTCOME and message.task in self.tasks:
            task = self.tasks[message.task]
            task.episodes += 1
            task.interventions += message.human_frames > 0
            if message.judged is not None:
                task.judged.append(message.judged)
                task.curve.append((now, sum(task.judged) / len(task.judged)))
        elif message.kind in {EventKind.GUARD, EventKind.REFUSAL}:
            self.say(now, f"{message.robot}: {message.kind} - {message.detail}")

    def on_learner(self, message: LearnerHeartbeat) -> None:
        self.learner = message

    def on_announcement(self, message: Announcement) -> None:
        self.announced = max(self.announced, message.policy.sequence)

    def on_job(self, now: float, kind: str, job: FleetTrainingJob) -> None:
        if kind == "DELETED":
            self.deleted = True
            self.say(now, f"{job.metadata.name} was deleted")
            return
        before = self.job.status.condition(ConditionType.STALLED) if self.job else None
        stalled = job.status.condition(ConditionType.STALLED)
        if stalled is not None and (before is None or before.message != stalled.message):
            self.say(now, f"{job.metadata.name} is stalled: {stalled.message}")
        self.job = job

    def on_version(self, now: float, kind: str, version: PolicyVersion) -> None:
        if kind == "DELETED":
            return  # the history limit took it; the story keeps it
        before = self.phase_of(version.spec.sequence)
        self.versions[version.spec.sequence] = version
        if version.status.phase is not before and version.status.message:
            self.say(now, version.status.message)

    @property
    def rates(self) -> dict[str, float]:
        return {name: task.rate for name, task in self.tasks.items() if task.rate is not None}

    @property
    def mean(self) -> float | None:
        """Mean autonomous success over the tasks, gate on; None until each has one."""
        rates = self.rates
        return sum(rates.values()) / len(rates) if len(rates) == len(self.tasks) else None

    def seems_met(self, goal: float, least: int) -> bool:
        """Every task has enough judged episodes and the mean is at the goal."""
        enough = all(len(task.judged) >= least for task in self.tasks.values())
        mean = self.mean
        return enough and mean is not None and mean >= goal

    def phase_of(self, sequence: int) -> PolicyPhase | None:
        version = self.versions.get(sequence)
        return version.status.phase if version else None

    @property
    def promotions(self) -> int:
        return sum(v.status.phase is PolicyPhase.PROMOTED for v in self.versions.values())


def mean_rate(counts: dict[str, tuple[int, int]]) -> float:
    """Mean over tasks of successes / episodes."""
    return sum(good / total for good, total in counts.values()) / len(counts)
