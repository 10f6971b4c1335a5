"""What a robot tells the operator, in the contract's words."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_contract import logs
from fleet_contract.messages import (
    AssignmentRole,
    Event,
    EventKind,
    Heartbeat,
    Outcome,
    TaskTally,
)
from fleet_contract.names import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import PolicyRef
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.robot.desk import Desk
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.robot.shadow import Account
    from fleet_runtime.robot.swap import Loaded
    from fleet_runtime.traffic import Moved

log = logging.getLogger(__name__)


class Reporter:
    """Makes events and counts them. From any thread, as far as its callbacks allow that."""

    def __init__(
        self,
        who: Identity,
        *,
        put: Callable[[Event], None],
        spooled: Callable[[], None],
        distrusted: Callable[[], None],
    ) -> None:
        """Args:
        who: this robot.
        put: keeps an event until it is stored.
        spooled: called when an episode or a part of one was kept (or should have been).
        distrusted: called when the guard took a policy back.
        """
        self.who = who
        self.distrusted = distrusted
        self._put = put
        self.refusals = 0
        self.spooled = spooled

    def outcome(self, episode: Episode, loaded: Loaded, *, latency: float | None) -> None:
        """An episode is over and kept; `latency`: seconds of its slowest inference."""
        detail = episode.outcome_source
        self._ended(EventKind.OUTCOME, episode, loaded, latency=latency, detail=detail)
        self.spooled()

    def shadow(self, episode: Episode, account: Account) -> None:
        """What a policy would have done that computed beside the one the episode ran under."""
        self._ended(
            EventKind.SHADOW,
            episode,
            account.loaded,
            role=AssignmentRole.SHADOW,
            latency=account.slowest,
            shadow=account.told(),
            detail=account.detail,
        )

    def guard(self, loaded: Loaded, episode_id: str, task: str, detail: str) -> None:
        """The guard held an action."""
        log.warning("guard: %s", detail)
        self._event(EventKind.GUARD, loaded, episode_id=episode_id, task=task, detail=detail)

    def swap(self, loaded: Loaded) -> None:
        """Another policy drives."""
        logs.bind(version=loaded.ref.sequence)
        log.info("version %d drives", loaded.ref.sequence)
        self._event(EventKind.SWAP, loaded)

    def refusal(
        self,
        ref: PolicyRef | None,
        epoch: int,
        reason: str,
        role: AssignmentRole = AssignmentRole.LIVE,
    ) -> None:
        """A document or a policy was not taken, or no longer drives."""
        self.refusals += 1
        self._send(
            kind=EventKind.REFUSAL, policy=ref, assignment_epoch=epoch, role=role, detail=reason
        )

    def _ended(self, kind: EventKind, episode: Episode, loaded: Loaded, **more: Any) -> None:
        self._event(
            kind,
            loaded,
            episode_id=episode.id,
            task=episode.task,
            outcome=Outcome(episode.outcome),
            judged=episode.judged,
            human_frames=int(episode.intervention.sum()),
            frames=len(episode),
            duration=episode.duration_s,
            **more,
        )

    def _event(self, kind: EventKind, loaded: Loaded, **fields: Any) -> None:
        self._send(kind=kind, policy=loaded.ref, assignment_epoch=loaded.epoch, **fields)

    def _send(self, **fields: Any) -> None:
        who = self.who
        self._put(
            Event(
                robot=who.robot,
                robot_uid=who.robot_uid,
                job_uid=who.job_uid,
                at=time.time(),
                **fields,
            )
        )


def tallied(before: TaskTally, episode: Episode) -> TaskTally:
    """A task's figures after one more episode of it. Pure."""
    human, judged = episode.intervention, episode.judged
    takeovers = np.flatnonzero(human & ~np.append(False, human[:-1]))
    scheduled = int(episode.scheduled[takeovers].sum())
    frames = int(human.sum())
    ended = {episode.outcome: before.outcomes.get(episode.outcome, 0) + 1}
    return TaskTally(
        outcomes={**before.outcomes, **ended},
        successes=before.successes + (judged is True),
        failures=before.failures + (judged is False),
        scheduled=before.scheduled + scheduled,
        needed=before.needed + len(takeovers) - scheduled,
        policy_steps=before.policy_steps + len(episode) - frames,
        human_steps=before.human_steps + frames,
    )


def heartbeat(who: Identity, desk: Desk, moved: Moved, **more: Any) -> Heartbeat:
    """The robot at this moment; `more` is what the network side knows."""
    tally, slot = desk.tally, desk.slot
    return Heartbeat(
        robot=who.robot,
        robot_uid=who.robot_uid,
        job_uid=who.job_uid,
        state=tally.state,
        task=tally.task,
        active=slot.active.ref if slot.active else None,
        pending=slot.pending.ref if slot.pending else None,
        episodes=tally.episodes,
        successes=tally.successes,
        interventions=tally.interventions,
        policy_latency=tally.policy_latency,
        control_hz=tally.control_hz,
        tasks=tally.tasks,
        guard_trips=tally.guard_trips,
        fallbacks=tally.fallbacks,
        good=slot.good.ref if slot.good else None,
        probation=slot.on_probation,
        bytes_sent=moved.sent[Traffic.EXPERIENCE],
        bytes_received=moved.received[Traffic.POLICY] + moved.received[Traffic.DELTA],
        sent=dict(moved.sent),
        received=dict(moved.received),
        uptake=tally.uptake,
        spool_fault=tally.spool_fault,
        at=time.time(),
        **more,
    )
