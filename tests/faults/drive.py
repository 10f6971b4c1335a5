"""Rows 13 and 16: a control loop on virtual time, policies that go wrong, a network that meddles.

Everything runs in the control thread, so a seed plays the same again: what the network's thread
would do to the desk is done between two steps, at any of them.
"""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING, Any

import numpy as np

from fleet_contract.messages import Event, EventKind
from fleet_runtime.robot.guard import TOLERANCE, GuardSettings
from fleet_runtime.robot.swap import Slot
from helpers.alone import Alone, loaded
from helpers.virtual import VirtualClock, VirtualThinker
from helpers.world import SPEC, PointRobot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleet_runtime.experience.types import Float, Images

HZ = 20.0
MOVING = dataclasses.replace(SPEC, waits=False)
VERSIONS = 400
LATE = 0.9990234375
"""What a late answer says; no other does."""
FAULTS: dict[str, Callable[[random.Random, Float], object]] = {
    "not a number": lambda _, chunk: chunk * np.nan,
    "one that is not finite": lambda draw, chunk: _with(draw, chunk, np.inf),
    "out of bounds": lambda draw, chunk: _with(draw, chunk, draw.choice([-1.01, 7.0, 1e30])),
    "jumps": lambda draw, chunk: _with(draw, chunk, draw.choice([-1.0, 1.0])),
    "another width": lambda _, chunk: np.zeros((len(chunk), 3), np.float32),
    "a row": lambda _, chunk: chunk[0],
    "nothing": lambda _, chunk: chunk[:0],
    "complex": lambda _, chunk: chunk.astype(complex),
    "None": lambda *_: None,
    "words": lambda _, chunk: np.full(chunk.shape, "left", object),
    "raises": lambda *_: 1 / 0,
}


def _with(draw: random.Random, chunk: Float, number: float) -> Any:
    """With that as one of its actions."""
    made = chunk.astype(np.float64)
    made[draw.randrange(len(made))] = number
    return made


class Coded:
    """A policy whose every action is its number; now and then it does something else."""

    spaces = MOVING.spaces()
    execute = 2

    def __init__(self, sequence: int, world: World, faulty: float) -> None:
        self.sequence, self.world, self.faulty = sequence, world, faulty

    @property
    def code(self) -> float:
        return self.sequence / (2 * VERSIONS)

    def seed(self, seed: int) -> None:
        """Nothing of its own is random."""

    def act(self, observation: Float, task: object, images: Images | None = None) -> Any:
        draw, world = self.world.draw, self.world
        chunk: Any = np.full((4, 1), self.code, np.float32)
        if draw.random() >= self.faulty:
            world.thinker.takes(draw.uniform(0, 0.99) / HZ)
            return [chunk]
        world.faults += 1
        if draw.random() < 0.3:
            # At rest, before an episode's first action, it may take its time.
            slow = [1e9] if world.robot.last is None else [1.01, 2.5, 1e9]
            world.thinker.takes(draw.choice(slow) / HZ)
            return [np.full_like(chunk, LATE)]
        kind = draw.choice(sorted(FAULTS))
        return [FAULTS[kind](draw, chunk)]


class Watched(PointRobot):
    """Looks at everything that reaches its motor."""

    def __init__(self, world: World) -> None:
        super().__init__(dataclasses.replace(MOVING, horizon=world.horizon))
        self.world = world
        self.last: float | None = None
        self.acted_at = 0.0
        self.heard: set[float] = set()  # in this episode

    def reset(self, task: str, seed: int | None = None) -> None:
        super().reset(task, seed)
        self.last, self.heard = None, set()
        self.world.begun()

    def act(self, action: Float) -> Float:
        world, said = self.world, float(action[0])
        world.acts += 1
        if not -1.0 <= said <= 1.0 or action.dtype != np.float32 or action.shape != (1,):
            world.wrong.append(f"act {world.acts}: {action!r} reached the motor")
        if said == np.float32(LATE):
            world.wrong.append(f"act {world.acts}: a late answer reached the motor")
        rate = world.settings.rate
        if self.last is not None:
            overdue = (world.clock.now() - self.acted_at) * HZ - 1
            world.hold_ticks = max(world.hold_ticks, overdue)
            if rate and abs(said - self.last) > 2 * rate * (1 + 2 * TOLERANCE) + 1e-6:
                world.wrong.append(f"act {world.acts}: jumped from {self.last} to {said}")
        self.last, self.acted_at = said, world.clock.now()
        self.heard.add(round(said * 2 * VERSIONS))
        self.place = 0.0  # its episodes end by their length alone
        world.meddle()
        return action


