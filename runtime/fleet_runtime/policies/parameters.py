"""What a job may say of a flow policy's size, in `spec.policy.parameters`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class FlowParameters(BaseModel):
    """Parameters of a job's `policy` field; limits keep a hostile bundle from allocating much."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    horizon: Annotated[int, Field(ge=1, le=256)] = 8
    """H: actions in a chunk, in control steps."""
    execute: Annotated[int, Field(ge=1, le=256)] = 4
    """Actions executed before the next chunk is asked for; at most `horizon`."""
    hidden: Annotated[int, Field(ge=1, le=4096)] = 256
    """Width of each hidden layer."""
    layers: Annotated[int, Field(ge=1, le=16)] = 3
    """Hidden layers."""
    noise: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Scale of the initial noise when acting: 1 samples the learned law, 0 its central path."""

    camera_width: Annotated[int, Field(ge=2, le=128)] = 16
    """Channels of the first layer behind each camera; later ones have up to four times as many."""
    camera_features: Annotated[int, Field(ge=1, le=1024)] = 64
    """Numbers each camera's frame becomes."""

    @model_validator(mode="after")
    def _executes_what_it_has(self) -> Self:
        if self.execute > self.horizon:
            raise ValueError(f"execute {self.execute} exceeds the horizon {self.horizon}")
        return self
