"""What holds of every rollout, whatever comes: generated histories, one decision after another.

Between any two turns the operator may die: each begins from the status alone, as it is stored.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control.rollouts import NOW, STABLE, gated, on_trial, version, watched
from fleet_contract.messages import AssignmentRole, AssignmentState
from fleet_contract.names import Gate as GateName
from fleet_contract.names import Reason, Verb
from fleet_contract.resources import (
    Approval,
    FleetTrainingJobStatus,
    GatePhase,
    OnDeadline,
    PolicyPhase,
    PostPromotion,
    Rollout,
    RolloutMode,
    RolloutStatus,
    Selector,
    Step,
    Strategy,
    Window,
)
from fleet_contract.resources.job_status import AssignmentStatus
from fleet_operator.decide import assignment, cohort, requests, windows
from fleet_operator.decide.analysis import Evidence
from fleet_operator.decide.cohort import Robot, able, choose, maintain, size
from fleet_operator.decide.gates import Gate, Report
from fleet_operator.decide.rollout import Decision, Known, Observed, State, decide
from fleet_operator.decide.rules.phase import AWAITED


def rarely(strategy: st.SearchStrategy[Any], usual: Any) -> st.SearchStrategy[Any]:
    return st.one_of(*[st.just(usual)] * 3, strategy)


SITES = ["north", "south"]
selectors = st.builds(
    Selector,
    sites=rarely(st.sampled_from([["north"], ["south"], SITES]), []),
    groups=rarely(st.just(["arms"]), []),
)
steps = st.builds(
    lambda exact, n, **fields: Step(
        **({"robots": n % 4 + 1} if exact else {"percent": n}), **fields
    ),
    st.booleans(),
    st.integers(1, 100),
    selector=selectors,
    min_episodes=st.integers(1, 5),
    soak=st.sampled_from(["0s", "0s", "20s"]),
    deadline=rarely(st.sampled_from(["10s", "40s"]), None),
    on_deadline=st.sampled_from(OnDeadline),
)
specs = st.builds(
    Rollout,
    mode=st.sampled_from([RolloutMode.AUTO] * 4 + [RolloutMode.MANUAL, RolloutMode.PINNED]),
    pinned_version=st.just(1),
    strategy=st.sampled_from([Strategy.STAGED] * 3 + [Strategy.BROADCAST]),
    steps=st.lists(steps, min_size=1, max_size=3),
    approval=rarely(st.sampled_from(Approval), Approval.NEVER),
    windows=rarely(st.just([Window(schedule="1-59/2 * * * *", duration="60s")]), []),
    post_promotion=rarely(st.just(PostPromotion(min_episodes=3, soak="10s")), PostPromotion()),
    paused=st.sampled_from([False, False, False, True]),
)
robots = st.lists(
    st.builds(
        Robot,
        st.sampled_from([f"r{index}" for index in range(8)]),
        connected=st.booleans(),
        suspended=st.sampled_from([False, False, True]),
        pin=st.sampled_from([None, None, None, 1, 2]),
        site=st.sampled_from(SITES),
        groups=st.sampled_from([(), ("arms",)]),
        away=st.sampled_from([0.0, 0.0, 300.0]),
    ),
    max_size=8,
    unique_by=lambda robot: robot.name,
).map(tuple)
evidence = st.builds(
    lambda n, lost, g: Evidence(n, max(0, n - lost), 0, g),
    st.integers(0, 8),
    st.sampled_from([0, 0, 1, 8]),
    st.sampled_from([0, 0, 0, 0, 1]),
)
pressed = st.one_of(
    st.just(""),
    st.builds(
        lambda verb, at, nonce: f"{verb}@{at}#{nonce}",
        st.sampled_from(Verb),
        st.integers(1, 4),
        st.integers(),
    ),
    st.just("nonsense"),
)


class Told(NamedTuple):
    """A gate that is asked for, and what a run of it tells: nothing, or a phase."""

    name: GateName
    asked: str
    phase: GatePhase | None
    late: bool  # it is the run before that tells

    def seen(self, state: State) -> Gate:
        began = next((one.run for one in state.rollout.gates if one.name is self.name), 0)
        computes = ("r0", "r1") if self.name is GateName.SHADOW else ()
        run, words = began - self.late, "It said so."
        report = Report(run, self.phase, words, robots=computes) if self.phase else None
        return Gate(self.name, self.asked, report)


gates = st.tuples(
    *(
        st.builds(
            Told,
            st.just(name),
            st.sampled_from(["a", "a", "a", "b"]),
            st.sampled_from([None, *GatePhase][:-1] + [GatePhase.PASSED] * 2),
            st.sampled_from([False, False, True]),
        )
        for name in GateName
    )
).flatmap(lambda both: st.sampled_from([both, both[:1], both[1:], ()]))


class Turn(NamedTuple):
    """What one turn of a history brings; None: as before."""

    spec: Rollout | None
    robots: tuple[Robot, ...] | None
    evidence: Evidence
    published: int
    request: str
    passed: int  # seconds
    freeze: str
    gates: tuple[Told, ...]


histories = st.lists(
    st.builds(
        Turn,
        rarely(specs, None),
        rarely(robots, None),
        evidence,
        st.integers(0, 2),
        pressed,
        st.integers(0, 45),
        st.sampled_from(["", "", "", "fair week"]),
        st.one_of(st.just(()), gates),
    ),
    min_size=1,
    max_size=12,
)
STARTS = (
    State(),
    on_trial(),
    gated()._replace(stable=None),
    gated(3),
    gated(name=GateName.SHADOW, asked="a", robots=["r0"], message="It runs."),
    on_trial(3)._replace(rolled_back=(2,)),
    watched(),
    watched()._replace(rollout=RolloutStatus()),
    STABLE._replace(rolled_back=(2, 3), last_sequence=3),
)
begun = st.tuples(st.sampled_from(STARTS), specs, robots, histories)
History = tuple[State, Rollout, tuple[Robot, ...], list[Turn]]


class Seen(NamedTuple):
    """One turn of a history, decided."""

    spec: Rollout
    before: State
    seen: Observed
    now: float
    decision: Decision
    verb: str  # of the request answered now; empty where it was none or was refused
    ran: frozenset[int]  # what the fleet was ever given
    open: frozenset[tuple[int, GateName, str]]
    """Which gates, and how asked, which version has passed; skipped ones however asked."""

    @property
    def state(self) -> State:
        return self.decision.state

    @property
    def paused(self) -> bool:
        return self.spec.paused or self.state.rollout.paused

    @property
    def closed(self) -> bool:
        return bool(self.seen.freeze) or windows.opens_at(self.spec.windows, self.now) is not None

    def assigned(self, state: State) -> assignment.Content:
        versions = {sequence: version(sequence) for sequence in range(1, state.last_sequence + 1)}
        return assignment.content(self.spec, state, self.seen.robots, versions)


def stored(state: State) -> State:
    """What is left of it when the operator dies: the job's status, as the API server has it."""
    status = FleetTrainingJobStatus(
        stable=state.stable,
        rollout=state.rollout,
        last_known_good=list(state.known_good),
        rolled_back=list(state.rolled_back),
        last_sequence=state.last_sequence,
        last_handled_request=state.last_handled_request,
    )
    return State.of(FleetTrainingJobStatus.model_validate(status.dump()))


