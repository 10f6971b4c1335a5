"""From what was lived through to the spool: an episode as one, or in parts while it runs.

A part is made, packed and written in a thread of its own, so that the control rate does not feel
it, and one at a time: while disk or processor are slow the next part grows instead. It leaves out
the newest step, for the last part is never without one.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from fleet_contract.errors import FleetError, Retry
from fleet_contract.messages import Outcome as Ended
from fleet_contract.messages import Record, digest_of
from fleet_contract.resources.base import seconds
from fleet_contract.resources.experience import Experience, ExperienceMode
from fleet_runtime import tracing
from fleet_runtime.experience import codec
from fleet_runtime.experience.parts import cut
from fleet_runtime.tracing import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Episode
    from fleet_runtime.robot.episode import EpisodeRun
    from fleet_runtime.robot.identity import Identity
    from fleet_runtime.robot.spool import Spool
    from fleet_runtime.robot.swap import Loaded

log = logging.getLogger(__name__)

SHORTEST = 0.1
"""Seconds that a part covers at least."""


class Scribe:
    """Writes one robot's episodes. Its methods belong to the control thread."""

    def __init__(
        self,
        who: Identity,
        spool: Spool,
        *,
        quality: int | None,
        wanted: Experience,
        spooled: Callable[[], None],
    ) -> None:
        """`quality` of frames; `spooled` is called when a part was kept, in whatever thread."""
        self._who = who
        self._spool = spool
        self._quality = quality
        self._spooled = spooled
        self._every: float | None = None
        if wanted.mode is ExperienceMode.STREAMING:
            self._every = max(SHORTEST, seconds(wanted.every))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scribe")
        self._due = 0.0
        self._sent = self._parts = 0  # steps, and parts, of this episode that are kept
        self._work: tuple[int, Future[bool]] | None = None

    def close(self) -> None:
        """No more will come."""
        self._thread.shutdown()

    def begin(self, loaded: Loaded, now: float) -> None:
        """An episode begins; one that could not be ended is broken off first."""
        self._settle(wait=True)  # of one that the robot broke off
        self._loaded, self._started = loaded, time.time()
        self._due = now + (self._every or 0.0)
        self._sent, self._parts = 0, 0
        self.close_unfinished()

    def close_unfinished(self) -> None:
        """Say of an episode whose last part was never written that no more will come of it."""
        try:
            closing = self._spool.close_unfinished()
        except Retry as fault:
            log.warning("an episode that was broken off stays open: %s", fault)
        else:
            if closing is not None:
                log.warning("episode %s was broken off", closing.episode_id)
                self._spooled()

    def tick(self, run: EpisodeRun, now: float) -> None:
        """After a control step of an attempt that goes on: write a part if one is due."""
        if self._every is None or run.done or now < self._due or not self._settle():
            return
        stop = run.steps - 1
        if stop > self._sent:
            number, made = self._parts, run.part(self._sent)
            self._work = stop, self._thread.submit(self._part, number, made)
            self._due = now + self._every

    def end(self, episode: Episode) -> None:
        """Keep what is left of the episode, with its outcome.

        Raises `Reject` or `Retry`: it is lost, or the rest of it.
        """
        self._settle(wait=True)
        rest, ended = cut(episode, self._sent) if self._sent else episode, time.time()
        self._write(rest, self._parts, last=True, ended=ended)
        tracing.tell(
            Stage.EPISODE,
            tracing.of_episode(episode.id),
            self._started,
            ended,
            links=[tracing.of_version(self._loaded.digest)],
            task=episode.task,
            outcome=episode.outcome,
            version=self._loaded.ref.sequence,
        )

    def _settle(self, *, wait: bool = False) -> bool:
        """Whether no part is being written now; one that was kept counts."""
        if self._work is None:
            return True
        stop, work = self._work
        if not (wait or work.done()):
            return False
        self._work = None
        if work.result():
            self._sent, self._parts = stop, self._parts + 1
        return True

    def _part(self, number: int, made: Callable[[], Episode]) -> bool:
        """In the thread: whether it was kept. What was not goes with the next."""
        try:
            part = made()
            ended = time.time() - max(0.0, time.monotonic() - float(part.time[-1]))
            self._write(part, number, last=False, ended=ended)
        except FleetError as fault:
            log.warning("a part of an episode is not kept yet: %s", fault)
            return False
        except Exception:  # the robot goes on, and the end of the episode tells
            log.exception("a part of an episode is not kept yet")
            return False
        self._spooled()
        return True

    def _write(self, part: Episode, number: int, *, last: bool, ended: float) -> None:
        payload = codec.encode(part, quality=self._quality)
        self._spool.append(
            Record(
                robot=self._who.robot,
                robot_uid=self._who.robot_uid,
                job_uid=self._who.job_uid,
                spool_id="",
                n=1,  # the spool gives both
                episode_id=part.id,
                segment=number,
                last=last,
                manifest=self._loaded.digest,
                sequence=self._loaded.ref.sequence,
                assignment_epoch=self._loaded.epoch,
                task=part.task,
                outcome=Ended(part.outcome) if last else None,
                digest=digest_of(payload),
                size=len(payload),
                started_at=self._started,
                ended_at=ended,
            ),
            payload,
        )
