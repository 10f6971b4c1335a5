"""The robot's side of learning: attempts, takeovers, demonstrations, evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fleet_contract.messages import TaskTally
from fleet_runtime.experience import codec
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.env import Robot, Scripted
from fleet_runtime.robot.episode import EpisodeRun, Stamp, finish, run_episode
from fleet_runtime.robot.evaluate import evaluate, mean_rate
from fleet_runtime.robot.human import Control, Gate, GateSettings, ScriptedHuman
from fleet_runtime.robot.metaworld import EVALUATION_SEED, MetaWorld
from fleet_runtime.robot.reports import tallied
from learning.makers import SPACES, TASKS, Constant, Line, Scheduled, episode, frames

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Outcome

STAMP = Stamp(id="e", robot="r", policy_digest="sha256:1", policy_sequence=7)
ROUNDS = 400


def controls(settings: GateSettings, rewards: list[float], seed: int = 0) -> str:
    """A picture of who decides each step, given the reward each step earned."""
    gate = Gate(settings, np.random.default_rng(seed))
    letters = {Control.POLICY: ".", Control.SCHEDULED: "s", Control.CAUSED: "h"}
    return "".join(
        letters[gate.control(step, rewards[step - 1] if step else 0.0)]
        for step in range(len(rewards))
    )


NEVER_DUE = GateSettings(
    scheduled_fraction=0, stall_steps=4, stall_rise=0.05, caused_steps=3, takeovers=4
)


@pytest.mark.parametrize(
    ("rewards", "picture"),
    [
        pytest.param([1.0] * 10, ".....hhh..", id="no headway is a stall, then control returns"),
        pytest.param([1.1**n for n in range(10)], "..........", id="steady headway is left alone"),
        pytest.param([1.01**n for n in range(8)], ".....hhh", id="too slow is no headway"),
        pytest.param([0.0] * 8, ".....hhh", id="a reward of nothing is no headway"),
        pytest.param([-2.0, -1.8, -1.6, -1.4, -1.2, -1.0, -0.8], ".......", id="below zero too"),
        pytest.param([1.0] * 34, ".....hhh....hhh....hhh....hhhhhhhh", id="the fourth one stays"),
    ],
)
def test_the_human_takes_over_where_there_is_no_headway(rewards: list[float], picture: str) -> None:
    assert controls(NEVER_DUE, rewards) == picture


def test_scheduled_takeovers_come_as_often_as_early_and_as_long_as_set() -> None:
    settings = GateSettings(stall_steps=10_000)
    pictures = [controls(settings, [1.0] * 100, seed) for seed in range(ROUNDS)]
    taken = [picture for picture in pictures if "s" in picture]
    assert 0.4 < len(taken) / ROUNDS < 0.6
    assert {"h"} & set("".join(pictures)) == set()
    starts, lengths = [p.index("s") for p in taken], [p.count("s") for p in taken]
    assert (min(starts), max(starts)) == (0, 49)
    assert (min(lengths), max(lengths)) == (15, 35)


def run(robot: Line, human: object = None, **changes: object) -> EpisodeRun:
    settings = {"stamp": STAMP, "execute": 3, "human": human} | changes
    return EpisodeRun(robot, "right", **settings)  # type: ignore[arg-type]


def drive(attempt: EpisodeRun, policy: Constant, ticks: int = 1000) -> None:
    for _ in range(ticks):
        if attempt.done:
            return
        if (seen := attempt.wanted) is not None:
            attempt.give(policy.act(seen[None], None)[0])
        attempt.tick()


def test_a_takeover_flushes_what_the_policy_had_planned() -> None:
    robot, policy = Line(), Constant()
    attempt = run(robot, Scheduled([4, 5]))
    drive(attempt, policy, 10)
    expected = [0.01, 0.02, 0.03, 0.01, -0.5, -0.5, 0.01, 0.02, 0.03, 0.01]
    assert robot.executed == pytest.approx(expected)
    assert policy.calls == 4


def test_an_attempt_records_who_acted_and_where_in_the_chunk() -> None:
    attempt = run(Line(), Scheduled([1], Control.SCHEDULED))
    drive(attempt, Constant(), 5)
    attempt.abort("test")
    made = attempt.episode().validate(observation_size=2, action_size=1, tasks=TASKS)
    assert made.chunk_index.tolist() == [0, -1, 0, 1, 2]
    assert made.intervention.tolist() == [False, True, False, False, False]
    assert made.scheduled.tolist() == made.intervention.tolist()
    assert made.policy_action[:, 0].tolist() == pytest.approx([0.01, -0.5, 0.01, 0.02, 0.03])
    assert (made.policy_sequence, made.outcome, made.truncated) == (7, "aborted", True)
    assert codec.decode(codec.encode(made)).outcome_source == "test"


def test_the_guard_stands_between_policy_and_robot() -> None:
    robot = Line()
    attempt = run(robot, guard=lambda action: action * 0 + 0.25)
    drive(attempt, Constant(), 2)
    attempt.abort("test")
    assert robot.executed == [0.25, 0.25]
    assert attempt.episode().action[:, 0].tolist() == [0.25, 0.25]
    assert attempt.episode().policy_action[:, 0].tolist() == pytest.approx([0.01, 0.02])


def test_running_out_of_steps_is_a_timeout() -> None:
    attempt = run(Line(), horizon=5)
    drive(attempt, Constant())
    made = attempt.episode()
    assert (len(made), made.outcome, made.terminated, made.truncated) == (5, "timeout", False, True)


def test_a_fault_aborts_with_the_robots_own_words() -> None:
    robot = Line()
    robot.fault = "joint 3 hot"
    attempt = run(robot)
    drive(attempt, Constant())
    made = attempt.episode()
    assert (made.outcome, made.outcome_source, made.judged) == ("aborted", "joint 3 hot", None)


def test_an_attempt_without_a_step_is_no_episode() -> None:
    attempt = run(Line())
    attempt.abort("changed my mind")
    with pytest.raises(ValueError, match="no step"):
        attempt.episode()


def test_a_tick_without_a_chunk_is_refused() -> None:
    with pytest.raises(RuntimeError, match="chunk is wanted"):
        run(Line()).tick()


def test_the_generator_yields_every_step_and_can_be_aborted() -> None:
    running = run_episode(Line(), Constant(), "left", stamp=STAMP)  # type: ignore[arg-type]
    for _ in range(7):
        attempt = next(running)
    attempt.abort("operator")
    made = finish(running)
    assert (len(made), made.outcome_source) == (7, "operator")


def test_demonstrations_are_successes_a_human_did_alone() -> None:
    robot = Line()
    made = record(robot, ScriptedHuman(robot.expert, GateSettings(noise=0.2)), TASKS, 3, seed=4)
    assert [one.task for one in made] == ["left"] * 3 + ["right"] * 3
    assert all(one.success and one.intervention.all() and one.judged is None for one in made)
    assert len({one.id for one in made}) == 6
    again = record(robot, ScriptedHuman(robot.expert, GateSettings(noise=0.2)), TASKS, 3, seed=4)
    assert all(np.array_equal(a.action, b.action) for a, b in zip(made, again, strict=True))


class Expert(Constant):
    """The line's expert as a policy."""

    def act(self, observation: np.ndarray, task: object) -> np.ndarray:
        move = np.clip(3 * (observation[:, 1:] - observation[:, :1]), -1, 1)
        return np.repeat(move[:, None], 4, axis=1)