def play(history: History) -> Iterator[Seen]:
    state, spec, fleet, turns = history
    announced, clock, events = state.last_sequence, NOW, 0
    known = {
        number: Known(version(number), PolicyPhase.ROLLED_BACK) for number in state.rolled_back
    }
    ran = frozenset(one.sequence for one in (state.stable, *state.known_good) if one)
    opened: frozenset[tuple[int, GateName, str]] = frozenset()
    for turn in turns:
        spec = spec if turn.spec is None else turn.spec
        fleet = fleet if turn.robots is None else turn.robots
        announced, clock = announced + turn.published, clock + turn.passed
        events += turn.evidence.episodes
        observed = Observed(
            version(announced) if announced else None,
            fleet,
            turn.evidence,
            events,
            turn.request,
            dict(known),
            turn.freeze,
            tuple(one.seen(state) for one in turn.gates),
        )
        decision = decide(spec, state, observed, clock)
        again = decide(spec, stored(decision.state), observed, clock)
        assert (again.state, again.moves, again.notes) == (decision.state, (), ())
        for move in decision.moves:
            known[move.version.sequence] = Known(move.version, move.phase)
            ran |= {move.version.sequence} if move.phase is PolicyPhase.PROMOTED else set()
        request = requests.parse(turn.request)
        new = turn.request != state.last_handled_request
        refused = any(note.reason is Reason.REQUEST_REFUSED for note in decision.notes)
        verb = request.verb if request and new and not refused else ""
        opened = now_open(opened, state, observed, spec, verb)
        yield Seen(spec, state, observed, clock, decision, verb, ran, opened)
        state = stored(decision.state)


