"""What robots and learner said, folded."""

from typing import Any

from fleet_contract.messages import (
    Event,
    EventKind,
    Fallback,
    Heartbeat,
    LearnerHeartbeat,
    LearnerStage,
    Outcome,
    PolicyRef,
    RobotState,
    digest_of,
)
from fleet_operator.decide.analysis import Evidence, Scope, gather
from fleet_operator.feed import Feed, News

DIGEST = digest_of(b"2")
POLICY = PolicyRef(sequence=2, digest=DIGEST, uri="u")


def told(feed: Feed, sequence: int, robot: str = "r", sender: str = "", **fields: Any) -> bool:
    base: dict[str, Any] = {
        "kind": EventKind.OUTCOME,
        "robot": robot,
        "robot_uid": "u",
        "job_uid": "uid",
        "policy": POLICY,
        "task": "reach",
        "outcome": Outcome.SUCCESS,
        "at": 0.0,
    }
    event = Event(**(base | fields))
    return feed.event(sequence, f"fleet.ns.{sender or robot}.job.evt", event.encode(), 0.0)


def beat(feed: Feed, robot: str = "r", uid: str = "u", enrolled: str = "", **more: Any) -> News:
    made = Heartbeat(
        robot=robot, robot_uid=uid, job_uid="uid", state=RobotState.RUNNING, at=0.0, **more
    )
    return feed.heartbeat(f"fleet.ns.{robot}.job.hb", made.encode(), 1.0, enrolled)


def evidence(feed: Feed, start: int = 1, robots: str = "r") -> Evidence:
    return gather(feed.events, Scope(DIGEST, frozenset(robots), start, start))._replace(tasks=())


def test_an_episode_counts_once_however_often_it_is_told() -> None:
    feed = Feed("uid")
    for sequence in range(1, 4):
        told(feed, sequence, episode_id="e", judged=True)
    assert evidence(feed) == Evidence(1, 1, cycles=(0.0,))
    assert feed.windows({"reach"}, 10) == {"reach": (1, 1)}
    assert feed.rates("r") == (1.0, 0.0)


def test_the_last_word_on_an_episode_counts() -> None:
    feed = Feed("uid")
    told(feed, 1, episode_id="e", judged=True)
    told(feed, 2, episode_id="e", judged=False)
    told(feed, 3, episode_id="f", judged=True)
    told(feed, 4, episode_id="f", judged=None)
    assert evidence(feed) == Evidence(1, 0)
    assert feed.windows({"reach"}, 10) == {"reach": (1, 0)}


def test_messages_that_come_again_after_a_reconnect_are_not_kept_twice() -> None:
    feed = Feed("uid")
    assert told(feed, 1, episode_id="e", judged=True)
    assert not told(feed, 1, episode_id="e", judged=True)
    assert len(feed.events) == 1


def test_a_robot_cannot_speak_for_another_nor_for_another_job() -> None:
    feed = Feed("uid")
    assert not told(feed, 1, robot="r", sender="thief", episode_id="e", judged=False)
    assert not told(feed, 2, episode_id="e", judged=False, job_uid="old")
    assert evidence(feed) == Evidence()
    beat = Heartbeat(robot="r", robot_uid="u", job_uid="uid", state=RobotState.RUNNING, at=0)
    assert feed.heartbeat("fleet.ns.thief.job.hb", beat.encode(), 1.0) is News.NONE
    assert not feed.connected("r", "u", 0.0)


def test_only_the_stage_the_cohort_and_the_candidate_count() -> None:
    feed = Feed("uid")
    told(feed, 1, episode_id="before", judged=True)
    told(feed, 2, episode_id="ours", judged=True, human_frames=3)
    told(feed, 3, robot="s", episode_id="other robot", judged=True)
    old = PolicyRef(sequence=1, digest=digest_of(b"1"), uri="u")
    told(feed, 4, episode_id="other version", judged=True, policy=old)
    told(feed, 5, kind=EventKind.GUARD, episode_id="ours")
    assert evidence(feed, start=2) == Evidence(1, 1, 1, 1, cycles=(0.0,))


def test_garbage_moves_the_position_and_nothing_else() -> None:
    feed = Feed("uid")
    assert not feed.event(7, "fleet.ns.r.job.evt", b"\xff{", 0.0)
    assert feed.last_event == 7
    assert not feed.announced(b"garbage")
    assert not feed.learner_beat(b"garbage", 0.0)


def test_a_window_is_the_latest_episodes_of_each_task() -> None:
    feed = Feed("uid")
    for sequence in range(1, 11):
        told(feed, sequence, episode_id=f"e{sequence}", judged=sequence > 5)
    assert feed.windows({"reach", "push"}, 5) == {"reach": (5, 5), "push": (0, 0)}


def test_a_robot_made_anew_under_its_name_is_another() -> None:
    feed = Feed("uid")
    beat = Heartbeat(robot="r", robot_uid="u", job_uid="uid", state=RobotState.RUNNING, at=0)
    assert feed.heartbeat("fleet.ns.r.job.hb", beat.encode(), 1.0) is News.MEANING
    assert feed.heartbeat("fleet.ns.r.job.hb", beat.encode(), 2.0) is News.NONE
    assert feed.connected("r", "u", 1.5)
    assert not feed.connected("r", "another", 1.5)
    assert not feed.connected("r", "u", 2.5)


