"""One job on one screen: what runs, what is awaited, what to do next. Pure."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from fleet_cli.oncall import look, views
from fleet_cli.oncall.world import since
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Gate, Reason, Verb
from fleet_contract.resources import GatePhase, RolloutMode, Shadow, Simulation, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fleet_cli.oncall.world import World
    from fleet_contract.resources import RobotActor, RolloutStatus, Step

TROUBLESHOOTING = "docs/troubleshooting.md"


def status(world: World, latency: views.Latency | None = None) -> views.Status:
    """The whole screen."""
    job, now = world.job, world.now
    rollout, learner = job.spec.rollout, job.status.learner
    told = job.status.condition(C.LEARNER_READY)
    robots = [look.robot(one, now) for one in world.robots]
    return views.Status(
        job=look.job(job, now),
        mode=rollout.mode.value,
        strategy=rollout.strategy.value,
        stages=_stages(world),
        cohorts=_cohorts(world),
        awaits=job.status.rollout.message,
        next=list(_next(world)),
        troubled=[one for one in robots if one.trouble],
        learner=views.Learner(
            run=learner.run,
            stage=learner.stage,
            step=learner.step,
            goal_step=learner.goal_step,
            message=told.message if told else "",
        ),
        tasks=[
            views.TaskRate(name=one.name, episodes=one.episodes, success_rate=one.success_rate)
            for one in job.status.tasks
        ],
        latency=latency,
        took=_took(world),
    )


def says(step: Step) -> str:
    """A step of the rollout in words."""
    who = f"{step.percent} % of the fleet" if step.percent else f"{step.robots} robots"
    who = "1 robot" if step.robots == 1 else who
    where = [f"site {one}" for one in step.selector.sites]
    where += [f"group {one}" for one in step.selector.groups]
    who += f" of {' or '.join(where)}" if where else ""
    soak = "" if step.soak == "0s" else f", at least {step.soak}"
    deadline = f", within {step.deadline}" if step.deadline else ""
    return f"{who}, {step.min_episodes} episodes{soak}{deadline}"


def _stages(world: World) -> list[views.Stage]:
    spec, rollout = world.job.spec.rollout, world.job.status.rollout
    if rollout.candidate is None:
        return []
    gates = list(_gates(world))
    if spec.strategy is Strategy.BROADCAST or world.job.status.stable is None:
        return [*gates, views.Stage(state="ahead", what="the whole fleet")] if gates else []
    at = rollout.step if rollout.robots else -1
    stages = [
        views.Stage(
            state="done" if index < at else "now" if index == at else "ahead", what=says(step)
        )
        for index, step in enumerate(spec.steps)
    ]
    return [*gates, *stages, views.Stage(state="ahead", what="the whole fleet")]


def _gates(world: World) -> Iterator[views.Stage]:
    """Those that are asked for, and where the candidate stands with each."""
    asked, rollout = world.job.spec.rollout.gates, world.job.status.rollout
    standing = {one.name: one.phase for one in rollout.gates}
    for name in Gate:
        if (gate := getattr(asked, name.value, None)) is None:
            continue
        phase = standing.get(name)
        over = rollout.started_at is not None or phase in {GatePhase.PASSED, GatePhase.SKIPPED}
        skipped = ", skipped" if phase is GatePhase.SKIPPED else ""
        what = f"the {name} gate{_asks(gate)}{skipped}"
        yield views.Stage(state="done" if over else "now" if phase else "ahead", what=what)


def _asks(gate: object) -> str:
    """A gate in words."""
    if isinstance(gate, Shadow):
        who = f"{gate.percent} % of the fleet" if gate.percent else f"{gate.robots or 1} robots"
        who = "1 robot" if who == "1 robots" else who
        apart = f"at most {gate.max_disagreement:g} apart"
        return f" on {who}, {gate.min_episodes} episodes, {apart}"
    if not isinstance(gate, Simulation):
        return ""
    tasks = f" of {', '.join(gate.tasks)}" if gate.tasks else " a task"
    world = f" in {gate.environment.name}" if gate.environment else ""
    drop = "" if gate.max_drop is None else f", at most {gate.max_drop:g} below stable"
    return f", {gate.episodes} episodes{tasks}{world}, {gate.min_success_rate:g} succeed{drop}"


def _cohorts(world: World) -> list[views.Cohort]:
    """The robots of the trial first, then all others by the version they run."""
    found, at_work = world.job.status, [one for one in world.robots if not one.spec.suspend]
    rollout, stable = found.rollout, found.stable.sequence if found.stable else None
    trial = frozenset(rollout.robots if rollout.candidate else ())
    groups: dict[int | None, list[RobotActor]] = defaultdict(list)
    for one in at_work:
        if one.metadata.name not in trial:
            groups[_runs(one)].append(one)
    order = sorted(groups, key=lambda version: (version != stable, -(version or 0)))
    cohorts = [_others(version, stable, groups[version]) for version in order]
    if rollout.watching:  # the evidence is the fleet's own
        told = rollout.model_dump(include={"episodes", "successes"}) | {
            "success_rate": _rate(rollout)
        }
        cohorts = [one.model_copy(update=told) if one.role == "stable" else one for one in cohorts]
    if trial:
        robots = [one for one in at_work if one.metadata.name in trial]
        cohorts.insert(0, _trial(world, robots))
    return cohorts


def _runs(robot: RobotActor) -> int | None:
    return robot.status.active.sequence if robot.status.active else None


def _connected(robots: Iterable[RobotActor]) -> int:
    return sum(look.holds(one.status, C.CONNECTED) for one in robots)


def _others(version: int | None, stable: int | None, robots: list[RobotActor]) -> views.Cohort:
    pinned = all(one.spec.pin is not None for one in robots)
    rates = [float(one.status.success_rate) for one in robots if one.status.success_rate]
    return views.Cohort(
        role="stable" if version == stable else "pinned" if pinned else "other",
        version=version,
        robots=len(robots),
        on_it=len(robots),
        connected=_connected(robots),
        success_rate=f"{fmean(rates):.2f}" if rates else "",
    )


def _trial(world: World, robots: list[RobotActor]) -> views.Cohort:
    rollout = world.job.status.rollout
    version = rollout.candidate.sequence if rollout.candidate else None
    kept = next((one for one in world.versions if one.spec.sequence == version), None)
    cohort = kept.status.cohort if kept else None
    return views.Cohort(
        role="candidate",
        version=version,
        robots=len(rollout.robots),
        on_it=sum(_runs(one) == version for one in robots),
        connected=_connected(robots),
        episodes=rollout.episodes,
        successes=rollout.successes,
        interventions=cohort.interventions if cohort else None,
        guard_trips=cohort.guard_trips if cohort else None,
        success_rate=_rate(rollout),
    )


def _rate(rollout: RolloutStatus) -> str:
    return f"{rollout.successes / rollout.episodes:.2f}" if rollout.episodes else ""


PRESS = {
    Verb.APPROVE: "let robots try it",
    Verb.PROMOTE: "let it go on",
    Verb.SKIP: "let it go on without this stage's evidence",
    Verb.RETRY: "run its gates anew",
    Verb.RESUME: "go on",
    Verb.ABORT: "take it back for good",
    Verb.ROLLBACK: "take it back from the fleet, for version {good}",
}
"""What a button does, said beside it."""
HELP: dict[str, tuple[Verb, ...]] = {
    Reason.AWAITING_APPROVAL: (Verb.APPROVE,),
    Reason.AWAITING_PROMOTION: (Verb.PROMOTE,),
    Reason.AWAITING_EPISODES: (Verb.SKIP,),
    Reason.NO_ROBOT_CONNECTED: (Verb.SKIP,),
    Reason.GATE_RUNNING: (Verb.SKIP,),
    Reason.GATE_BLOCKED: (Verb.RETRY, Verb.SKIP),
    Reason.DEADLINE_PASSED: (Verb.SKIP, Verb.RESUME),
}
"""Buttons that end what is awaited; a version on trial can always be taken back."""
AT_GATE = frozenset({Reason.GATE_RUNNING, Reason.GATE_BLOCKED})
PAST_GATE = "let it go on without this gate"


def _next(world: World) -> Iterator[views.Step]:
    """What is wrong comes first, then what may be done by choice."""
    job, name = world.job, world.job.metadata.name
    spec, rollout, stable = job.spec.rollout, job.status.rollout, job.status.stable
    stalled = job.status.condition(C.STALLED)
    if stalled is not None:
        yield views.Step(what=f"{stalled.message} ({TROUBLESHOOTING}, {stalled.reason})")
    elif job.status.observed_generation < job.metadata.generation:
        yield views.Step(
            command=f"fleet doctor{world.asked}",
            what="the operator has not looked at the newest edit; if that lasts, see why",
        )
    if spec.paused:
        yield views.Step(what="set spec.rollout.paused to false where the job is written, to go on")
    if rollout.paused:
        yield views.Step(
            command=f"fleet {Verb.RESUME} {name}{world.asked}", what=PRESS[Verb.RESUME]
        )
    if spec.mode is RolloutMode.PINNED:
        command = f"fleet unpin {name}{world.asked}"
        yield views.Step(command=command, what="let newer versions through again")
    elif rollout.candidate is not None:
        for verb in (*HELP.get(rollout.reason, ()), Verb.ABORT):
            command = f"fleet {verb} {name} {rollout.candidate.sequence}{world.asked}"
            gated = verb is Verb.SKIP and rollout.reason in AT_GATE
            yield views.Step(command=command, what=PAST_GATE if gated else PRESS[verb])
    elif stable is not None and job.status.last_known_good:
        good = job.status.last_known_good[-1].sequence
        command = f"fleet {Verb.ROLLBACK} {name} {stable.sequence}{world.asked}"
        yield views.Step(command=command, what=PRESS[Verb.ROLLBACK].format(good=good))


def _took(world: World) -> float | None:
    """From the stable version's making to its promotion."""
    stable = world.job.status.stable
    for one in world.versions:
        if stable is not None and one.spec.sequence == stable.sequence:
            promoted = one.status.condition(C.PROMOTED)
            if promoted is not None and promoted.status == "True":
                began = since(one.metadata.creation_timestamp, world.now)
                ended = since(promoted.last_transition_time, world.now)
                return None if began is None or ended is None else max(0.0, began - ended)
    return None