def now_open(
    before: frozenset[tuple[int, GateName, str]],
    state: State,
    seen: Observed,
    spec: Rollout,
    verb: str,
) -> frozenset[tuple[int, GateName, str]]:
    """What was said before and what is said now, by the run that is under way, or by a skip."""
    of = state.candidate.sequence if state.candidate else 0
    if verb == "retry":
        of = int(seen.request.partition("@")[2].partition("#")[0])
        return frozenset(one for one in before if one[0] != of)
    if verb == "skip":
        shut = (g.name for g in seen.gates if not is_open(before, of, g))
        before |= {(of, name, "") for name in [*shut][:1]}
    began = {one.name: one for one in state.rollout.gates}
    for gate in seen.gates:
        ours = gate.name in began and gate.report and gate.report.run == began[gate.name].run
        if ours and gate.report and gate.report.phase is GatePhase.PASSED and began[gate.name].run:
            before |= {(of, gate.name, began[gate.name].asked)}
    return before


def is_open(opened: frozenset[tuple[int, GateName, str]], sequence: int, gate: Gate) -> bool:
    return bool({(sequence, gate.name, gate.asked), (sequence, gate.name, "")} & opened)


def exactly_as_many_robots_as_the_step_says_run_the_candidate(turn: Seen) -> None:
    if not turn.state.started or turn.paused:
        return
    step = turn.spec.steps[min(turn.state.rollout.step, len(turn.spec.steps) - 1)]
    there = {robot.name for robot in able(turn.seen.robots, step)}
    exposed = turn.state.rollout.robots
    assert set(exposed) <= there
    assert len(exposed) <= size(step, len(there))
    if not turn.closed:
        assert len(exposed) == size(step, len(there))


def no_robot_is_without_a_version_once_something_is_stable(turn: Seen) -> None:
    if turn.state.stable is None:
        return
    content = turn.assigned(turn.state)
    document = assignment.next_document(content, None, AssignmentStatus(), "uid", NOW)
    assert document is not None
    for robot in turn.seen.robots:
        assert document.policy_for(robot.name) is not None


def a_version_taken_back_returns_by_a_pin_or_a_retry_only(turn: Seen) -> None:
    forgiven = set(turn.before.rolled_back) - set(turn.state.rolled_back)
    assert not forgiven or (turn.verb == "retry" and len(forgiven) == 1)
    assert f"@{next(iter(forgiven), '')}" in turn.seen.request or not forgiven
    for held in (turn.state.stable, turn.state.candidate, *turn.state.known_good):
        assert held is None or held.sequence not in turn.state.rolled_back
    content = turn.assigned(turn.state)
    pins = {robot.pin for robot in turn.seen.robots}
    pins |= {turn.spec.pinned_version} if turn.spec.mode is RolloutMode.PINNED else set()
    given_out = {rule.manifest.sequence for rule in content.rules}
    given_out |= {content.default.sequence} if content.default else set()
    assert not (given_out - pins) & set(turn.state.rolled_back)


def what_is_taken_up_is_the_newest_or_was_asked_for_by_name(turn: Seen) -> None:
    taken = [m for m in turn.decision.moves if m.phase is PolicyPhase.CANDIDATE]
    for move in taken:
        assert turn.seen.announced is not None
        newest = move.version.sequence == turn.seen.announced.sequence
        assert newest or (turn.verb == "retry" and move.reason is Reason.RETRIED)
    assert turn.state.last_sequence >= turn.before.last_sequence


def a_paused_rollout_moves_nobody(turn: Seen) -> None:
    if not turn.paused or turn.spec.mode is RolloutMode.PINNED:
        return
    assert turn.assigned(turn.state).state is AssignmentState.FROZEN
    assert turn.state.stable == turn.before.stable
    assert set(turn.state.rollout.robots) <= set(turn.before.rollout.robots)


def outside_its_windows_and_in_a_freeze_nothing_begins(turn: Seen) -> None:
    if not turn.closed:
        return
    begun = {PolicyPhase.GATED, PolicyPhase.STAGED, PolicyPhase.PROMOTED}
    assert not begun & {move.phase for move in turn.decision.moves}
    assert set(turn.state.rollout.robots) <= set(turn.before.rollout.robots)


def no_robot_tries_what_nobody_approved(turn: Seen) -> None:
    begins = turn.state.started and turn.state.candidate != (
        turn.before.candidate if turn.before.started else None
    )
    if begins and turn.spec.approval is Approval.ALWAYS:
        assert turn.state.rollout.approved


def no_robot_runs_a_version_before_its_gates_let_it_pass(turn: Seen) -> None:
    tried = turn.before.candidate.sequence if turn.before.candidate and turn.before.started else 0
    for move in turn.decision.moves:
        at = move.version.sequence
        if move.phase in {PolicyPhase.STAGED, PolicyPhase.PROMOTED} and at != tried:
            assert all(is_open(turn.open, at, gate) for gate in turn.seen.gates)