class World:
    """One run: what is played, and what was seen."""

    def __init__(
        self,
        seed: int,
        *,
        faulty: float,
        horizon: int,
        offered: float,
        settings: GuardSettings,
    ) -> None:
        """`faulty` of all answers, after `offered` of all steps another version."""
        self.draw, self.horizon, self.offered = random.Random(seed), horizon, offered
        self.faulty, self.settings = faulty, settings
        self.clock = VirtualClock()
        self.thinker = VirtualThinker(self.clock)
        self.robot = Watched(self)
        self.alone: Alone | None = None
        self.wrong: list[str] = []
        self.acts = self.faults = self.offers = self.episodes = self.swaps = self.taken_back = (
            self.gone_back
        ) = 0
        self.hold_ticks = 0.0
        self._epoch = 0
        self._denied = ""

    def play(self, folder: Path, enough: Callable[[World], bool]) -> dict[str, Any]:
        """Until it is enough; its figures."""
        with Alone(
            folder,
            self.robot,
            hz=HZ,
            guard=self.settings,
            clock=self.clock,
            thinker=self.thinker,
            hear=self._hear,
            until=lambda: enough(self),
        ) as self.alone:
            self.offer()
            self.alone.ended(600)
        return {
            "wrong": self.wrong[:5],
            "acts": self.acts,
            "faults": self.faults,
            "holds": self.alone.desk.tally.guard_trips,
            "hold_ticks": round(self.hold_ticks, 6),
            "episodes": self.episodes,
            "offers": self.offers,
            "swaps": self.swaps,
            "taken_back": self.taken_back,
            "gone_back": self.gone_back,
        }

    def offer(self) -> None:
        """The fleet names another version, known or new."""
        assert self.alone is not None
        self._epoch += 1
        self.offers += 1
        self._denied = ""
        sequence = self.draw.randint(1, VERSIONS)
        policy: Any = Coded(sequence, self, self.faulty)
        self.alone.desk.change(
            lambda slot: slot.deny(frozenset()).offer(loaded(sequence, policy, self._epoch))
        )

    def meddle(self) -> None:
        """Between two steps: mostly nothing."""
        assert self.alone is not None
        what = self.draw.random()
        if what < self.offered:
            self.offer()
        elif what < 1.1 * self.offered:
            self.alone.desk.change(Slot.withdraw)
        elif what < 1.2 * self.offered:
            active = self.alone.desk.slot.active
            assert active is not None
            number = self.draw.choice([active.ref.sequence, self.draw.randint(1, VERSIONS)])
            self._denied = denied = loaded(number, None).digest  # type: ignore[arg-type]
            self.alone.desk.change(lambda slot: slot.deny(frozenset({denied})))

    def begun(self) -> None:
        """An episode begins."""
        assert self.alone is not None
        active = self.alone.desk.slot.active
        if active is None or active.digest == self._denied:
            self.wrong.append(f"episode {self.episodes + 1} begins under one that is denied")

    def _hear(self, event: Event) -> None:
        """What the robot tells, as it tells it."""
        self.swaps += event.kind is EventKind.SWAP
        if event.kind is EventKind.REFUSAL:
            self.taken_back += 1
            assert self.alone is not None
            slot = self.alone.desk.slot
            self.gone_back += slot.good is not None
            if slot.active is not slot.good:
                found = [one and one.ref.sequence for one in (slot.active, slot.good)]
                self.wrong.append(f"taken back: what drives, and the last good one: {found}")
            self.offer()  # or it might rest for ever
        if event.kind is EventKind.OUTCOME:
            self.episodes += 1
            assert event.policy is not None
            # 0 is what the robot holds before its first action; a jump is nobody's number.
            codes = {code for code in self.robot.heard if 0 < code <= VERSIONS}
            if codes - {event.policy.sequence}:
                self.wrong.append(
                    f"episode {self.episodes} is version {event.policy.sequence}'s and was "
                    f"driven by {sorted(codes)}"
                )
            assert self.alone is not None
            if self.alone.desk.slot.next is None:
                self.offer()


def swaps(folder: Path, seed: int, episodes: int) -> dict[str, Any]:
    """Row 13: versions are offered, withdrawn and denied at every step of an episode."""
    world = World(seed, faulty=0.01, horizon=12, offered=0.1, settings=GuardSettings())
    return world.play(folder, lambda world: world.episodes >= episodes)


def bad_actions(
    folder: Path, seed: int, acts: int, settings: GuardSettings | None = None
) -> dict[str, Any]:
    """Row 16: policies that answer late, never, or what no motor must hear."""
    settings = settings or GuardSettings(rate=random.Random(seed).choice([None, 0.3]))
    world = World(seed, faulty=0.01, horizon=600, offered=0.005, settings=settings)
    return world.play(folder, lambda world: world.acts >= acts)