def test_a_heartbeat_tells_what_a_fleet_does_at_once_from_what_nobody_foresaw() -> None:
    feed = Feed("uid")

    def heard(**fields: Any) -> News:
        base = {"robot": "r", "robot_uid": "u", "job_uid": "uid", "state": RobotState.RUNNING}
        beat = Heartbeat(**base, at=0.0, **fields)
        return feed.heartbeat("fleet.ns.r.job.hb", beat.encode(), 1.0)

    newer = POLICY.model_copy(update={"digest": digest_of(b"3")})
    assert heard() is News.MEANING
    assert heard(episodes=1) is News.NONE
    assert heard(active=POLICY) is News.MEANING  # its first one
    assert heard(active=POLICY, assignment_epoch=2) is News.FOLLOWED
    assert heard(active=POLICY, assignment_epoch=2, pending=newer) is News.FOLLOWED
    assert heard(active=newer, assignment_epoch=2) is News.FOLLOWED
    assert heard(active=newer, assignment_epoch=2, policy_fault="no room") is News.MEANING
    assert heard(active=newer, assignment_epoch=2, spool_fault="no room") is News.MEANING


def test_a_refused_policy_is_remembered_by_its_robot_and_counts_against_it() -> None:
    feed = Feed("uid")
    assert told(feed, 1, kind=EventKind.REFUSAL, detail="bundle lacks weights", outcome=None)
    assert feed.refused == {"r": (DIGEST, "bundle lacks weights")}
    assert evidence(feed).refusal == "robot r would not take it: bundle lacks weights"
    assert evidence(feed, robots="s").refusal == ""
    assert not told(feed, 2, kind=EventKind.REFUSAL, policy=None, detail="an older document")


def test_which_tasks_lack_a_demonstration_is_news_once() -> None:
    feed = Feed("uid")

    def beat(*tasks: str) -> bool:
        stage = LearnerStage.OFFLINE
        said = LearnerHeartbeat(
            job_uid="uid", epoch=1, stage=stage, step=0, undemonstrated=[*tasks], at=0.0
        )
        return feed.learner_beat(said.encode(), 1.0)

    assert [beat(), beat("push"), beat("push"), beat()] == [True, True, False, True]


def test_what_the_learner_waits_for_is_heard_before_it_has_an_epoch_and_while_it_says_so() -> None:
    feed = Feed("uid")

    def beat(epoch: int, fault: str, now: float) -> bool:
        stage = LearnerStage.STARTING
        said = LearnerHeartbeat(
            job_uid="uid", epoch=epoch, stage=stage, step=0, fault=fault, at=0.0
        )
        return feed.learner_beat(said.encode(), now)

    assert beat(3, "", 1.0)
    assert beat(0, "no bucket", 2.0)
    assert not beat(0, "no bucket", 3.0)
    assert feed.learner_fault(since=2.5) == "no bucket"
    assert feed.learner is not None
    assert feed.learner.epoch == 3
    assert feed.learner_fault(since=4.0) == ""  # it fell silent
    assert not beat(2, "a zombie's", 5.0)
    assert beat(4, "", 6.0)
    assert feed.learner_fault(since=5.0) == ""


def test_an_agent_whose_robot_was_enrolled_anew_does_not_speak_for_it() -> None:
    feed = Feed("uid")
    assert beat(feed, uid="old", enrolled="new") is News.MEANING  # nobody else was heard
    assert beat(feed, uid="new", enrolled="new") is News.MEANING
    for _ in range(3):
        assert beat(feed, uid="old", enrolled="new") is News.NONE
        assert feed.connected("r", "new", since=0.0)
        assert beat(feed, uid="new", enrolled="new") is News.NONE


def test_of_a_robot_that_went_nothing_is_known() -> None:
    feed = Feed("uid")
    for sequence, robot in enumerate(("here", "gone"), 1):
        beat(feed, robot)
        told(feed, sequence, robot, kind=EventKind.REFUSAL)
        told(feed, sequence + 2, robot, judged=True)
    feed.only({"here", "new"})
    assert feed.heard.keys() == {"here"}
    assert feed.ended.keys() == {"here"}
    assert feed.refused.keys() == {"here"}
    assert (feed.rates("here"), feed.rates("gone")) == ((1.0, 0.0), (None, None))


def test_no_figure_and_no_sentence_is_too_great_for_a_status() -> None:
    feed, endless = Feed("uid"), "no " * 100_000
    beat(
        feed,
        episodes=10**400,
        spool_depth=-(10**400),
        guard_trips=7,
        spool_fault=endless,
        active=POLICY.model_copy(update={"sequence": 2**80}),
        fallback=Fallback(policy=POLICY, why=endless),
    )
    said = feed.heard["r"].beat
    assert (said.episodes, said.spool_depth, said.guard_trips) == (2**53, 0, 7)
    assert said.active is not None
    assert said.active.sequence == 2**53
    assert said.fallback is not None
    assert len(said.fallback.why) == len(said.spool_fault) == 1025
    assert said.spool_fault.endswith("…")
    told(feed, 1, kind=EventKind.REFUSAL, detail=endless)
    assert len(feed.refused["r"][1]) == 1025
