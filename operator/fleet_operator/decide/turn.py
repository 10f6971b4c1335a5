"""The working copy of one decision: what rules ask, and the moves they are made of. Pure.

A rule changes ``state`` through the methods here only, so that every move goes by the table in
``phases`` and leaves a sentence.
"""

from __future__ import annotations

from fleet_contract import names
from fleet_contract.names import Reason
from fleet_contract.resources import (
    GateStatus,
    PolicyPhase,
    Rollout,
    RolloutStatus,
    Step,
    Strategy,
    VersionRef,
    seconds,
)
from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide import analysis, cohort, phases
from fleet_operator.decide.analysis import Evidence, Judgement
from fleet_operator.decide.gates import ENDED, Gate
from fleet_operator.decide.rollout_state import (
    MAX_KNOWN_GOOD,
    Decision,
    Hold,
    Move,
    Note,
    Observed,
    State,
)

MAX_ROLLED_BACK = 1000
USUAL = Step.model_fields["min_episodes"].default
UNDECIDED = 4
"""Times a step's episodes; a doubt that lasts longer gives way to a newer version."""


class Turn:
    """One decision on its way."""

    def __init__(self, spec: Rollout, state: State, seen: Observed, now: float) -> None:
        self.spec, self.before, self.seen, self.now = spec, state, seen, now
        self.moves: list[Move] = []
        self.notes: list[Note] = []
        self.ended: list[GateStatus] = []
        self.evidence = seen.evidence
        self.state = state
        self.hold: Hold | None = None
        """What is awaited, as far as this round of rules knows."""

    def done(self) -> Decision:
        return Decision(self.state, tuple(self.moves), tuple(self.notes), tuple(self.ended))

    # --- what is asked ----------------------------------------------------------------------

    @property
    def rollout(self) -> RolloutStatus:
        return self.state.rollout

    @property
    def paused(self) -> bool:
        """By Git or by request."""
        return self.spec.paused or self.rollout.paused

    @property
    def stands(self) -> bool:
        """Whether clocks do: paused, or the job is suspended and no robot works all the same."""
        nobody = not any(robot.connected for robot in self.seen.robots)
        return self.paused or (self.seen.suspended and nobody)

    @property
    def step(self) -> Step:
        """The stage's step; people may have shortened the list meanwhile."""
        return self.spec.steps[min(self.rollout.step, len(self.spec.steps) - 1)]

    @property
    def elapsed(self) -> float:
        """Seconds in the stage, or of the watch."""
        return self.state.elapsed(self.rollout.started_at, self.now)

    @property
    def at(self) -> PolicyPhase:
        if self.state.started:
            return PolicyPhase.STAGED
        return PolicyPhase.GATED if self.state.gated else PolicyPhase.CANDIDATE

    @property
    def stage(self) -> str:
        """As people count."""
        count = len(self.spec.steps)
        return f"stage {min(self.rollout.step + 1, count)} of {count}"

    @property
    def figures(self) -> str:
        found = self.evidence
        return f"{found.successes} of {found.episodes} judged episodes succeeded"

    def is_new(self, version: VersionRef) -> bool:
        """Never tried before: sequences only grow, so one taken back stays behind."""
        return version.sequence > self.state.last_sequence

    def anyone_there(self) -> bool:
        trial = frozenset(self.rollout.robots)
        return any(robot.connected and robot.name in trial for robot in self.seen.robots)

    def recount(self) -> None:
        """The evidence of the present stage or watch: what came before it says nothing."""
        if self.rollout.events_from > self.seen.last_event + 1:
            # The stream was lost and made anew: its numbers are new.
            self.update(events_from=1, trial_from=1)
        fresh = self.rollout.events_from > self.seen.last_event  # this very turn began it
        found = self.evidence = Evidence() if fresh else self.seen.evidence
        self.update(episodes=found.episodes, successes=found.successes)

    def gives_way(self, least: int) -> VersionRef | None:
        """The newer version that waits, where the evidence has been doubtful for long."""
        newest = self.seen.announced
        if newest is None or not self.is_new(newest):
            return None
        return newest if self.evidence.episodes >= UNDECIDED * (least or USUAL) else None

    def judge(self, step: Step) -> Judgement:
        """What the evidence says of the present stage or watch."""
        return analysis.judge(step, self.spec.analysis, self.evidence, self.elapsed)

    # --- moves ------------------------------------------------------------------------------

    def take(self, version: VersionRef, reason: Reason, why: str, *way: PolicyPhase) -> None:
        """It becomes the candidate; ``way``: the phase it comes from, where it had one."""
        if before := self.state.candidate:
            why_not = f"Version {version.sequence} came before anybody tried this one."
            self.finish(before, PolicyPhase.SUPERSEDED, Reason.SUPERSEDED, why_not)
        phase = phases.move(*way, PolicyPhase.CANDIDATE)
        last = max(self.state.last_sequence, version.sequence)
        self.state = self.state._replace(last_sequence=last)
        self.renew(candidate=version)
        self.evidence = Evidence()
        self.moves.append(Move(version, phase, reason, why, gates=()))

    def start_gate(self, version: VersionRef, gate: Gate) -> None:
        """Run it, or run it anew."""
        phase, run = phases.move(self.at, PolicyPhase.GATED), self.rollout.last_gate_run + 1
        message = f"Version {version.sequence} began its {gate.name} gate, run {run}."
        began = GateStatus(
            name=gate.name,
            run=run,
            asked=gate.asked,
            started_at=now_rfc3339(self.now),
            events_from=self.seen.last_event + 1,
            message=message,
        )
        self.update(last_gate_run=run)
        self.put_gate(began)
        self.moves.append(self._move(version, phase, Reason.GATE_STARTED, message))

    def put_gate(self, status: GateStatus) -> None:
        """Where the candidate stands with one gate; the others stay as they are."""
        gates = {one.name: one for one in self.rollout.gates}
        if status.phase in ENDED and gates.get(status.name) != status:
            self.ended.append(status)
        gates[status.name] = status
        order = [name for name in names.Gate if name in gates]
        self.update(gates=[gates[name] for name in order])

    def gate(self, name: names.Gate) -> GateStatus | None:
        """Where the candidate stands with it; None before it begins."""
        return next((one for one in self.rollout.gates if one.name is name), None)

    def forward(self, version: VersionRef, reason: Reason, why: str) -> None:
        """To the next stage, or to everyone after the last."""
        following = self.rollout.step + 1 if self.state.started else 0
        if self.spec.strategy is Strategy.BROADCAST or following >= len(self.spec.steps):
            self.promote(version, reason, why)
        else:
            self.start_stage(version, following, reason, why)

    def start_stage(self, version: VersionRef, index: int, reason: Reason, why: str) -> None:
        step, at = self.spec.steps[index], self.at
        way = (PolicyPhase.GATED,) if at is PolicyPhase.CANDIDATE else ()
        robots = cohort.maintain(self.seen.robots, step, version.digest, self.rollout.robots)
        phase = phases.move(at, *way, PolicyPhase.STAGED)
        self.update(step=index, robots=robots, frozen=False, confirmed=False)
        self.begin_count()
        message = f"Version {version.sequence} began {self.stage} on {len(robots)} robots: {why}."
        self.moves.append(self._move(version, phase, reason, message, Evidence(), len(robots)))

    def promote(self, version: VersionRef, reason: Reason, why: str) -> None:
        before, watch = self.state.stable, self.spec.post_promotion
        self.finish(
            version, PolicyPhase.PROMOTED, reason, f"Version {version.sequence} promoted: {why}."
        )
        if before is not None:
            good = [one for one in self.state.known_good if one.sequence != version.sequence]
            self.state = self.state._replace(known_good=(*good, before)[-MAX_KNOWN_GOOD:])
        self.state = self.state._replace(stable=version)
        if before is not None and self.watchful:
            self.update(watching=True)
            self.begin_count()
            self.tell(
                Reason.WATCH_STARTED,
                f"Version {version.sequence} is watched on the fleet until {watch.min_episodes} "
                f"episodes were judged and {watch.soak} have passed.",
            )

    @property
    def watchful(self) -> bool:
        watch = self.spec.post_promotion
        return watch.min_episodes > 0 or seconds(watch.soak) > 0

    def roll_back(self, version: VersionRef, reason: Reason, why: str) -> None:
        self.finish(
            version,
            PolicyPhase.ROLLED_BACK,
            reason,
            f"Version {version.sequence} taken back: {why}.",
        )
        self.deny(version)

    def give_back(self, reason: Reason, why: str) -> None:
        """The stable version goes, the fleet gets the one before it."""
        bad, (*earlier, good) = self.state.stable, self.state.known_good
        assert bad is not None  # noqa: S101 - known_good is not empty, so something is stable
        if candidate := self.state.candidate:
            self.finish(
                candidate,
                PolicyPhase.SUPERSEDED,
                Reason.SUPERSEDED,
                f"The fleet went back to version {good.sequence}.",
            )
        message = (
            f"Version {bad.sequence} taken back from the fleet: {why}. The fleet returned to "
            f"version {good.sequence}."
        )
        phase = phases.move(PolicyPhase.PROMOTED, PolicyPhase.ROLLED_BACK)
        evidence = self.evidence if self.rollout.watching else None
        self.moves.append(Move(bad, phase, reason, message, evidence, len(self.seen.robots)))
        self.state = self.state._replace(stable=good, known_good=tuple(earlier))
        self.renew(message=message)
        self.deny(bad)

    def finish(self, version: VersionRef, end: PolicyPhase, reason: Reason, message: str) -> None:
        """The trial ends; its last figures stay with the version."""
        ungated = self.at is PolicyPhase.CANDIDATE and end is PolicyPhase.PROMOTED
        phase = phases.move(self.at, *[PolicyPhase.GATED] * ungated, end)
        evidence = self.evidence if self.state.started else None
        # The evidence is of who was in it as the turn began; a list may show none of them since.
        of = self.before if self.before.candidate == version else self.state
        robots = len(of.rollout.robots)
        self.moves.append(self._move(version, phase, reason, message, evidence, robots))
        self.renew(message=message)

    def _move(
        self,
        candidate: VersionRef,
        phase: PolicyPhase,
        reason: Reason,
        message: str,
        evidence: Evidence | None = None,
        robots: int = 0,
    ) -> Move:
        gates = tuple(self.rollout.gates)
        return Move(candidate, phase, reason, message, evidence, robots, gates)

    # --- what moves are made of -------------------------------------------------------------

    def deny(self, version: VersionRef) -> None:
        back = (*self.state.rolled_back, version.sequence)[-MAX_ROLLED_BACK:]
        self.state = self.state._replace(rolled_back=back)

    def begin_count(self) -> None:
        """Time and episodes count from now on."""
        self.evidence = Evidence()
        self.update(
            started_at=now_rfc3339(self.now),
            events_from=self.seen.last_event + 1,
            trial_from=self.rollout.trial_from or self.seen.last_event + 1,
            episodes=0,
            successes=0,
        )

    def renew(self, **fields: object) -> None:
        """Another trial, or none: what was requested of the fleet outlives it."""
        kept = self.rollout.model_dump(include={"paused", "paused_at", "answer", "last_gate_run"})
        fresh = RolloutStatus(**kept).model_copy(update=fields)
        self.state = self.state._replace(rollout=fresh)

    def update(self, **fields: object) -> None:
        if all(getattr(self.rollout, name) == value for name, value in fields.items()):
            return  # most of them say what is so already, and a copy costs more than a look
        self.state = self.state._replace(rollout=self.rollout.model_copy(update=fields))

    def tell(self, reason: Reason, message: str, *, warning: bool = False) -> None:
        """An Event that is no version's move."""
        self.notes.append(Note(reason, message, warning))