def no_version_outlives_a_gate_that_refused_it(turn: Seen) -> None:
    candidate, began = turn.state.candidate, {one.name: one for one in turn.before.rollout.gates}
    if candidate != turn.before.candidate or candidate is None or turn.before.started:
        return
    for gate in turn.seen.gates:
        status, report = began.get(gate.name), gate.report
        if status and report and report.run == status.run and status.asked == gate.asked:
            running = status.phase in {GatePhase.RUNNING, GatePhase.BLOCKED}
            refused = running and report.phase is GatePhase.FAILED
            assert not refused or turn.paused or turn.verb in {"skip", "retry"}


def whoever_computes_a_version_beside_another_does_not_act_on_it(turn: Seen) -> None:
    content, candidate = turn.assigned(turn.state), turn.state.candidate
    beside = [rule for rule in content.rules if rule.role is AssignmentRole.SHADOW]
    if not beside:
        return
    assert candidate is not None
    assert {rule.manifest.sequence for rule in beside} == {candidate.sequence}
    assert not turn.state.started
    assert turn.state.rollout.robots == []
    live = {rule.manifest.digest for rule in content.rules if rule not in beside}
    live |= {content.default.digest} if content.default else set()
    pinned = any(robot.pin == candidate.sequence for robot in turn.seen.robots)
    assert candidate.digest not in live or pinned


def where_something_waits_a_sentence_says_for_what(turn: Seen) -> None:
    rollout, newest = turn.state.rollout, turn.seen.announced
    assert not rollout.reason or Reason(rollout.reason) in AWAITED
    waits = newest is not None and newest.sequence > turn.state.last_sequence
    if turn.paused or rollout.candidate or rollout.watching:
        assert rollout.reason
        assert rollout.message.endswith(".")
    elif waits and turn.spec.mode is not RolloutMode.PINNED:
        assert rollout.reason


def the_fleet_returns_to_what_it_ran_before(turn: Seen) -> None:
    stable, before = turn.state.stable, turn.before.stable
    if stable != before and stable is not None:
        assert stable.sequence in turn.ran
    assert {one.sequence for one in turn.state.known_good} <= turn.ran
    assert stable not in turn.state.known_good


LAWS = (
    exactly_as_many_robots_as_the_step_says_run_the_candidate,
    no_robot_is_without_a_version_once_something_is_stable,
    a_version_taken_back_returns_by_a_pin_or_a_retry_only,
    what_is_taken_up_is_the_newest_or_was_asked_for_by_name,
    a_paused_rollout_moves_nobody,
    outside_its_windows_and_in_a_freeze_nothing_begins,
    no_robot_tries_what_nobody_approved,
    no_robot_runs_a_version_before_its_gates_let_it_pass,
    no_version_outlives_a_gate_that_refused_it,
    whoever_computes_a_version_beside_another_does_not_act_on_it,
    where_something_waits_a_sentence_says_for_what,
    the_fleet_returns_to_what_it_ran_before,
)


# A busy machine is slow to make histories, and that says nothing of them.
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(begun)
def test_every_law_holds_after_every_turn(history: History) -> None:
    for turn in play(history):
        for law in LAWS:
            law(turn)


@given(robots, st.integers(0, 8), st.text(max_size=5))
def test_a_cohort_is_exact_and_does_not_depend_on_the_order_of_robots(
    fleet: tuple[Robot, ...], count: int, salt: str
) -> None:
    chosen = choose(fleet, count, salt)
    assert choose(tuple(reversed(fleet)), count, salt) == chosen
    assert len(chosen) == min(count, sum(robot.eligible for robot in fleet))


@given(robots, robots, steps, st.text(max_size=5))
def test_who_is_in_a_stage_stays_in_it_unless_the_stage_shrinks(
    before: tuple[Robot, ...], after: tuple[Robot, ...], step: Step, salt: str
) -> None:
    first = maintain(before, step, salt, [])
    then = maintain(after, step, salt, first)
    there = able(after, step)
    assert len(then) == size(step, len(there))
    stayed = {one.name for one in there if one.connected or one.away < cohort.AWAY} & set(first)
    assert stayed <= set(then) or set(then) <= stayed
    assert set(maintain(after, step, salt, first, grow=False)) <= set(first)


def test_an_offline_robot_is_chosen_last() -> None:
    fleet = [Robot("off", connected=False), *(Robot(f"r{index}") for index in range(5))]
    for salt in map(str, range(20)):
        assert "off" not in choose(fleet, 5, salt)


def test_a_robot_that_stays_away_loses_its_place_to_one_that_is_there() -> None:
    step = Step(robots=1)
    offline = Robot("a", connected=False)
    for away, holds in ((cohort.AWAY - 1, ["a"]), (cohort.AWAY, ["b"])):
        assert maintain([offline._replace(away=away), Robot("b")], step, "", ["a"]) == holds
    alone = [offline._replace(away=cohort.AWAY), Robot("b", connected=False)]
    assert maintain(alone, step, "", ["a"]) == ["a"]
