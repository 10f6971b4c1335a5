"""Verdicts, and the sentences that carry them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract.messages import Event, EventKind, Outcome, PolicyRef, digest_of
from fleet_contract.names import Reason
from fleet_contract.resources import Analysis, Step
from fleet_operator.decide.analysis import Evidence, Fold, Scope, Verdict, gather, judge
from fleet_operator.decide.evidence import Task
from fleet_operator.decide.sequential import Compared, Tally

STEP = Step(robots=1, min_episodes=10, soak="60s")
V = Verdict


def of(name: str, episodes: int, won: int, stable: Tally, *history: Tally) -> Evidence:
    seen = Compared(Tally(episodes, won), stable, *history)
    return Evidence(episodes, won, tasks=(Task(name, seen),))


def helped(candidate: Tally, stable: Tally) -> Evidence:
    """Episodes that needed nobody, of all."""
    alone = Compared(candidate, stable)
    return Evidence(20, 20, tasks=(Task("push", Compared(Tally(20, 20)), alone),))


GOOD = Evidence(20, 19)
CASES: dict[str, tuple[dict[str, Any], Evidence, float, Verdict, Reason, str]] = {
    "clearly worse than the stable version beside it": (
        {},
        of("push", 20, 12, Tally(60, 59)),
        0,
        V.FAIL,
        Reason.WORSE_THAN_STABLE,
        "push: 12 of 20 against 59 of 60 on the stable version",
    ),
    "clearly worse than the stable version was": (
        {},
        of("push", 9, 4, Tally(3, 3), Tally(400, 380)),
        0,
        V.FAIL,
        Reason.WORSE_THAN_STABLE,
        (
            "push: 4 of 9 against 3 of 3 on the stable version and 380 of 400 on the stable "
            "version before the trial"
        ),
    ),
    "a little worse, which may be chance": (
        {},
        of("push", 20, 17, Tally(20, 19)),
        60,
        V.PASS,
        Reason.CANARY_PASSED,
        "17 of 20 judged episodes succeeded",
    ),
    "as bad as the stable version, which the floor does not excuse": (
        {"min_success_rate": 0.7},
        of("push", 100, 40, Tally(100, 40)),
        60,
        V.FAIL,
        Reason.SUCCESS_BELOW_THRESHOLD,
        "40 of 100 judged episodes succeeded, the floor is 70%",
    ),
    "not compared where no drop is named": (
        {"success_drop": 0.0},
        of("push", 20, 12, Tally(60, 59)),
        60,
        V.PASS,
        Reason.CANARY_PASSED,
        "12 of 20 judged episodes succeeded",
    ),
    "too few episodes": (
        {},
        Evidence(9, 9),
        60,
        V.WAIT,
        Reason.AWAITING_EPISODES,
        "9 of 9 judged episodes succeeded; awaits 10 episodes and 60s of soak",
    ),
    "under the floor, which may be chance": (
        {},
        Evidence(10, 4),
        60,
        V.DOUBT,
        Reason.AWAITING_EPISODES,
        (
            "4 of 10 judged episodes succeeded, the floor is 50%: that may be chance; awaits more "
            "episodes"
        ),
    ),
    "silence is not health": (
        {},
        GOOD._replace(silence=601.0),
        60,
        V.FREEZE,
        Reason.TELEMETRY_MISSING,
        "no episode of its robots ended for 601 s",
    ),
    "a bound on what nobody tells": (
        {"max_inference_latency": "50ms"},
        GOOD,
        60,
        V.FREEZE,
        Reason.TELEMETRY_MISSING,
        "maxInferenceLatency is set, but its robots tell no inference latency",
    ),
    "inference that is late in every episode": (
        {"max_inference_latency": "50ms"},
        GOOD._replace(latencies=(0.2,) * 8),
        0,
        V.FAIL,
        Reason.INFERENCE_TOO_SLOW,
        "8 of 8 episodes had an inference of more than 50ms",
    ),
    "inference that was late once": (
        {"max_inference_latency": "50ms"},
        GOOD._replace(latencies=(0.2, *(0.01,) * 19)),
        60,
        V.PASS,
        Reason.CANARY_PASSED,
        "19 of 20 judged episodes succeeded",
    ),
    "successes that take too long": (
        {"max_cycle_time": "5s"},
        GOOD._replace(cycles=(9.0,) * 8),
        0,
        V.FAIL,
        Reason.CYCLE_TOO_LONG,
        "8 of 8 successes took more than 5s",
    ),
    "too much help": (
        {"max_intervention_rate": 0.1},
        Evidence(20, 10, needed=10),
        0,
        V.FAIL,
        Reason.TOO_MANY_INTERVENTIONS,
        "a person had to step in in 10 of 20 episodes, 10% may be",
    ),
    "more help than the stable version needs meanwhile": (
        {"intervention_rise": 0.2, "success_drop": 0.0},
        helped(Tally(20, 9), Tally(60, 58)),
        0,
        V.FAIL,
        Reason.TOO_MANY_INTERVENTIONS,
        (
            "a person had to step in in 11 of 20 episodes, against 2 of 60 on the stable version "
            "meanwhile"
        ),
    ),
    "as much help as everybody needs": (
        {"intervention_rise": 0.2, "success_drop": 0.0},
        helped(Tally(20, 9), Tally(60, 28)),
        60,
        V.PASS,
        Reason.CANARY_PASSED,
        "20 of 20 judged episodes succeeded",
    ),
    "more help, where nobody asked for that comparison": (
        {"success_drop": 0.0},
        helped(Tally(20, 9), Tally(60, 58)),
        60,
        V.PASS,
        Reason.CANARY_PASSED,
        "20 of 20 judged episodes succeeded",
    ),
    "one guard trip": (
        {},
        GOOD._replace(guard_trips=1),
        60,
        V.FAIL,
        Reason.GUARD_TRIPPED,
        "1 guard trips in its trial",
    ),
    "a robot that stopped it because of guard trips": (
        {},
        GOOD._replace(guard_trips=1, refusal="robot r1 would not take it: taken back"),
        60,
        V.FAIL,
        Reason.GUARD_TRIPPED,
        "1 guard trips in its trial",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_verdict(case: tuple[dict[str, Any], Evidence, float, Verdict, Reason, str]) -> None:
    fields, evidence, elapsed, *wanted = case
    assert list(judge(STEP, Analysis(**fields), evidence, elapsed)) == wanted


ORDER = [V.FAIL, V.DOUBT, V.WAIT, V.PASS]
tallies = st.tuples(st.integers(0, 40), st.floats(0, 1)).map(
    lambda drawn: Tally(drawn[0], round(drawn[0] * drawn[1]))
)


@given(tallies, tallies, tallies)
def test_one_more_failure_never_makes_the_verdict_better(
    candidate: Tally, stable: Tally, history: Tally
) -> None:
    def verdict(episodes: int, won: int) -> Verdict:
        return judge(STEP, Analysis(), of("push", episodes, won, stable, history), 60).verdict

    episodes, won = candidate
    before = verdict(episodes, won)
    if before is V.FAIL:
        assert verdict(episodes + 1, won) is V.FAIL
    if won:
        assert ORDER.index(verdict(episodes, won - 1)) <= ORDER.index(before)


# --- folding ------------------------------------------------------------------------------

DIGESTS = {version: digest_of(version.encode()) for version in ("new", "stable", "older")}
SCOPE = Scope(DIGESTS["new"], frozenset({"r1"}), start=20, trial=10, stable=DIGESTS["stable"])


def event(version: str, episode: str, robot: str = "r1", **fields: Any) -> Event:
    base = {"judged": True, "task": "push", "outcome": Outcome.SUCCESS}
    return Event(
        kind=EventKind.OUTCOME,
        robot=robot,
        robot_uid="u",
        job_uid="uid",
        episode_id=episode,
        policy=PolicyRef(sequence=1, digest=DIGESTS[version], uri="u"),
        at=0.0,
        **(base | fields),
    )


TOLD = [
    (1, event("stable", "s1", "r2")),
    (2, event("stable", "s2", "r1", judged=False)),
    (3, event("older", "o1", "r2")),
    (4, event("new", "early", "r1")),
    (11, event("new", "n1", latency=0.1, duration=4.0)),
    (12, event("stable", "s3", "r2")),
    (13, event("stable", "s3", "r2")),
    (14, event("new", "n2", judged=False, human_frames=5)),
    (15, event("new", "n3", judged=None, human_frames=5, outcome=Outcome.ABORTED)),
    (16, event("new", "pinned", "r9")),
    (21, event("new", "n4", task="pull", duration=6.0)),
    (22, event("stable", "s1", "r2", judged=False)),
    (23, event("new", "n1", judged=False, latency=0.1)),
]


def test_the_trial_is_judged_by_task_against_what_is_beside_it_and_what_was_before() -> None:
    found = gather(TOLD, SCOPE)
    assert found.tasks == (
        Task("pull", Compared(Tally(1, 1)), Compared(Tally(1, 1))),
        Task(
            "push",
            Compared(Tally(2, 0), Tally(1, 1), Tally(2, 0)),
            Compared(Tally(2, 1), Tally(1, 1)),
        ),
    )
    assert (found.episodes, found.successes) == (1, 1)  # of this stage
    assert (found.needed, found.latencies, found.cycles) == (1, (0.1,), (6.0,))


def test_help_that_the_stable_version_needs_counts_since_the_trial_began_and_as_last_told() -> None:
    needed = {"judged": False, "human_frames": 5}
    told = [
        (1, event("stable", "before", "r2", **needed)),
        (11, event("stable", "s1", "r2", **needed)),
        (12, event("stable", "s2", "r2", **needed)),
        (13, event("stable", "s2", "r2", human_frames=5)),  # it was due, after all
        (14, event("stable", "s3", "r2")),
    ]
    (task,) = gather(told, SCOPE).tasks
    assert task.alone == Compared(Tally(), Tally(3, 2))


@given(st.integers(0, len(TOLD)))
def test_folding_on_is_folding_at_once(cut: int) -> None:
    fold = Fold(SCOPE).extend(TOLD[:cut])
    fold.evidence()
    assert fold.extend(TOLD[cut:]).evidence() == gather(TOLD, SCOPE)
