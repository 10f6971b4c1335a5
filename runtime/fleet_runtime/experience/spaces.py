"""The interface of one embodiment, shared by policies, robots and replay."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

CameraName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
Pixels: TypeAlias = Annotated[int, Field(ge=1, le=4096)]
Shape: TypeAlias = tuple[Pixels, Pixels, Literal[3]]
"""Of a frame: rows, columns, red green blue."""


class Spaces(BaseModel):
    """The interface of one embodiment: what goes in, what comes out, for which tasks.

    A policy's task id is the position of the task's name in `tasks`. `images` are the cameras it
    reads, by name, as frames of uint8; a robot may have more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tasks: Annotated[tuple[str, ...], Field(min_length=1, max_length=4096)]
    observation_size: Annotated[int, Field(ge=1, le=1_000_000)]
    action_low: Annotated[tuple[float, ...], Field(min_length=1, max_length=10_000)]
    action_high: tuple[float, ...]
    # Left out where there are none, so that programs from before cameras read what they always did.
    images: Annotated[
        dict[CameraName, Shape], Field(max_length=16, exclude_if=lambda cameras: not cameras)
    ] = {}

    @property
    def action_size(self) -> int:
        """A."""
        return len(self.action_low)

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(self.action_high) != len(self.action_low):
            raise ValueError("action_low and action_high differ in length")
        if any(low >= high for low, high in zip(self.action_low, self.action_high, strict=True)):
            raise ValueError("action_low must lie below action_high")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("a task is named twice")
        return self

    def task_id(self, task: str) -> int:
        """The id of a task's name; raises ValueError for one the policy was not made for."""
        return self.tasks.index(task)
