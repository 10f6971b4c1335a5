"""The simulation gate's Job and its verdict, as lists of sentences."""

from typing import Any, NamedTuple

import pytest

from control.rollouts import version
from fleet_contract.agents import EXIT_REFUSED, GateConfig
from fleet_contract.messages import GateReport
from fleet_contract.names import Gate as GateName
from fleet_contract.resources import (
    FleetTrainingJob,
    GatePhase,
    GateStatus,
    GateTask,
    Simulation,
)
from fleet_operator.decide.learner import Run
from fleet_operator.decide.pod import End, Pod
from fleet_operator.decide.simulation import Plan, Seen, plan, report
from fleet_operator.desired import simulation as desired
from fleet_operator.desired.transport import Transport

STATUS = GateStatus(name=GateName.SIMULATION, run=3, asked="asked")
RUN = Run("job-gate-3", "job-uid", 3, "hash")
DONE = RUN._replace(complete=True)
GATE = Simulation(episodes=20, min_success_rate=0.5)


def found(**news: Any) -> GateReport:
    fields: dict[str, Any] = {
        "job_uid": "uid",
        "run": 3,
        "digest": version(2).digest,
        "seed": 7,
        "episodes": 20,
        "done": 40,
        "successes": {"push": 18, "reach": 20},
    }
    return GateReport(**fields | news)


def pod(phase: str = "Succeeded", last: End | None = None, **fields: Any) -> Pod:
    return Pod("p", "pod-uid", phase, owner_uid="job-uid", last=last, **fields)


def left(said: GateReport | str, **fields: Any) -> Pod:
    """A pod that ended with success, and its last words."""
    words = said if isinstance(said, str) else said.encode().decode()
    return pod(last=End(0, "Completed", words), **fields)


def seen(*pods: Pod, run: Run | None = DONE, **fields: Any) -> Seen:
    runs = (run,) if run else ()
    made = Seen(GATE, STATUS, version(2), ("push", "reach"), "hash", runs, pods)
    return made._replace(**fields)


def stable(phase: GatePhase = GatePhase.PASSED, asked: str = "asked", **won: int) -> Any:
    tasks = [GateTask(name=name, episodes=20, successes=n) for name, n in won.items()]
    status = GateStatus(name=GateName.SIMULATION, phase=phase, asked=asked, tasks=tasks)
    return 1, status


DROP = GATE.model_copy(update={"max_drop": 0.1})
P = GatePhase
TOLD_BEFORE = STATUS.model_copy(update={"message": "33 of 40 episodes have ended."})


class Told(NamedTuple):
    seen: Seen
    phase: GatePhase
    words: str


