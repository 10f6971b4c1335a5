"""What heartbeats and a job's status tell, as samples of the contract's families. Pure.

A stranger's words make no series: tasks are the job's, every other label is one of our own words.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract import metrics as m
from fleet_contract.messages import (
    Assignment,
    AssignmentState,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    Outcome,
    RobotState,
    TaskTally,
)
from fleet_contract.names import Traffic
from fleet_contract.resources import FleetTrainingJobStatus, RolloutPhase

if TYPE_CHECKING:
    from fleet_operator.subscription import Subscription

RECORD_FATES = ("stored", "settled", "rejected", "evicted", "lost")


class Sample(NamedTuple):
    """One value; the labels in the family's order, without those that say whose it is."""

    family: m.Family
    value: float
    labels: tuple[str, ...] = ()


class Told(NamedTuple):
    """Whose samples: the values of the families' first labels."""

    whose: tuple[str, ...]
    samples: list[Sample]


def by_job(
    namespace: str, line: "Subscription", *, heard_since: float, epoch: float
) -> Iterator[Told]:
    """A job's versions, its learner and every robot that exists.

    Args:
        namespace: the job's.
        line: what was heard and what exists; left as it is.
        heard_since: who was last heard of before this is not connected.
        epoch: Unix seconds at which our clock was 0.
    """
    feed, job = line.feed, (namespace, line.job)
    samples = [Sample(m.POLICY_SEQUENCE, at, (role,)) for role, at in line.versions.items()]
    beat = feed.learner
    if beat is not None:
        there = feed.learner_at >= heard_since
        samples += [
            Sample(m.LEARNER_CONNECTED, there),
            Sample(m.LEARNER_LAST_SEEN, feed.learner_at + epoch),
            *(by_learner(beat, line.tasks) if there else ()),
        ]
    yield Told(job, samples)
    for name, enrolled in line.robots.items():
        heard = feed.heard.get(name)
        if heard is not None and heard.beat.robot_uid != enrolled.uid:
            heard = None  # a robot that was of its name
        there = heard is not None and heard.at >= heard_since
        samples = [
            Sample(m.ROBOT_CONNECTED, there),
            Sample(m.ROBOT_SUSPENDED, float(enrolled.suspended)),
        ]
        if (seen := heard.at + epoch if heard else enrolled.last_seen) is not None:
            samples.append(Sample(m.ROBOT_LAST_SEEN, seen))
        if heard is not None and there:
            samples += by_robot(heard.beat, line.tasks)
            samples += _assigned(name, feed.assignment)
        yield Told((*job, name), samples)


def by_status(status: FleetTrainingJobStatus) -> list[Sample]:
    """What the operator found of a job, whether or not its broker can be reached."""
    rollout = status.rollout
    samples = [
        Sample(m.JOB_CONDITION, 1, (one.type, one.reason))
        for one in status.conditions
        if one.status == "True"
    ]
    samples += [
        Sample(m.ROLLOUT_PHASE, float(rollout.phase is phase), (phase,)) for phase in RolloutPhase
    ]
    samples += [
        Sample(m.ROLLOUT_STEP, rollout.step),
        Sample(m.ROLLOUT_ROBOTS, len(rollout.robots)),
        Sample(m.ROLLOUT_EPISODES, rollout.successes, ("success",)),
        Sample(m.ROLLOUT_EPISODES, rollout.episodes - rollout.successes, ("failure",)),
    ]
    if rollout.started_at is not None:
        began = datetime.fromisoformat(rollout.started_at).timestamp()
        samples.append(Sample(m.ROLLOUT_STEP_START, began))
    return samples


def _assigned(robot: str, document: Assignment | None) -> Iterator[Sample]:
    if document is not None and document.state is AssignmentState.ACTIVE:
        policy = document.policy_for(robot)
        if policy is not None:
            yield Sample(m.ROBOT_ASSIGNED, policy.sequence)


def by_robot(beat: Heartbeat, tasks: Collection[str]) -> Iterator[Sample]:
    """A robot's heartbeat, of a job with these tasks."""
    for state in RobotState:
        yield Sample(m.ROBOT_STATE, float(beat.state is state), (state,))
    if beat.active is not None:
        yield Sample(m.ROBOT_POLICY, beat.active.sequence)
    for task in sorted(beat.tasks.keys() & set(tasks)):
        yield from _by_task(task, beat.tasks[task])
    yield Sample(m.ROBOT_RATE, beat.control_hz)
    yield Sample(m.GUARD_TRIPS, beat.guard_trips)
    yield Sample(m.FALLBACKS, beat.fallbacks)
    yield Sample(m.ROBOT_PROBATION, float(beat.probation))
    if beat.good is not None:
        yield Sample(m.ROBOT_GOOD, beat.good.sequence)
    yield Sample(m.ROBOT_REFUSALS, beat.refusals)
    yield Sample(m.ROBOT_SPOOL, beat.spool_depth)
    if beat.spool_free is not None:
        yield Sample(m.ROBOT_SPOOL_FREE, beat.spool_free)
    yield Sample(m.ROBOT_UNRECEIPTED, beat.unreceipted)
    for fate in RECORD_FATES:
        yield Sample(m.ROBOT_RECORDS, beat.records.get(fate, 0), (fate,))
    directions: Mapping[str, Mapping[str, int]] = {"sent": beat.sent, "received": beat.received}
    for direction, counts in directions.items():
        for kind in Traffic:
            yield Sample(m.ROBOT_BYTES, counts.get(kind, 0), (direction, kind))


def _by_task(task: str, tally: TaskTally) -> Iterator[Sample]:
    for outcome in Outcome:
        yield Sample(m.ROBOT_EPISODES, tally.outcomes.get(outcome, 0), (task, outcome))
    yield Sample(m.ROBOT_JUDGED, tally.successes, (task, "success"))
    yield Sample(m.ROBOT_JUDGED, tally.failures, (task, "failure"))
    yield Sample(m.ROBOT_INTERVENTIONS, tally.scheduled, (task, "scheduled"))
    yield Sample(m.ROBOT_INTERVENTIONS, tally.needed, (task, "needed"))
    yield Sample(m.ROBOT_STEPS, tally.policy_steps, (task, "policy"))
    yield Sample(m.ROBOT_STEPS, tally.human_steps, (task, "human"))


def by_learner(beat: LearnerHeartbeat, tasks: Collection[str]) -> Iterator[Sample]:
    """A learner's heartbeat, of a job with these tasks."""
    for stage in LearnerStage:
        yield Sample(m.LEARNER_STAGE, float(beat.stage is stage), (stage,))
    yield Sample(m.LEARNER_EPOCH, beat.epoch)
    yield Sample(m.LEARNER_STEPS, beat.step)
    yield Sample(m.LEARNER_STEP_RATE, beat.steps_per_second)
    yield Sample(m.LEARNER_PUBLISHED, beat.published)
    yield Sample(m.JOURNAL_POSITION, beat.journal_position)
    for task in sorted(beat.tasks.keys() & set(tasks)):
        losses = {"online": beat.tasks[task].loss_online, "offline": beat.tasks[task].loss_offline}
        for side, loss in losses.items():
            if loss is not None:
                yield Sample(m.LEARNER_LOSS, loss, (task, side))
