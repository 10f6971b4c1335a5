"""Which Job to make and which to end, as a list of sentences."""

from typing import Any, NamedTuple

import pytest

from fleet_contract.names import Reason
from fleet_operator.decide.learner import LearnerPlan, Run, plan
from fleet_operator.decide.pod import End, Pod


def run(number: int = 1, hash_: str = "new", **fields: Any) -> Run:
    return Run(f"job-learner-{number}", f"uid-{number}", number, hash_)._replace(**fields)


RUNNING = Pod("p", "u", "Running", owner_uid="uid-1")
WAITING = Pod("p", "u", waiting="ImagePullBackOff", message="no such image", owner_uid="uid-1")


CRASH = End(1, "Error", "no episode of demos can be used", lasted=20)
LOOPING = RUNNING._replace(waiting="CrashLoopBackOff", last=CRASH)
REFUSES = LOOPING._replace(last=End(78, "Error", "there is no 'temprature'"))


class Case(NamedTuple):
    runs: tuple[Run, ...]
    pods: tuple[Pod, ...]
    reason: Reason
    create: bool = False
    delete: tuple[int, ...] = ()
    wanted: bool = True
    last: int = 0
    number: int = 1
    orphans: int = 0
    refuse: bool = False
    doubted: bool = False
    heard: bool = True
    ranks: int = 1
    undemonstrated: tuple[str, ...] = ()
    says: str = ""
    complete: bool = False


