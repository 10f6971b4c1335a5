"""What heartbeats become on the operator's endpoint."""

from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry

from fleet_contract import metrics as m
from fleet_contract.messages import (
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    PolicyRef,
    RobotState,
    TaskTally,
    digest_of,
)
from fleet_operator.bus import Bus
from fleet_operator.decide.bounded import MOST
from fleet_operator.feed import Feed
from fleet_operator.metrics import Fleet
from fleet_operator.subscription import Enrolled, Subscription
from fleet_operator.told import by_job

NOW, LOST_AFTER, EPOCH = 100.0, 20.0, 1_000_000.0


def line(**robots: Enrolled) -> Subscription:
    made = Subscription("job", Bus("nats://nowhere"), Feed("uid"))
    made.robots, made.tasks = robots, frozenset({"push"})
    return made


def hear(on: Subscription, robot: str, at: float = NOW, uid: str = "u", **says: Any) -> None:
    beat = Heartbeat(
        robot=robot, robot_uid=uid, job_uid="uid", state=RobotState.RUNNING, at=0.0, **says
    )
    on.feed.heartbeat(f"fleet.ns.{robot}.job.hb", beat.encode(), at)


def figures(on: Subscription) -> dict[tuple[str, ...], float]:
    """(family, label values …) → value, as a scrape would have them; without who it is about."""
    registry = CollectorRegistry()
    told = list(by_job("ns", on, heard_since=NOW - LOST_AFTER, epoch=EPOCH))
    registry.register(Fleet(lambda: told))
    samples = (sample for family in registry.collect() for sample in family.samples)
    known = {family.name: family for family in m.FAMILIES}
    whose = {"namespace": "ns", "job": "job"}
    found = {}
    for name, labels, value, *_ in samples:
        assert labels.items() >= whose.items()
        more = (labels[label] for label in known[name].labels if label not in whose)
        found[name, *more] = value
    return found


def names_of(found: Iterable[tuple[str, ...]]) -> set[str]:
    return {key[0] for key in found}


PRESENCE = {m.ROBOT_CONNECTED.name, m.ROBOT_SUSPENDED.name, m.ROBOT_LAST_SEEN.name}


def test_a_robot_is_served_as_it_told() -> None:
    seen = line(arm=Enrolled("u", None), leg=Enrolled("u", None))
    tally = TaskTally(outcomes={"success": 3}, successes=2, failures=1, scheduled=1, human_steps=9)
    hear(seen, "arm", tasks={"push": tally}, guard_trips=4, sent={"experience": 7})
    good = PolicyRef(sequence=6, digest=digest_of(b"6"), uri="v/6")
    hear(seen, "leg", fallbacks=1, probation=True, good=good)
    found = figures(seen)
    assert found[m.ROBOT_CONNECTED.name, "arm"] == 1
    assert found[m.ROBOT_LAST_SEEN.name, "arm"] == EPOCH + NOW
    assert found[m.ROBOT_STATE.name, "arm", "running"] == 1
    assert found[m.ROBOT_STATE.name, "arm", "paused"] == 0
    assert found[m.ROBOT_EPISODES.name, "arm", "push", "success"] == 3
    assert found[m.ROBOT_EPISODES.name, "arm", "push", "failure"] == 0
    assert found[m.ROBOT_JUDGED.name, "arm", "push", "failure"] == 1
    assert found[m.ROBOT_INTERVENTIONS.name, "arm", "push", "scheduled"] == 1
    assert found[m.ROBOT_STEPS.name, "arm", "push", "human"] == 9
    assert found[m.GUARD_TRIPS.name, "arm"] == 4
    assert found[m.ROBOT_BYTES.name, "arm", "sent", "experience"] == 7
    for family, arm, leg in (
        (m.FALLBACKS, 0, 1),
        (m.ROBOT_PROBATION, 0, 1),
        (m.ROBOT_GOOD, None, 6),
    ):
        assert (found.get((family.name, "arm")), found[family.name, "leg"]) == (arm, leg)


def test_counters_of_an_agent_that_started_anew_are_served_as_they_are() -> None:
    seen = line(arm=Enrolled("u", None))
    for trips in (4, 1):
        hear(seen, "arm", guard_trips=trips)
    assert figures(seen)[m.GUARD_TRIPS.name, "arm"] == 1


def test_of_a_silent_robot_only_its_absence_remains() -> None:
    seen = line(arm=Enrolled("u", None))
    hear(seen, "arm", at=NOW - LOST_AFTER - 1)
    assert figures(seen) == {
        (m.ROBOT_CONNECTED.name, "arm"): 0,
        (m.ROBOT_SUSPENDED.name, "arm"): 0,
        (m.ROBOT_LAST_SEEN.name, "arm"): EPOCH + NOW - LOST_AFTER - 1,
    }


def test_a_robot_never_heard_of_was_last_seen_when_its_status_says() -> None:
    seen = line(arm=Enrolled("u", 5.0), new=Enrolled("v", None, suspended=True))
    assert figures(seen) == {
        (m.ROBOT_CONNECTED.name, "arm"): 0,
        (m.ROBOT_SUSPENDED.name, "arm"): 0,
        (m.ROBOT_LAST_SEEN.name, "arm"): 5,
        (m.ROBOT_CONNECTED.name, "new"): 0,
        (m.ROBOT_SUSPENDED.name, "new"): 1,
    }


def test_a_namesake_that_is_gone_and_a_robot_nobody_enrolled_tell_nothing() -> None:
    seen = line(arm=Enrolled("u", None))
    hear(seen, "arm", uid="an earlier one")
    hear(seen, "stranger")
    assert names_of(figures(seen)) == PRESENCE - {m.ROBOT_LAST_SEEN.name}


def test_words_and_numbers_of_a_strangers_making_do_no_harm() -> None:
    seen = line(arm=Enrolled("u", None))
    hear(seen, "arm")
    modest = figures(seen).keys()
    wild = {f"w{i}": TaskTally() for i in range(100)}
    hear(
        seen,
        "arm",
        guard_trips=10**400,
        refusals=-(10**400),
        tasks=wild,
        sent={"gossip": 1},
        records={"eaten": 1},
    )
    found = figures(seen)
    assert found.keys() == modest
    assert found[m.GUARD_TRIPS.name, "arm"] == MOST
    assert found[m.ROBOT_REFUSALS.name, "arm"] == 0


def test_a_learner_is_served_as_it_told_and_only_its_absence_when_it_is_silent() -> None:
    seen = line()
    assert figures(seen) == {}
    beat = LearnerHeartbeat(job_uid="uid", epoch=2, stage=LearnerStage.ONLINE, step=30, at=0.0)
    seen.feed.learner_beat(beat.encode(), NOW)
    found = figures(seen)
    assert found[m.LEARNER_CONNECTED.name,] == 1
    assert found[m.LEARNER_STEPS.name,] == 30
    assert found[m.LEARNER_STAGE.name, "online"] == 1
    seen.feed.learner_at = NOW - LOST_AFTER - 1
    assert names_of(figures(seen)) == {m.LEARNER_CONNECTED.name, m.LEARNER_LAST_SEEN.name}
    assert figures(seen)[m.LEARNER_CONNECTED.name,] == 0