@pytest.mark.parametrize("lanes", [1, 2, 3, 5])
def test_an_evaluation_counts_the_same_on_any_number_of_robots(lanes: int) -> None:
    found = evaluate(Expert(), [Line() for _ in range(lanes)], TASKS, 7, seed=100)  # type: ignore[arg-type]
    assert {task: (s.episodes, s.successes) for task, s in found.items()} == {
        "left": (7, 7),
        "right": (7, 7),
    }
    assert mean_rate(found) == 1.0
    still = evaluate(Constant(), [Line()], ["left"], 3, seed=100)  # type: ignore[arg-type]
    assert still["left"].rate == 0.0


def test_a_policy_for_another_robot_is_refused_with_the_reason() -> None:
    assert Line.spec.mismatch(SPACES) is None
    other = SPACES.model_copy(update={"observation_size": 3})
    assert Line.spec.mismatch(other) == "observation size: the robot has 2, the policy 3"


def test_metaworld_starts_follow_from_their_seed_and_show_the_goal() -> None:
    robot = MetaWorld(["reach"], seed=0)
    assert isinstance(robot, Robot)
    assert isinstance(robot, Scripted)
    starts = []
    for seed in (3, EVALUATION_SEED, 3):
        robot.reset("reach", seed)
        starts.append(robot.observe().value)
    assert np.array_equal(starts[0], starts[2])
    assert not np.array_equal(starts[0][-3:], starts[1][-3:])
    assert robot.spec.observation_size == starts[0].size == 39
    robot.close()


def test_metaworlds_expert_does_its_task() -> None:
    robot = MetaWorld(["reach"])
    made = record(robot, ScriptedHuman(robot.expert, GateSettings()), ["reach"], 1)
    assert made[0].success
    assert made[0].validate(observation_size=39, action_size=4).terminated


def test_a_task_may_also_go_by_meta_worlds_full_name() -> None:
    robot = MetaWorld(["reach-v3"])
    robot.reset("reach-v3", seed=1)
    assert robot.observe().value.shape == (robot.spec.observation_size,)
    robot.close()


def test_metaworld_refuses_a_task_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="there is no 'fly'; there are assembly"):
        MetaWorld(["fly"])
    with pytest.raises(ValueError, match="none of"):
        MetaWorld(["reach"]).reset("push")


@pytest.mark.parametrize(
    ("picture", "outcome", "counted"),
    [
        pytest.param("....", "success", {"successes": 1, "policy_steps": 4}, id="alone"),
        pytest.param("....", "timeout", {"failures": 1, "policy_steps": 4}, id="alone, in vain"),
        pytest.param("....", "aborted", {"policy_steps": 4}, id="aborted is nobody's fault"),
        pytest.param(
            ".ss.",
            "success",
            {"scheduled": 1, "policy_steps": 2, "human_steps": 2},
            id="a takeover that was due is neutral",
        ),
        pytest.param(
            "h.hs",
            "success",
            {"failures": 1, "needed": 2, "policy_steps": 1, "human_steps": 3},
            id="a takeover begins where the human was not in control before",
        ),
    ],
)
def test_an_episode_is_counted(picture: str, outcome: Outcome, counted: dict[str, int]) -> None:
    once = tallied(TaskTally(), episode(outcome=outcome, **frames(picture)))
    assert once == TaskTally(outcomes={outcome: 1}, **counted)
    twice = tallied(once, episode(**frames("..")))
    assert twice.policy_steps == once.policy_steps + 2
    assert sum(twice.outcomes.values()) == 2
