"""What holds of every rollout, whatever comes: generated histories, one decision after another."""

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from fleet_contract.messages import digest_of
from fleet_contract.resources import Rollout, RolloutMode, Step, Strategy, VersionRef
from fleet_contract.resources.job_status import AssignmentStatus
from fleet_operator.decide import assignment
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.cohort import Robot, choose, maintain, size
from fleet_operator.decide.rollout import Observed, State, decide

NOW = 1_800_000_000.0


def version(sequence: int) -> VersionRef:
    digest = digest_of(str(sequence).encode())
    return VersionRef(name=f"job-v{sequence}", sequence=sequence, digest=digest, uri="u")


steps = st.one_of(
    st.builds(
        lambda n, e, s: Step(robots=n, min_episodes=e, soak=f"{s}s"),
        st.integers(1, 4),
        st.integers(1, 5),
        st.integers(0, 20),
    ),
    st.builds(lambda p, e: Step(percent=p, min_episodes=e), st.integers(1, 100), st.integers(1, 5)),
)
specs = st.builds(
    lambda mode, strategy, steps, paused: Rollout(
        mode=mode, pinned_version=1, strategy=strategy, steps=steps, paused=paused
    ),
    st.sampled_from([RolloutMode.AUTO, RolloutMode.AUTO, RolloutMode.MANUAL, RolloutMode.PINNED]),
    st.sampled_from([Strategy.STAGED, Strategy.STAGED, Strategy.BROADCAST]),
    st.lists(steps, min_size=1, max_size=3),
    st.sampled_from([False, False, False, True]),
)
robots = st.lists(
    st.builds(
        Robot,
        st.sampled_from([f"r{index}" for index in range(8)]),
        connected=st.booleans(),
        suspended=st.sampled_from([False, False, True]),
        pin=st.sampled_from([None, None, None, 1, 2]),
    ),
    max_size=8,
    unique_by=lambda robot: robot.name,
).map(tuple)
evidence = st.builds(
    lambda n, s, g: Evidence(n, min(n, s), 0, g),
    st.integers(0, 8),
    st.integers(0, 8),
    st.sampled_from([0, 0, 0, 1]),
)
requests = st.sampled_from(["", "", "promote@2#a", "abort@3#b", "promote@4#c", "nonsense"])
turns = st.tuples(specs, robots, evidence, st.integers(0, 2), requests, st.integers(0, 30))
histories = st.lists(turns, min_size=1, max_size=12)
Turn = tuple[Rollout, State, Observed, State]
History = list[tuple[Rollout, tuple[Robot, ...], Evidence, int, str, int]]


def play(history: History) -> Iterator[Turn]:
    state, announced, clock, events = State(), 0, NOW, 0
    for spec, fleet, seen, published, request, passed in history:
        announced, clock, events = announced + published, clock + passed, events + seen.episodes
        observed = Observed(version(announced) if announced else None, fleet, seen, events, request)
        before = state
        state = decide(spec, before, observed, clock).state
        assert decide(spec, before, observed, clock).state == state
        yield spec, before, observed, state


@given(histories)
def test_no_more_robots_than_the_step_says_run_the_candidate(history: History) -> None:
    for spec, _, seen, state in play(history):
        if not state.started or spec.paused:
            continue
        step = spec.steps[min(state.rollout.step, len(spec.steps) - 1)]
        eligible = [robot.name for robot in seen.robots if robot.eligible]
        assert len(state.rollout.robots) <= size(step, len(eligible))
        assert set(state.rollout.robots) <= set(eligible)


@given(histories)
def test_no_robot_is_without_a_version_once_something_is_stable(history: History) -> None:
    for spec, _, seen, state in play(history):
        if state.stable is None:
            continue
        versions = {sequence: version(sequence) for sequence in range(1, state.last_sequence + 1)}
        content = assignment.content(spec, state, seen.robots, versions)
        document = assignment.next_document(content, None, AssignmentStatus(), "uid", NOW)
        assert document is not None
        for robot in seen.robots:
            assert document.policy_for(robot.name) is not None


@given(histories)
def test_a_version_taken_back_never_returns_unless_pinned(history: History) -> None:
    for spec, before, seen, state in play(history):
        assert set(before.rolled_back) <= set(state.rolled_back)
        for held in (state.stable, state.candidate):
            assert held is None or held.sequence not in state.rolled_back
        versions = {sequence: version(sequence) for sequence in range(1, state.last_sequence + 1)}
        content = assignment.content(spec, state, seen.robots, versions)
        pins = {robot.pin for robot in seen.robots}
        pins |= {spec.pinned_version} if spec.mode is RolloutMode.PINNED else set()
        given_out = {rule.manifest.sequence for rule in content.rules}
        given_out |= {content.default.sequence} if content.default else set()
        assert not (given_out - pins) & set(state.rolled_back)


@given(histories)
def test_a_newer_version_is_the_only_one_ever_taken(history: History) -> None:
    for _, before, seen, state in play(history):
        assert state.last_sequence >= before.last_sequence
        if state.last_sequence > before.last_sequence:
            assert seen.announced is not None
            assert state.last_sequence == seen.announced.sequence


@given(robots, st.integers(0, 8), st.text(max_size=5))
def test_a_cohort_is_exact_and_does_not_depend_on_the_order_of_robots(
    fleet: tuple[Robot, ...], count: int, salt: str
) -> None:
    chosen = choose(fleet, count, salt)
    assert choose(tuple(reversed(fleet)), count, salt) == chosen
    assert len(chosen) == min(count, sum(robot.eligible for robot in fleet))


@given(robots, robots, steps, st.text(max_size=5))
def test_a_cohort_keeps_who_stays_and_never_grows_within_a_stage(
    before: tuple[Robot, ...], after: tuple[Robot, ...], step: Step, salt: str
) -> None:
    first = maintain(before, step, salt, [])
    then = maintain(after, step, salt, first)
    stayed = {robot.name for robot in after if robot.eligible} & set(first)
    if first:
        assert len(then) <= len(first)
    assert stayed <= set(then) or set(then) <= stayed


def test_an_offline_robot_is_chosen_last() -> None:
    fleet = [Robot("off", connected=False), *(Robot(f"r{index}") for index in range(5))]
    for salt in map(str, range(20)):
        assert "off" not in choose(fleet, 5, salt)