R = Reason
CASES = {
    "with nothing there the first run begins": Case((), (), R.LEARNER_PENDING, create=True),
    "the next run's number follows the last one known": Case(
        (), (), R.LEARNER_PENDING, create=True, last=4, number=5
    ),
    "a run that fits stays": Case((run(),), (RUNNING,), R.LEARNER_RUNNING),
    "a run that nobody hears of says where to look": Case(
        (run(),),
        (RUNNING,),
        R.LEARNER_RUNNING,
        heard=False,
        says="see whether its pod reaches NATS",
    ),
    "a run without demonstrations of some tasks says of which": Case(
        (run(),),
        (RUNNING,),
        R.LEARNER_RUNNING,
        undemonstrated=("push", "reach"),
        says="at work. Its datasets show nothing of push, reach that it can learn from: robots",
    ),
    "a run that waits in a queue of Kueue's says in which": Case(
        (run(queue="fleet"),), (), R.LEARNER_PENDING, says="waits for room in Kueue's queue fleet"
    ),
    "a run without a running pod is awaited": Case((run(),), (), R.LEARNER_PENDING),
    "a run of another spec is ended, and nothing made beside it": Case(
        (run(hash_="old"),), (RUNNING,), R.LEARNER_PENDING, delete=(1,)
    ),
    "a run that is going is awaited": Case((run(deleting=True),), (), R.LEARNER_PENDING),
    "a pod that outlives its Job is ended and awaited": Case(
        (), (RUNNING,), R.LEARNER_PENDING, number=0, orphans=1
    ),
    "a pod that outlives its Job and is going is awaited": Case(
        (), (RUNNING._replace(deleting=True),), R.LEARNER_PENDING, number=0
    ),
    "an orphan beside a run that fits is ended": Case(
        (run(),), (RUNNING, RUNNING._replace(owner_uid="")), R.LEARNER_RUNNING, orphans=1
    ),
    "an ended pod is not": Case(
        (), (Pod("p", "u", "Failed"),), R.LEARNER_PENDING, create=True, number=1
    ),
    "a deleted namesake's Job is awaited and not touched": Case(
        (run(ours=False),), (), R.LEARNER_PENDING, number=0
    ),
    "an unwanted run is ended": Case(
        (run(),), (RUNNING,), R.LEARNER_PENDING, delete=(1,), wanted=False
    ),
    "with nothing wanted and nothing there nothing is made": Case(
        (), (), R.SUSPENDED, wanted=False, last=1
    ),
    "of two runs the older is ended": Case(
        (run(1), run(2)), (RUNNING,), R.LEARNER_RUNNING, delete=(1,), number=2
    ),
    "a missing image is told": Case((run(),), (WAITING,), R.IMAGE_PULL_FAILED),
    "a failed Job is told and kept": Case((run(failed="deadline"),), (), R.LEARNER_FAILED),
    "a learner that ends again and again is told in its own words": Case(
        (run(),), (LOOPING,), R.LEARNER_CRASHING, says="no episode of demos can be used."
    ),
    "a learner that was killed by somebody is awaited": Case(
        (run(),), (LOOPING._replace(last=End(137, "Error")),), R.LEARNER_PENDING
    ),
    "a learner whose first start fails is awaited, and its words are told": Case(
        (run(),),
        (RUNNING._replace(down=True, last=CRASH),),
        R.LEARNER_PENDING,
        says="It ended: no episode of demos",
    ),
    "a learner that crashed until now is not believed at once": Case(
        (run(),), (RUNNING._replace(last=CRASH, started_at=1000),), R.LEARNER_CRASHING, doubted=True
    ),
    "a learner that runs for longer than it did is believed": Case(
        (run(),), (RUNNING._replace(last=CRASH, started_at=900),), R.LEARNER_RUNNING, doubted=True
    ),
    "a learner that refuses its spec is not started again": Case(
        (run(),), (REFUSES,), R.LEARNER_REFUSED, refuse=True, says="there is no 'temprature'."
    ),
    "that is done once": Case(
        (run(refusal="there is no 'temprature'."),), (REFUSES,), R.LEARNER_REFUSED
    ),
    "what it said outlives its pod": Case(
        (run(refusal="no such algorithm.", failed="backoff limit"),),
        (),
        R.LEARNER_REFUSED,
        says="no such algorithm. It starts again when the spec changes, or when Job job-learner-1",
    ),
    "another spec makes another run of it": Case(
        (run(hash_="old", refusal="no", failed="x"),), (), R.LEARNER_PENDING, delete=(1,)
    ),
    "of several ranks one alone is not yet a learner": Case(
        (run(),), (RUNNING,), R.LEARNER_PENDING, ranks=2, says="1 of 2 ranks do not run yet."
    ),
    "a rank that waits to be scheduled says why": Case(
        (run(),),
        (RUNNING, Pod("p-1", "v", message="0/3 nodes have room", owner_uid="uid-1")),
        R.LEARNER_PENDING,
        ranks=2,
        says="1 of 2 ranks do not run yet. 0/3 nodes have room",
    ),
    "all ranks together are": Case((run(),), (RUNNING, RUNNING), R.LEARNER_RUNNING, ranks=2),
    "a rank without an image is told though others run": Case(
        (run(),), (RUNNING, WAITING), R.IMAGE_PULL_FAILED, ranks=2
    ),
    "a run that ended well reached its goal": Case(
        (run(complete=True),), (), R.GOAL_REACHED, complete=True
    ),
    "it has reached it also while it is ended": Case(
        (run(complete=True),), (), R.LEARNER_PENDING, delete=(1,), wanted=False, complete=True
    ),
    "that one of another spec ended well is no goal of this one's": Case(
        (run(hash_="old", complete=True),), (), R.LEARNER_PENDING, delete=(1,)
    ),
    "what must go before the next is made is named": Case(
        (run(deleting=True),),
        (RUNNING._replace(deleting=True),),
        R.LEARNER_PENDING,
        says="job-learner-1, p must go before the next is made",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_learner_runs(case: Case) -> None:
    found: LearnerPlan = plan(
        wanted=case.wanted,
        hash_="new",
        last_number=case.last,
        runs=case.runs,
        pods=case.pods,
        ranks=case.ranks,
        doubted=case.doubted,
        heard=case.heard,
        undemonstrated=case.undemonstrated,
        now=1010.0,
    )
    ended = tuple(one.number for one in found.delete)
    assert (found.create, ended, found.finding.reason) == (case.create, case.delete, case.reason)
    assert not (found.create and found.delete)
    assert found.number == case.number
    assert len(found.orphans) == case.orphans
    assert (found.refuse is not None) == case.refuse
    assert case.says in found.finding.message
    assert found.complete is case.complete
