"""The human at a robot, scripted: when they take over, and what they do then.

HG-DAgger's gate (Kelly et al., arXiv 1810.02890) belongs to the human alone. The rules here stand
in for one who helps early and often (HIL-SERL's advice to operators), then steps back:

* some episodes get a *scheduled* takeover, early and short: it shows corrections near the start
  whether or not the policy needs them, and says nothing about the policy;
* an attempt that makes no headway is taken over (*caused*) for a while, then handed back;
* the last takeover allowed lasts to the end of the attempt.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Float


class Control(enum.Enum):
    """Who decides the next action, and why."""

    POLICY = "policy"
    SCHEDULED = "scheduled"  # a human, because it was due
    CAUSED = "caused"  # a human, because the policy stalled or strayed


class Human(Protocol):
    """Whoever may take a robot over."""

    def begin(self, task: str) -> None:
        """A new attempt starts."""
        ...

    def control(self, step: int, reward: float) -> Control:
        """Who decides step `step`; `reward` is the last step's (0 before the first)."""
        ...

    def act(self, observation: Float) -> Float:
        """The human's action (A,) for observation (O,); asked only while in control."""
        ...


class Gate:
    """The takeover rules of one attempt, as a machine fed once per step. No clock, no robot."""

    def __init__(self, settings: GateSettings, rng: np.random.Generator) -> None:
        self._settings = settings
        self._rng = rng
        due = rng.random() < settings.scheduled_fraction
        self._due = int(rng.integers(settings.scheduled_before)) if due else None
        self._until = 0  # the step at which the current takeover ends
        self._why = Control.POLICY
        self._best: float | None = None  # no reward seen yet
        self._risen = 0  # the step of the last headway, or of the last hand-back
        self.takeovers = 0

    def control(self, step: int, reward: float) -> Control:
        """Who decides this step. Steps must come in order, from 0."""
        settings = self._settings
        best = self._best
        if step > 0 and (best is None or reward > best + settings.stall_rise * abs(best)):
            self._best, self._risen = reward, step
        if self._why is not Control.POLICY:
            self._risen = step
            if step < self._until:
                return self._why
            self._why = Control.POLICY
        if self._due is not None and step >= self._due:
            self._due = None
            low, high = settings.scheduled_steps
            return self._take(Control.SCHEDULED, step, int(self._rng.integers(low, high + 1)))
        if step - self._risen >= settings.stall_steps:
            return self._take(Control.CAUSED, step, settings.caused_steps)
        return Control.POLICY

    def _take(self, why: Control, step: int, steps: int) -> Control:
        self.takeovers += 1
        last = self.takeovers >= self._settings.takeovers
        self._until = np.iinfo(np.int64).max if last else step + steps
        self._why = why
        return why


class ScriptedHuman:
    """A human played by a robot's scripted experts, with a gate and a trembling hand."""

    def __init__(
        self,
        expert: Callable[[str], Callable[[Float], Float]],
        settings: GateSettings,
        *,
        seed: int = 0,
    ) -> None:
        self._expert = expert
        self._settings = settings
        self._rng = np.random.default_rng(seed)
        self.begin_gate()

    def begin_gate(self) -> None:
        """Draw the next attempt's schedule."""
        self.gate = Gate(self._settings, self._rng)

    def begin(self, task: str) -> None:
        """A new attempt: a fresh schedule, an expert without memory."""
        self.begin_gate()
        self._act = self._expert(task)

    def control(self, step: int, reward: float) -> Control:
        """The gate's decision."""
        return self.gate.control(step, reward)

    def act(self, observation: Float) -> Float:
        """The expert's action with the hand's noise on it."""
        action = self._act(observation)
        tremble = self._rng.normal(0.0, self._settings.noise, action.shape)
        return (action + tremble).astype(np.float32)


class GateSettings(BaseModel):
    """When the scripted human takes over. Steps are control steps."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    scheduled_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of attempts with a scheduled takeover."""
    scheduled_before: Annotated[int, Field(ge=1)] = 50
    """It begins at a random step before this one."""
    scheduled_steps: tuple[int, int] = (15, 35)
    """It lasts a random number of steps between these, both included."""
    stall_steps: Annotated[int, Field(ge=1)] = 25
    """Without headway for this long the human takes over."""
    stall_rise: Annotated[float, Field(ge=0)] = 0.05
    """Headway is a best reward that rises by this share of itself."""
    caused_steps: Annotated[int, Field(ge=1)] = 30
    """Such a takeover lasts this long, then control is handed back."""
    takeovers: Annotated[int, Field(ge=1)] = 4
    """This takeover of an attempt lasts to its end."""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the hand's noise on each action, in the action's unit."""
