"""The rollout of one job: (what people want, what is, what was seen, now) → what shall be.

Pure. A version goes Candidate → Gated → Staged(k) → Promoted | RolledBack | Superseded by the
table in ``phases``. While one is under trial, newer ones wait as a single candidate: the last
one announced, taken up when the trial ends.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from fleet_contract.names import Reason
from fleet_contract.resources import (
    PolicyPhase,
    Rollout,
    RolloutMode,
    RolloutPhase,
    RolloutStatus,
    Step,
    Strategy,
    VersionRef,
)
from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide import cohort, phases, requests
from fleet_operator.decide.analysis import Evidence, Verdict, judge
from fleet_operator.decide.rollout_state import Decision, Move, Observed, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_ROLLED_BACK = 1000


__all__ = ["Decision", "Move", "Observed", "State", "decide"]


def decide(spec: Rollout, state: State, seen: Observed, now: float) -> Decision:
    """One turn; deciding again at once, from the new state, changes nothing."""
    return _Turn(spec, state, seen, now).run()


class _Turn:
    """The working copy of one decision."""

    def __init__(self, spec: Rollout, state: State, seen: Observed, now: float) -> None:
        self.spec, self.state, self.seen, self.now = spec, state, seen, now
        self.moves: list[Move] = []
        self.evidence = seen.evidence

    def run(self) -> Decision:
        rules: Sequence[Callable[[], None]] = (
            self.answer_request,
            self.give_way_to_pin,
            self.keep_cohort,
            self.judge_stage,
            self.take_newest,
            self.name_phase,
        )
        for rule in rules:
            rule()
        return Decision(self.state, tuple(self.moves))

    # --- rules, in order ------------------------------------------------------------------

    def answer_request(self) -> None:
        text = self.seen.request
        if not text or text == self.state.last_handled_request:
            return
        self.state = self.state._replace(last_handled_request=text)
        request, candidate, newest = requests.parse(text), self.state.candidate, self.seen.announced
        if request is None:
            self.say(f"Request {text[:64]!r} is unknown: {requests.FORM}.")
        elif candidate and candidate.sequence == request.sequence:
            if request.verb is requests.Verb.PROMOTE:
                self.forward(candidate, Reason.PROMOTED_BY_REQUEST, "by request")
            elif request.verb is requests.Verb.ABORT:
                self.roll_back(candidate, Reason.ABORTED, "by request")
        elif (
            request.verb is requests.Verb.PROMOTE
            and newest
            and newest.sequence == request.sequence
            and self.is_new(newest)
            and not self.state.started
        ):
            self.take(newest)
            self.forward(newest, Reason.PROMOTED_BY_REQUEST, "by request")
        else:
            under = f"version {candidate.sequence} is" if candidate else "no version is"
            self.say(f"{text[:64]}: not done, for {under} under trial.")

    def give_way_to_pin(self) -> None:
        if self.spec.mode is RolloutMode.PINNED and (candidate := self.state.candidate):
            self.finish(
                candidate,
                PolicyPhase.SUPERSEDED,
                Reason.PINNED,
                f"The fleet was pinned to version {self.spec.pinned_version}.",
            )

    def keep_cohort(self) -> None:
        if (candidate := self.state.candidate) and self.state.started and not self.spec.paused:
            robots = cohort.maintain(
                self.seen.robots, self.step(), candidate.digest, self.state.rollout.robots
            )
            self.update(robots=robots)

    def judge_stage(self) -> None:
        candidate = self.state.candidate
        if candidate is None or not self.state.started:
            return
        if self.state.rollout.events_from > self.seen.last_event + 1:
            self.update(events_from=1)  # the stream was lost and made anew: its numbers are new
        rollout = self.state.rollout
        fresh = rollout.events_from > self.seen.last_event  # this very turn began the stage
        evidence = self.evidence = Evidence() if fresh else self.seen.evidence
        self.update(episodes=evidence.episodes, successes=evidence.successes)
        if self.spec.paused:
            return
        if self.spec.strategy is Strategy.BROADCAST and self.spec.mode is RolloutMode.AUTO:
            self.promote(candidate, Reason.BROADCAST, "given to the whole fleet at once")
            return
        verdict = judge(self.step(), self.spec.analysis, evidence, self.elapsed())
        figures = f"{evidence.successes} of {evidence.episodes} judged episodes succeeded"
        threshold = self.spec.analysis.min_success_rate
        against = {
            Verdict.REFUSED: (Reason.POLICY_REFUSED, evidence.refusal),
            Verdict.GUARD_TRIPPED: (
                Reason.GUARD_TRIPPED,
                f"{evidence.guard_trips} guard trips in its stage",
            ),
            Verdict.BELOW_THRESHOLD: (
                Reason.SUCCESS_BELOW_THRESHOLD,
                f"{figures}; {threshold:.0%} can no longer be reached",
            ),
        }
        if verdict in against:
            self.roll_back(candidate, *against[verdict])
        elif not self.anyone_there():
            self.say(f"Frozen: no robot that runs version {candidate.sequence} is connected.")
        elif verdict is Verdict.WAIT:
            self.say(self.progress(candidate))
        elif self.spec.mode is RolloutMode.MANUAL:
            self.say(
                f"Version {candidate.sequence} passed this stage ({figures}); "
                f"request promote@{candidate.sequence} to go on."
            )
        else:
            self.forward(candidate, Reason.CANARY_PASSED, figures)

    def take_newest(self) -> None:
        newest = self.seen.announced
        if newest is None or not self.is_new(newest) or self.spec.paused or self.state.candidate:
            return
        if self.state.stable is None:
            self.take(newest)
            self.promote(newest, Reason.FIRST_VERSION, "the first version, nothing to compare with")
        elif self.spec.mode is RolloutMode.PINNED:
            return
        elif self.spec.mode is RolloutMode.MANUAL:
            self.take(newest)
            self.say(f"Version {newest.sequence} waits: request promote@{newest.sequence}.")
        elif self.spec.strategy is Strategy.BROADCAST:
            self.take(newest)
            self.promote(newest, Reason.BROADCAST, "given to the whole fleet at once")
        elif any(robot.eligible and robot.connected for robot in self.seen.robots):
            self.take(newest)
            self.start_stage(newest, 0)
        else:
            self.say("A newer version waits until a robot that may try it is connected.")

    def name_phase(self) -> None:
        phase = RolloutPhase.IDLE
        if self.spec.paused or (self.state.candidate and not self.state.started):
            phase = RolloutPhase.PAUSED
        elif self.state.candidate:
            phase = RolloutPhase.STAGED
        self.update(phase=phase)

    # --- what rules are made of -----------------------------------------------------------

    def is_new(self, version: VersionRef) -> bool:
        """Never tried before: sequences only grow, so one taken back stays behind for good."""
        return version.sequence > self.state.last_sequence

    def step(self) -> Step:
        """The stage's step; people may have shortened the list meanwhile."""
        return self.spec.steps[min(self.state.rollout.step, len(self.spec.steps) - 1)]

    def elapsed(self) -> float:
        started = self.state.rollout.started_at
        return self.now - datetime.fromisoformat(started).timestamp() if started else 0.0

    def anyone_there(self) -> bool:
        trial = frozenset(self.state.rollout.robots)
        return any(robot.connected and robot.name in trial for robot in self.seen.robots)

    def at(self) -> PolicyPhase:
        return PolicyPhase.STAGED if self.state.started else PolicyPhase.CANDIDATE

    def take(self, version: VersionRef) -> None:
        if before := self.state.candidate:
            self.finish(
                before,
                PolicyPhase.SUPERSEDED,
                Reason.SUPERSEDED,
                f"Version {version.sequence} came before anybody tried this one.",
            )
        self.state = self.state._replace(last_sequence=version.sequence)
        self.state = self.state._replace(rollout=RolloutStatus(candidate=version))
        self.evidence = Evidence()
        self.moves.append(
            Move(version, PolicyPhase.CANDIDATE, Reason.ANNOUNCED, "The learner announced it.")
        )

    def forward(self, version: VersionRef, reason: Reason, why: str) -> None:
        """To the next stage, or to everyone after the last."""
        following = self.state.rollout.step + 1 if self.state.started else 0
        if self.spec.strategy is Strategy.BROADCAST or following >= len(self.spec.steps):
            self.promote(version, reason, why)
        else:
            self.start_stage(version, following)

    def start_stage(self, version: VersionRef, index: int) -> None:
        step = self.spec.steps[index]
        count = cohort.size(step, sum(robot.eligible for robot in self.seen.robots))
        robots = cohort.choose(self.seen.robots, count, version.digest, self.state.rollout.robots)
        way = () if self.state.started else (PolicyPhase.GATED,)
        phase = phases.move(self.at(), *way, PolicyPhase.STAGED)
        self.evidence = Evidence()
        self.update(
            step=index,
            robots=robots,
            started_at=now_rfc3339(self.now),
            events_from=self.seen.last_event + 1,
            episodes=0,
            successes=0,
        )
        self.say(self.progress(version))
        message = f"Version {version.sequence} began stage {index + 1} of {len(self.spec.steps)}."
        self.moves.append(
            Move(version, phase, Reason.CANARY_STARTED, message, Evidence(), len(robots))
        )

    def progress(self, version: VersionRef) -> str:
        rollout = self.state.rollout
        return (
            f"Version {version.sequence}, stage {rollout.step + 1} of {len(self.spec.steps)}: "
            f"{len(rollout.robots)} robots, {rollout.successes} of {rollout.episodes} judged "
            f"episodes succeeded, {self.step().min_episodes} needed."
        )

    def promote(self, version: VersionRef, reason: Reason, why: str) -> None:
        self.finish(
            version, PolicyPhase.PROMOTED, reason, f"Version {version.sequence} promoted: {why}."
        )
        self.state = self.state._replace(stable=version)

    def roll_back(self, version: VersionRef, reason: Reason, why: str) -> None:
        self.finish(
            version,
            PolicyPhase.ROLLED_BACK,
            reason,
            f"Version {version.sequence} taken back: {why}.",
        )
        back = (*self.state.rolled_back, version.sequence)[-MAX_ROLLED_BACK:]
        self.state = self.state._replace(rolled_back=back)

    def finish(self, version: VersionRef, end: PolicyPhase, reason: Reason, message: str) -> None:
        """The trial ends; its last figures stay with the version."""
        started = self.state.started
        gated = () if started or end is not PolicyPhase.PROMOTED else (PolicyPhase.GATED,)
        phase = phases.move(self.at(), *gated, end)
        evidence = self.evidence if started else None
        robots = len(self.state.rollout.robots)
        self.moves.append(Move(version, phase, reason, message, evidence, robots))
        self.state = self.state._replace(rollout=RolloutStatus(message=message))

    def update(self, **fields: object) -> None:
        self.state = self.state._replace(rollout=self.state.rollout.model_copy(update=fields))

    def say(self, message: str) -> None:
        self.update(message=message)
