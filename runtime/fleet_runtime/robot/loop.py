"""The control loop: one thread that drives the robot and needs no network to do so.

begin (perhaps another policy) → reset → steps at the control rate → spool the episode → tell.
Whatever a policy does, the guard stands between it and the robot; whatever the robot raises ends
the episode in a safe stop, and the robot is connected anew.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import Reject, Retry
from fleet_contract.messages import RobotState, TaskTally, Trip, Uptake
from fleet_contract.resources.experience import Experience
from fleet_runtime import tracing
from fleet_runtime.robot.episode import EpisodeRun, Stamp, answer
from fleet_runtime.robot.human import Control
from fleet_runtime.robot.reports import tallied
from fleet_runtime.robot.scribe import Scribe
from fleet_runtime.robot.shadow import Asked
from fleet_runtime.robot.shadow_slot import ShadowSlot
from fleet_runtime.robot.swap import Slot
from fleet_runtime.robot.thinking import RealClock, Thinker

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode, Float
    from fleet_runtime.robot.desk import Desk
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.robot.fetch import Memory
    from fleet_runtime.robot.guard import Guard
    from fleet_runtime.robot.human import Human
    from fleet_runtime.robot.reports import Reporter
    from fleet_runtime.robot.shadow import Shadow
    from fleet_runtime.robot.spool import Spool
    from fleet_runtime.robot.standing import Standing
    from fleet_runtime.robot.swap import Loaded
    from fleet_runtime.robot.tasks import Schedule
    from fleet_runtime.robot.thinking import Asks, Clock

log = logging.getLogger(__name__)

_MOST_PAUSE = 30.0
"""Most seconds between two attempts to bring a faulty robot up."""
_HANGS = 30.0
"""Seconds that an inference may take where nothing moves meanwhile."""


class ControlLoop:
    """Drives one robot until the desk says stop."""

    def __init__(
        self,
        robot: Robot,
        *,
        human: Human | None,
        guard: Guard,
        shadow: Shadow,
        schedule: Schedule,
        desk: Desk,
        spool: Spool,
        memory: Memory,
        standing: Standing,
        report: Reporter,
        period: float,
        experience: Experience | None = None,
        clock: Clock | None = None,
        thinker: Asks | None = None,
    ) -> None:
        """`period`: seconds of the clock per control step; `experience`: when it is spooled."""
        self._robot = robot
        self._human = human
        self._guard = guard
        self._shadow = shadow
        self._schedule = schedule
        self._desk = desk
        self._memory = memory
        self._standing = standing
        self._report = report
        self._period = period
        self._clock = clock or RealClock()
        self._thinker = thinker or Thinker()
        self._scribe = Scribe(
            report.who,
            spool,
            quality=robot.spec.image_quality,
            wanted=experience or Experience(),
            spooled=report.spooled,
        )
        self._run: EpisodeRun | None = None
        self._slowest: float | None = None  # seconds of an inference in this episode
        self._newest: int | None = None  # greatest sequence that drove
        self._taken_up = 0.0  # monotonic; when the last was fetched that was taken up anew

    def run(self) -> None:
        """The thread's life. Returns when the desk says stop; raises only our own faults."""
        faults = 0
        self._scribe.close_unfinished()
        while not self._desk.stopping:
            done = self._desk.tally.episodes
            try:
                self._desk.tally.state = RobotState.STARTING
                self._robot.connect()
                while (begun := self._desk.begin(self._rest)) is not None:
                    self._episode(*begun)
            except Exception:
                faults = 1 if self._desk.tally.episodes > done else faults + 1
                log.exception("the robot failed; it rests and is connected anew")
                self._desk.pause(min(_MOST_PAUSE, 0.5 * 2 ** min(faults, 10)))
            finally:
                self._run = None
                self._rest()
                self._close()
        self._scribe.close()
        self._shadow.close()
        self._thinker.close()

    def _episode(self, loaded: Loaded, swapped: bool) -> None:
        guard, tally = self._guard, self._desk.tally
        probation = self._desk.slot.on_probation
        guard.begin(loaded.digest, probation=probation)
        task = self._schedule.next()
        note = self._took_up(loaded) if swapped else None
        tally.task, tally.state = task, RobotState.RESETTING
        stamp = Stamp(
            id=secrets.token_hex(16),
            robot=self._report.who.robot,
            policy_digest=loaded.digest,
            policy_sequence=loaded.ref.sequence,
        )
        episode = None
        self._scribe.begin(loaded, self._clock.now())
        beside = self._desk.accompany(lambda slot: slot.begin(loaded.digest)).active
        self._shadow.begin(beside, loaded, task)
        try:
            try:
                self._run = EpisodeRun(
                    self._robot,
                    task,
                    stamp=stamp,
                    execute=loaded.policy.execute,
                    human=self._human,
                    guard=self._guarded,
                )
            finally:
                if note is not None:
                    note.join()
            try:
                with self._risk(loaded) if probation else contextlib.nullcontext():
                    self._drive(self._run, loaded, stamp.id)
            except Exception as fault:
                self._run.abort(f"robot: {fault!r}"[:200])
                raise
            finally:
                if self._run.steps:
                    episode = self._run.episode()
        finally:
            # In this order: an episode is told only once it is kept, and a policy that has to go
            # is gone before anything else can begin.
            frames = len(episode) if episode is not None else 0
            self._schedule.spent(task, frames)
            tally.guard_trips += guard.episode_trips
            clean = episode is not None and episode.judged is not None and not guard.abort
            slot = self._desk.change(lambda slot: slot.end(clean=clean))
            self._standing.keep(slot)
            self._desk.accompany(ShadowSlot.end)
            account = self._shadow.end()
            if episode is not None:
                self._keep(episode, loaded)
            if episode is not None and account is not None:
                self._report.shadow(episode, account)
            if guard.distrust:
                self._distrust(loaded)

    def _drive(self, run: EpisodeRun, loaded: Loaded, episode_id: str) -> None:
        tally = self._desk.tally
        ids = np.array([loaded.policy.spaces.task_id(tally.task)])
        clock = self._clock
        began = due = clock.now()
        self._slowest, told = None, 0
        while not run.done:
            if self._desk.overdue:
                run.abort("shutdown")
                break
            if run.wanted is not None:
                asked = clock.now()
                run.give(self._chunk(loaded, run, ids))
                self._slowest = max(self._slowest or 0.0, clock.now() - asked)
            human = run.control is not Control.POLICY
            tally.state = RobotState.HUMAN_CONTROL if human else RobotState.RUNNING
            seen = run.seen
            run.tick()
            if human:
                self._shadow.person(seen, run.done_last)
            if self._guard.episode_trips > told == 0:
                told = self._guard.episode_trips
                self._report.guard(loaded, episode_id, tally.task, self._guard.reasons[0])
            if self._guard.abort and not run.done:
                if found := self._guard.unsound:
                    log.warning("%d actions of the person's device were not finite", found)
                run.abort("guard")
                self._rest()
            self._scribe.tick(run, clock.now())
            # A late step is not caught up with: a burst of actions is worse than a slow one.
            due = max(due + self._period, clock.now())
            clock.sleep(max(0.0, due - clock.now()))
        tally.control_hz = run.steps / max(clock.now() - began, 1e-6)

    def _chunk(self, loaded: Loaded, run: EpisodeRun, ids: np.ndarray) -> Float:
        """The policy's next chunk (H, A), finite and there in time, whatever the policy does."""
        guard, seed, seen = self._guard, self._shadow.seed(), run.seen
        trips = guard.episode_trips

        def think() -> Float:
            if seed is not None:  # the same noise for both, or they differ by chance alone
                loaded.policy.seed(seed)
            chunk: Float = answer(loaded.policy, [seen], ids)[0]
            return chunk

        # Before its first action the robot is at rest: whatever warms up may take its time.
        moves = run.steps > 0 and not self._robot.spec.waits
        within = guard.patience * self._period if moves else _HANGS
        try:
            said = self._thinker.ask(loaded.policy, think, within)
            if said is None:
                kind = Trip.LATE if moves else Trip.FAILED
                guard.trip(f"no answer within {within:.3g} s", kind)
            chunk = guard.hold() if said is None else guard.chunk(said)
        except Exception as fault:  # noqa: BLE001 - a policy's fault is never the robot's
            guard.trip(f"the policy failed: {fault!r}"[:200])
            chunk = guard.hold()
        if seed is not None:
            sound = guard.episode_trips == trips
            did = chunk[: loaded.policy.execute] if sound else None
            self._shadow.ask(Asked(seen, did, seed))
        return chunk

    def _guarded(self, action: Float) -> Float:
        by_policy = self._run is None or self._run.control is Control.POLICY
        return self._guard.action(action, by_policy=by_policy)

    def _took_up(self, loaded: Loaded) -> threading.Thread:
        """Another policy drives; join the thread before it does."""
        if loaded.created_at:
            total = self._desk.tally.policy_latency = max(0.0, time.time() - loaded.created_at)
            self._measure_uptake(loaded, total)
        if loaded.fetched > self._taken_up:  # not given back, nor come back from the disk
            self._taken_up = loaded.fetched
            of, since = tracing.of_version(loaded.digest), tracing.at(loaded.fetched)
            robot = self._report.who.robot
            tracing.tell(tracing.Stage.SWAP, of, since, time.time(), robot=robot)
        loaded.policy.seed(secrets.randbits(31))
        # While the robot is reset: the disk takes its time.
        note = threading.Thread(target=self._remember, args=(loaded,), name="memory")
        note.start()
        self._report.swap(loaded)
        return note

    def _remember(self, loaded: Loaded) -> None:
        try:
            self._memory.drive(loaded)
        except Retry as fault:  # only a restart without a network would miss it
            log.warning("the new policy is not remembered: %s", fault)

    def _risk(self, loaded: Loaded) -> contextlib.AbstractContextManager[None]:
        return self._standing.driving(loaded.ref, loaded.epoch)

    def _measure_uptake(self, loaded: Loaded, total: float) -> None:
        """Of one newer than all before: one given back, or come back from the disk, is no news."""
        sequence, newest = loaded.ref.sequence, self._newest
        self._newest = max(sequence, newest or 0)
        if newest is not None and newest < sequence:
            fetch, wait = loaded.fetched - loaded.heard, time.monotonic() - loaded.fetched
            self._desk.tally.uptake = Uptake(sequence=sequence, fetch=fetch, wait=wait, total=total)

    def _keep(self, episode: Episode, loaded: Loaded) -> None:
        tally = self._desk.tally
        try:
            self._scribe.end(episode)
            tally.spool_fault = ""
        except (Reject, Retry) as fault:
            tally.lost += 1
            tally.spool_fault = f"Episodes are lost: {fault}."
            log.error("episode %s is lost: %s", episode.id, fault)  # noqa: TRY400
        tally.episodes += 1
        tally.successes += episode.success
        tally.interventions += not episode.autonomous
        so_far = tally.tasks.get(episode.task, TaskTally())
        tally.tasks = {**tally.tasks, episode.task: tallied(so_far, episode)}
        self._report.outcome(episode, loaded, latency=self._slowest)

    def _distrust(self, loaded: Loaded) -> None:
        slot = self._desk.change(Slot.distrust)
        back = f"version {slot.active.ref.sequence} drives again" if slot.active else "safe stop"
        why = f"taken back by the guard, {back}: {self._guard.reasons[-1]}"
        log.error("version %d: %s", loaded.ref.sequence, why)
        self._desk.tally.fallbacks += 1
        # Barred first: a program that ends in between must not begin with it again.
        self._standing.bar(loaded.ref, loaded.epoch, why)
        self._standing.keep(slot)
        try:
            self._memory.drive(slot.active)
        except Retry as fault:
            log.warning("not remembered: %s", fault)
        self._report.refusal(loaded.ref, loaded.epoch, why)
        self._report.distrusted()

    def _rest(self) -> None:
        try:
            self._robot.safe_stop()
        except Exception:
            log.exception("safe_stop failed; the robot's own controller has to stop it")

    def _close(self) -> None:
        try:
            self._robot.close()
        except Exception:
            log.exception("close failed")
