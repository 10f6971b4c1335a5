"""What a robot tells the operator, in the contract's words."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from fleet_contract.messages import Event, EventKind, Heartbeat, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.messages import PolicyRef
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.metrics import RobotMetrics
    from fleet_runtime.robot.desk import Desk
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.robot.swap import Loaded

log = logging.getLogger(__name__)


class Reporter:
    """Makes events and counts them. From any thread, as far as its callbacks allow that."""

    def __init__(
        self,
        who: Identity,
        *,
        put: Callable[[Event], None],
        metrics: RobotMetrics,
        spooled: Callable[[], None],
        distrusted: Callable[[], None],
    ) -> None:
        """Args:
        who: this robot.
        put: keeps an event until it is stored.
        metrics: counters.
        spooled: called when an episode was kept (or should have been).
        distrusted: called when the guard took a policy back.
        """
        self.who = who
        self.distrusted = distrusted
        self._put = put
        self._metrics = metrics
        self._spooled = spooled

    def outcome(self, episode: Episode, loaded: Loaded) -> None:
        """An episode is over and kept."""
        self._metrics.episodes.labels(episode.task, episode.outcome).inc()
        self._event(
            EventKind.OUTCOME,
            loaded,
            episode_id=episode.id,
            task=episode.task,
            outcome=Outcome(episode.outcome),
            judged=episode.judged,
            human_frames=int(episode.intervention.sum()),
            frames=len(episode),
            duration=episode.duration_s,
            detail=episode.outcome_source,
        )
        self._spooled()

    def guard(self, loaded: Loaded, episode_id: str, task: str, detail: str) -> None:
        """The guard held an action or took a policy back."""
        log.warning("guard: %s", detail)
        self._event(EventKind.GUARD, loaded, episode_id=episode_id, task=task, detail=detail)

    def swap(self, loaded: Loaded, latency: float | None) -> None:
        """Another policy drives."""
        log.info("version %d drives", loaded.ref.sequence)
        self._metrics.policy_sequence.set(loaded.ref.sequence)
        if latency is not None:
            self._metrics.policy_latency.observe(latency)
        self._event(EventKind.SWAP, loaded)

    def refusal(self, ref: PolicyRef | None, epoch: int, reason: str) -> None:
        """A document or a policy was not taken."""
        self._send(kind=EventKind.REFUSAL, policy=ref, assignment_epoch=epoch, detail=reason)

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


def heartbeat(who: Identity, desk: Desk, **counts: int) -> Heartbeat:
    """The robot at this moment; `counts` are the network side's."""
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
        at=time.time(),
        **counts,
    )
