"""Fleets turn by turn, as operator and learner would serve them: the real code, no processes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from fleet_contract.messages import (
    Assignment,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    PolicyRef,
    RobotState,
    TaskTally,
    digest_of,
)
from fleet_contract.names import ConditionType, Reason
from fleet_contract.resources import Condition, FleetTrainingJobStatus, RolloutPhase, RolloutStatus
from fleet_operator import metrics
from fleet_operator.bus import Bus
from fleet_operator.feed import Feed
from fleet_operator.subscription import Enrolled, Subscription
from fleet_operator.told import Told, by_job, by_status
from fleet_runtime.metrics import ClerkMetrics, LearnerMetrics

NAMESPACE, TASK = "fleets", "push"
MINUTE = 60.0
TURN = 4
"""Minutes between two scrapes, and between two changes of anything."""
LOST_AFTER = 20.0


def _policy(sequence: int) -> PolicyRef:
    return PolicyRef(sequence=sequence, digest=digest_of(b"%d" % sequence), uri="v")


@dataclass
class Robot:
    """One robot: what happens to it in a turn, and what that has come to."""

    name: str
    heard: bool = True
    follows: bool = True
    won: int = 3
    lost: int = 1
    needed: int = 0
    trips: int = 0
    fallbacks: int = 0
    given_up: int = 0
    settles: bool = True
    nbytes: int = 1_000_000
    spool_free: float = 0.9
    tally: TaskTally = field(default_factory=TaskTally)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("trips", "falls"), 0))
    records: dict[str, int] = field(default_factory=dict)
    sent: int = 0
    runs: int = 1

    def live(self, assigned: int) -> None:
        """A turn."""
        before, episodes = self.tally, self.won + self.lost
        self.tally = TaskTally(
            outcomes={"success": before.outcomes.get("success", 0) + episodes},
            successes=before.successes + self.won,
            failures=before.failures + self.lost,
            needed=before.needed + self.needed,
        )
        self.counts["trips"] += self.trips
        self.counts["falls"] += self.fallbacks
        for fate, count in (("settled", episodes * self.settles), ("evicted", self.given_up)):
            self.records[fate] = self.records.get(fate, 0) + count
        self.sent += self.nbytes
        self.runs = assigned if self.follows else self.runs

    def beat(self) -> Heartbeat:
        """As it would tell."""
        return Heartbeat(
            robot=self.name,
            robot_uid=self.name,
            job_uid="uid",
            state=RobotState.RUNNING,
            active=_policy(self.runs),
            tasks={TASK: self.tally},
            guard_trips=self.counts["trips"],
            fallbacks=self.counts["falls"],
            records=self.records,
            spool_depth=5,
            spool_free=self.spool_free,
            sent={"experience": self.sent},
            at=0.0,
        )


class Job:
    """A job, its learner and three robots; what a fault changes are its attributes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.robots = [Robot(f"{name}-{index}") for index in range(3)]
        self.learns, self.publishes, self.complete = True, True, False
        self.latency, self.rejected, self.rolled_back = 3.0, 0, 0
        self.phase, self.step_began = RolloutPhase.STAGED, 0.0
        self.suspended, self.stalled = False, ""
        self.version, self.steps = 1, 0
        self.grants = {"granted": 20, "too-often": 2}
        self._learner = LearnerMetrics(NAMESPACE, name)
        self._clerk = ClerkMetrics(NAMESPACE, name)
        self._line = Subscription(name, Bus("nats://nowhere"), Feed("uid"))
        self._line.tasks = frozenset({TASK})

    @property
    def collectors(self) -> tuple[Collector, ...]:
        """What its clerk serves and its learner, while that is there."""
        return (self._clerk.registry, *((self._learner.registry,) if self.learns else ()))

    def live(self, minute: int) -> None:
        """A turn until this minute: a version every five turns, the learner works, robots tell."""
        now = minute * MINUTE
        if self.publishes and minute % (5 * TURN) == 0:
            self.version += 1
            self.step_began = now if self.phase is RolloutPhase.STAGED else self.step_began
        self.steps += 2400 * self.learns
        self._line.feed.assignment = Assignment(
            job_uid="uid", epoch=1, issued_at_ms=0, expires_at_ms=0, default=_policy(self.version)
        )
        self._line.robots = {
            one.name: Enrolled(one.name, None, suspended=self.suspended) for one in self.robots
        }
        for one in self.robots:
            one.live(self.version)
            if one.heard:
                subject = f"fleet.{NAMESPACE}.{one.name}.{self.name}.hb"
                self._line.feed.heartbeat(subject, one.beat().encode(), now)
        for result, count in self.grants.items():
            self._clerk.grants("get", result).inc(count)
        if self.learns:
            self._learner.experience_latency("episode").observe(self.latency)
            self._learner.rejected("Shape").inc(self.rejected)
            self._line.feed.learner_beat(self._learner_beat().encode(), now)
        metrics.ROLLOUTS.labels(NAMESPACE, self.name, "RolledBack").inc(self.rolled_back)
        metrics.STATUSES[NAMESPACE, self.name] = by_status(self._status())

    def told(self, minute: int) -> Iterator[Told]:
        """As the operator's endpoint has it."""
        since = minute * MINUTE - LOST_AFTER
        return by_job(NAMESPACE, self._line, heard_since=since, epoch=0.0)

    def _learner_beat(self) -> LearnerHeartbeat:
        return LearnerHeartbeat(
            job_uid="uid",
            epoch=1,
            stage=LearnerStage.ONLINE,
            step=self.steps,
            published=self.version,
            at=0.0,
        )

    def _status(self) -> FleetTrainingJobStatus:
        true = {ConditionType.READY: Reason.READY.value}
        if self.stalled:
            true = {ConditionType.STALLED: self.stalled}
        true |= {ConditionType.COMPLETE: "GoalReached"} if self.complete else {}
        true |= {ConditionType.SUSPENDED: "Suspended"} if self.suspended else {}
        began = f"1970-01-01T{int(self.step_began // 3600):02}:"
        began += f"{int(self.step_began // 60 % 60):02}:00+00:00"
        conditions = [
            Condition(
                type=kind,
                status="True",
                reason=reason,
                last_transition_time=began,
                observed_generation=1,
            )
            for kind, reason in true.items()
        ]
        idle = self.phase is RolloutPhase.IDLE
        rollout = RolloutStatus(phase=self.phase, started_at=None if idle else began)
        return FleetTrainingJobStatus(conditions=conditions, rollout=rollout)


def scrape(jobs: list[Job], minute: int, families: set[str]) -> Iterator[tuple[str, float]]:
    """Series as promtool names them, of these families, and their values."""
    registry = CollectorRegistry()
    registry.register(metrics.Fleet(lambda: [told for job in jobs for told in job.told(minute)]))
    learners = [one for job in jobs for one in job.collectors]
    for collector in (registry, metrics.REGISTRY, *learners):
        for family in collector.collect():
            for sample in family.samples:
                name = re.sub("_(bucket|sum|count)$", "", sample.name)
                whose = sample.labels.get("namespace", NAMESPACE)
                if whose == NAMESPACE and {name, sample.name} & families:
                    pairs = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                    yield f"{sample.name}{{{pairs}}}", sample.value
