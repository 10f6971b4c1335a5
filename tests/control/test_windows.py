"""Windows by the clock on the wall: open, shut, and through the hours that a summer takes."""

from datetime import UTC, datetime

import pytest

from control.rollouts import NOW, STABLE, THREE, on_trial, version, waiting
from fleet_contract.names import Reason
from fleet_contract.resources import Approval, PolicyPhase, Rollout, RolloutPhase, Step, Window
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.rollout import Observed, decide
from fleet_operator.decide.windows import WindowError, opens_at

P = PolicyPhase


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NIGHTLY = Window(schedule="0 22 * * *", duration="6h")
WEEKDAYS = Window(schedule="30 9 * * 1-5", duration="90m", time_zone="Europe/Berlin")
TIMES = {
    # sentence: (windows, now in UTC, when the next opens; empty: one is open)
    "without windows it is always open": ([], "2027-01-15 08:00", ""),
    "it opens on the second": ([NIGHTLY], "2027-01-15 22:00:00", ""),
    "a second before that it is shut": ([NIGHTLY], "2027-01-15 21:59:59", "2027-01-15 22:00"),
    "it stays open over midnight": ([NIGHTLY], "2027-01-16 03:59:59", ""),
    "it shuts on the second": ([NIGHTLY], "2027-01-16 04:00:00", "2027-01-16 22:00"),
    "another one may be open": ([NIGHTLY, WEEKDAYS], "2027-01-15 08:45", ""),
    "the first to open counts": ([NIGHTLY, WEEKDAYS], "2027-01-15 05:00", "2027-01-15 08:30"),
    "a weekend is passed over": ([WEEKDAYS], "2027-01-15 12:00", "2027-01-18 08:30"),
    "in summer Berlin's morning comes an hour earlier": (
        [WEEKDAYS],
        "2027-07-15 07:29:59",
        "2027-07-15 07:30",
    ),
    "a window longer than its period is always open": (
        [Window(schedule="0 * * * *", duration="2h")],
        "2027-01-15 08:59",
        "",
    ),
    "what falls into the hour that spring skips opens after it": (
        [Window(schedule="30 2 * * *", duration="1h", time_zone="Europe/Berlin")],
        "2027-03-28 00:59",
        "2027-03-28 01:00",
    ),
    "what begins in the hour that autumn repeats is open while it is repeated": (
        [Window(schedule="30 2 * * *", duration="1h", time_zone="Europe/Berlin")],
        "2027-10-31 01:10",
        "",
    ),
    "every half hour is so in both": (
        [Window(schedule="*/30 * * * *", duration="10m", time_zone="Europe/Berlin")],
        "2027-10-31 01:35",
        "",
    ),
    "and shut in between": (
        [Window(schedule="*/30 * * * *", duration="10m", time_zone="Europe/Berlin")],
        "2027-10-31 01:45",
        "2027-10-31 02:00",
    ),
    "a leap day may be years away": (
        [Window(schedule="0 0 29 2 *", duration="24h")],
        "2027-01-15 08:00",
        "2028-02-29 00:00",
    ),
}


@pytest.mark.parametrize("sentence", TIMES)
def test_a_window(sentence: str) -> None:
    windows, now, opens = TIMES[sentence]
    assert opens_at(windows, at(now)) == (at(opens) if opens else None)


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window(schedule="61 * * * *", duration="1h"), r"windows\[1\].*Bad minute"),
        (
            Window(schedule="0 0 30 2 *", duration="1h"),
            r"windows\[1\].*never opens: Bad day-of-month",
        ),
        (
            Window(schedule="0 0 * * *", duration="1h", time_zone="Mars/Olympus"),
            r"windows\[1\].*Mars/Olympus",
        ),
        (Window(schedule="0 0 * * *", duration="1h", time_zone="/etc"), r"windows\[1\].*/etc"),
        (Window(schedule="0 0 * * *", duration="0s"), r"windows\[1\].*its duration is 0s"),
    ],
)
def test_a_window_that_never_opens_is_named(window: Window, words: str) -> None:
    with pytest.raises(WindowError, match=words):
        opens_at([NIGHTLY, window], NOW)


NIGHT = Rollout(steps=[Step(robots=1), Step(robots=2)], windows=[NIGHTLY])
BROKEN = NIGHT.model_copy(update={"windows": [Window(schedule="61 * * * *", duration="1h")]})
PASSED = Evidence(10, 10)
WAITS = {
    "a new version is not taken: a newer one may come": (
        *(NIGHT, STABLE, Observed(version(2), THREE)),
        *(Reason.OUTSIDE_WINDOW, "Version 2 waits until 2027-01-15T22:00:00Z"),
    ),
    "a stage that passed waits": (
        *(NIGHT, on_trial(), Observed(version(2), THREE, PASSED, 10)),
        *(Reason.OUTSIDE_WINDOW, "Version 2 waits until 2027-01-15T22:00:00Z"),
    ),
    "an approved candidate waits": (
        *(NIGHT.model_copy(update={"approval": Approval.ALWAYS}), waiting(approved=True)),
        *(Observed(version(2), THREE), Reason.OUTSIDE_WINDOW, "2027-01-15T22:00:00Z"),
    ),
    "a frozen namespace holds even where no window is named": (
        *(Rollout(), STABLE, Observed(version(2), THREE, freeze="fair week, ask Ana")),
        *(Reason.FLEET_FROZEN, "(fair week, ask Ana); take its annotation fleetloop.dev/freeze"),
    ),
    "a window that means nothing holds, and is named": (
        *(BROKEN, STABLE, Observed(version(2), THREE)),
        *(Reason.WINDOW_INVALID, "correct it"),
    ),
}


@pytest.mark.parametrize("sentence", WAITS)
def test_outside_a_window(sentence: str) -> None:
    spec, state, seen, reason, words = WAITS[sentence]
    decision = decide(spec, state, seen, NOW)
    assert decision.moves == ()
    assert decision.state.rollout.reason == reason
    assert words in decision.state.rollout.message
    assert [note.reason for note in decision.notes] == [reason]


def test_the_candidate_waits_as_such_until_the_window_opens_and_then_begins() -> None:
    before = decide(NIGHT, STABLE, Observed(version(2), THREE), NOW)
    assert before.state.rollout.phase is RolloutPhase.WAITING
    assert before.state.rollout.opens_at == "2027-01-15T22:00:00Z"
    later = decide(NIGHT, before.state, Observed(version(5), THREE), at("2027-01-15 22:00"))
    assert [(m.version.sequence, m.phase) for m in later.moves] == [(5, P.CANDIDATE), (5, P.STAGED)]
    assert later.state.rollout.opens_at is None


def test_what_is_bad_is_taken_back_at_any_time() -> None:
    seen = Observed(version(2), THREE, Evidence(20, 0), 10, freeze="fair week")
    assert [move.phase for move in decide(NIGHT, on_trial(), seen, NOW).moves] == [P.ROLLED_BACK]


def test_outside_its_windows_a_stage_loses_robots_and_wins_none() -> None:
    spec = NIGHT.model_copy(update={"steps": [Step(percent=100)]})
    state = on_trial(robots=("r1", "r2"))
    fleet = (Robot("r1"), Robot("r2", suspended=True), Robot("r3"))
    assert decide(spec, state, Observed(version(2), fleet), NOW).state.rollout.robots == ["r1"]
    opened = decide(spec, state, Observed(version(2), fleet), at("2027-01-15 23:00"))
    assert opened.state.rollout.robots == ["r1", "r3"]