TOLD = {
    "what its pod left behind passes it": Told(
        seen(left(found())), P.PASSED, "push 18 of 20, reach 20 of 20, with seed 7"
    ),
    "one task below the floor refuses it": Told(
        seen(left(found(successes={"push": 9, "reach": 20}))),
        P.FAILED,
        "push 9 of 20 (0.45, at least 0.50 is asked), reach 20 of 20, with seed 7",
    ),
    "at the floor is not below it": Told(
        seen(left(found(successes={"push": 10, "reach": 10}))), P.PASSED, "push 10 of 20"
    ),
    "worse than the stable version was by more than is allowed refuses it": Told(
        seen(left(found()), gate=DROP, stable=stable(push=20, reach=20))._replace(
            pods=(left(found(successes={"push": 17, "reach": 18})),)
        ),
        P.FAILED,
        "push 17 of 20 (0.85, stable version 1 had 1.00 and a drop of 0.10 is allowed), reach 18",
    ),
    "worse by just as much as is allowed passes it": Told(
        seen(
            left(found(successes={"push": 18, "reach": 18})),
            gate=DROP,
            stable=stable(push=20, reach=20),
        ),
        P.PASSED,
        "push 18 of 20, reach 18 of 20, with seed 7",
    ),
    "a stable version that was asked otherwise says nothing": Told(
        seen(left(found()), gate=DROP, stable=stable(asked="other", push=20, reach=20)),
        P.PASSED,
        "no drop was judged",
    ),
    "nor does one whose gate was skipped": Told(
        seen(left(found()), gate=DROP, stable=stable(P.SKIPPED, push=20, reach=20)),
        P.PASSED,
        "no drop was judged",
    ),
    "nor is there a drop before there is anything stable": Told(
        seen(left(found()), gate=DROP), P.PASSED, "no drop was judged"
    ),
    "a version that cannot be run is refused": Told(
        seen(left(found(done=0, successes={"push": 0, "reach": 0}, fault="its actions are NaN"))),
        P.FAILED,
        "it cannot be run: its actions are NaN",
    ),
    "what it tells on its way passes nothing, though it be all": Told(
        seen(pod("Running"), run=RUN, heard=found()), P.RUNNING, "40 of 40 episodes have ended."
    ),
    "how far it is can be seen": Told(
        seen(pod("Running"), run=RUN, heard=found(done=7)), P.RUNNING, "7 of 40 episodes"
    ),
    "a run that has told nothing since our start says what was known": Told(
        seen(pod("Running"), run=RUN, settling=True, status=TOLD_BEFORE), P.RUNNING, "33 of 40"
    ),
    "… and what it tells then": Told(
        seen(pod("Running"), run=RUN, settling=True, status=TOLD_BEFORE, heard=found(done=34)),
        P.RUNNING,
        "34 of 40",
    ),
    "… or that its pod went meanwhile": Told(
        seen(run=RUN, settling=True, status=TOLD_BEFORE), P.RUNNING, "its pod does not run yet"
    ),
    "what another run tells is not": Told(
        seen(pod("Running"), run=RUN, heard=found(done=7, run=2)), P.RUNNING, "its pod runs."
    ),
    "what keeps it waiting is said": Told(
        seen(pod("Running"), run=RUN, heard=found(done=0, waits="no store")), P.RUNNING, "no store"
    ),
    "a pod that another Job left passes nothing": Told(
        seen(left(found())._replace(owner_uid="another"), run=RUN),
        P.RUNNING,
        "does not run yet",
    ),
    "a Job that was made for another version says nothing": Told(
        seen(left(found()), run=DONE._replace(hash="other")), P.RUNNING, "is being made"
    ),
    "nor one that somebody deletes": Told(
        seen(left(found()), run=DONE._replace(deleting=True)), P.RUNNING, "is being made"
    ),
    "a result of another version is none": Told(
        seen(left(found(digest=version(7).digest))), P.BLOCKED, "left no result"
    ),
    "nor is one of other tasks": Told(
        seen(left(found(successes={"push": 20}, done=20))), P.BLOCKED, "left no result"
    ),
    "nor one of fewer episodes": Told(seen(left(found(done=39))), P.BLOCKED, "left no result"),
    "nor one with more successes than episodes": Told(
        seen(left(found(successes={"push": 21, "reach": 20}))), P.BLOCKED, "left no result"
    ),
    "nor other words": Told(seen(left("fine")), P.BLOCKED, "image to one of this release"),
    "the result of a pod that is gone is waited for anew": Told(
        seen(), P.RUNNING, "does not run yet"
    ),
    "a pod that failed passes nothing, whatever it said": Told(
        seen(pod("Failed", End(1, "Error", found().encode().decode())), run=RUN),
        P.RUNNING,
        "does not run yet",
    ),
    "an image that cannot be pulled blocks it": Told(
        seen(pod("Pending", waiting="ErrImagePull", image="x:1"), run=RUN),
        P.BLOCKED,
        "cannot pull image x:1: correct spec.rollout.gates.simulation.image",
    ),
    "a pod that finds no room is waited for": Told(
        seen(pod("Pending", message="0/3 nodes have a GPU"), run=RUN), P.RUNNING, "0/3 nodes"
    ),
    "a spec that cannot be run blocks it, with its words": Told(
        seen(
            pod("Failed", End(EXIT_REFUSED, "Error", "no environment 'moon'")),
            run=RUN._replace(failed="it failed", why="PodFailurePolicy"),
        ),
        P.BLOCKED,
        "no environment 'moon'. Correct spec.rollout.gates.simulation: another run",
    ),
    "a program that crashes to the end blocks it, with its words": Told(
        seen(
            pod("Failed", End(1, "Error", "no such file")),
            run=RUN._replace(failed="it failed", why="BackoffLimitExceeded"),
        ),
        P.BLOCKED,
        "no such file. `kubectl logs job/job-gate-3` tells more. Mend that, and request retry@2.",
    ),
    "a deadline blocks it and says how far it came": Told(
        seen(run=RUN._replace(failed="too long", why="DeadlineExceeded"), heard=found(done=7)),
        P.BLOCKED,
        "within 30m (7 of 40 episodes have ended). Raise spec.rollout.gates.simulation.deadline",
    ),
    "a suspended job runs none": Told(seen(run=None, suspended=True), P.RUNNING, "spec.suspend"),
}


@pytest.mark.parametrize("told", TOLD.values(), ids=TOLD.keys())
def test_report(told: Told) -> None:
    said = report(told.seen)
    assert (said.run, said.phase) == (3, told.phase)
    assert told.words in said.message
    assert said.message.endswith(".") == (told.phase in {P.RUNNING, P.BLOCKED})
    if told.phase is P.BLOCKED:
        assert said.message.endswith("Or request skip@2 to go on without it, or abort@2.")


OLD = Run("job-gate-2", "old-uid", 2, "old")
PLANS: dict[str, tuple[Seen | None, tuple[Run, ...], tuple[Pod, ...], Plan]] = {
    "its Job is made": (seen(run=None), (), (), Plan(create=True)),
    "and not made again": (seen(pod("Running"), run=RUN), (RUN,), (pod("Running"),), Plan()),
    "one that nothing wants any more ends": (None, (RUN,), (), Plan(delete=(RUN,))),
    "one of an older run ends as the newer is made": (
        seen(run=None),
        (OLD,),
        (),
        Plan(create=True, delete=(OLD,)),
    ),
    "the one that ended last stays for its log": (None, (DONE,), (), Plan()),
    "until the next is made": (
        seen(run=None, status=STATUS.model_copy(update={"run": 4})),
        (DONE,),
        (),
        Plan(create=True, delete=(DONE,)),
    ),
    "a Job of this number for another version goes before its own is made": (
        seen(run=RUN._replace(hash="other")),
        (RUN._replace(hash="other"),),
        (),
        Plan(delete=(RUN._replace(hash="other"),)),
    ),
    "one on its way out is waited for": (
        seen(run=RUN._replace(deleting=True)),
        (RUN._replace(deleting=True),),
        (),
        Plan(),
    ),
    "one whose result went with its pod is made anew": (seen(), (DONE,), (), Plan(delete=(DONE,))),
    "one whose result is there is kept": (seen(left(found())), (DONE,), (left(found()),), Plan()),
    "a suspended job ends it": (
        seen(pod("Running"), run=RUN, suspended=True),
        (RUN,),
        (pod("Running"),),
        Plan(delete=(RUN,)),
    ),
    "a skipped gate ends it": (
        seen(run=RUN, status=STATUS.model_copy(update={"phase": P.SKIPPED})),
        (RUN,),
        (),
        Plan(delete=(RUN,)),
    ),
    "a pod whose Job went without it goes too": (
        None,
        (),
        (pod("Running"),),
        Plan(orphans=(pod("Running"),)),
    ),
    "of a namesake's Job nothing is touched": (
        None,
        (RUN._replace(ours=False),),
        (),
        Plan(),
    ),
}


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS.keys())
def test_plan(case: tuple[Seen | None, tuple[Run, ...], tuple[Pod, ...], Plan]) -> None:
    of, runs, pods, wanted = case
    assert plan(of, runs, pods) == wanted


def training_job(**gate: Any) -> FleetTrainingJob:
    tasks = [
        {"name": "push"},
        {"name": "far-push", "weight": 2, "environment": {"task": "push"}},
    ]
    spec = {"tasks": tasks, "rollout": {"gates": {"simulation": gate}}}
    return FleetTrainingJob.model_validate(
        {"metadata": {"name": "job", "namespace": "ns", "uid": "uid"}, "spec": spec}
    )


def asked(job: FleetTrainingJob) -> str:
    assert job.spec.rollout.gates.simulation is not None
    return desired.asked(job, job.spec.rollout.gates.simulation)


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"episodes": 30}, True),
        ({"tasks": ["push"]}, True),
        ({"environment": {"name": "metaworld", "parameters": {"horizon": 100}}}, True),
        ({"image": "other:1"}, True),
        ({"deadline": "1h"}, True),
        ({"minSuccessRate": 0.9}, False),
        ({"maxDrop": 0.1}, False),
        ({"episodes": 20}, False),
    ],
)
def test_another_run_is_needed_where_it_would_find_something_else(
    change: dict[str, Any], anew: bool
) -> None:
    assert (asked(training_job(**change)) != asked(training_job())) == anew


def test_a_run_is_told_the_version_the_tasks_and_the_world() -> None:
    job = training_job(tasks=["far-push"], environment={"name": "moon"}, episodes=7, deadline="90s")
    gate = job.spec.rollout.gates.simulation
    assert gate is not None
    to = Transport("nats://n", "s3://b", "learner:1", "robot:1", "secret")
    made = desired.gate_job(job, gate, STATUS, version(2), to)
    assert made["metadata"]["name"] == "job-gate-3"
    assert made["spec"]["activeDeadlineSeconds"] == 90
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "robot:1"
    assert container["envFrom"] == [{"secretRef": {"name": "secret"}}]
    env = {one["name"]: one.get("value") for one in container["env"]}
    config = GateConfig.model_validate_json(env["FLEET_SPEC"])
    assert (config.run, config.episodes) == (3, 7)
    assert config.policy.digest == version(2).digest
    assert [(one.name, one.environment.task) for one in config.tasks] == [("far-push", "push")]
    assert config.world is not None
    assert config.world.name == "moon"


def test_a_job_carries_which_version_and_what_was_asked() -> None:
    anew = STATUS.model_copy(update={"asked": "more"})
    marks = {
        desired.template_hash(status, of)
        for status in (STATUS, anew)
        for of in (version(2), version(3))
    }
    assert len(marks) == 4
