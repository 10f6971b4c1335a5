"""What a job says of the robots it makes by itself."""

from pydantic import Field

from fleet_contract.resources.base import (
    FreeForm,
    Spec,
)
from fleet_contract.resources.learning import Resources


class Interventions(Spec):
    """When the scripted human of a simulated robot takes over."""

    scheduled: float = Field(
        default=0.5, ge=0, le=1, description="Share of episodes with one takeover at a random step."
    )
    stall_steps: int = Field(
        default=25,
        ge=0,
        le=100_000,
        description="Steps without progress before the human steps in; 0: never.",
    )


class Simulated(Spec):
    """Robots the operator makes by itself."""

    replicas: int = Field(default=0, ge=0, le=10_000, description="How many simulated robots.")
    image: str = Field(
        default="fleetloop-robot:latest", max_length=512, description="Container image."
    )
    control_hz: float = Field(
        default=20.0, gt=0, le=10_000, description="Control steps per second of robot time."
    )
    time_scale: float = Field(
        default=1.0, gt=0, le=1000, description="Robot seconds per wall-clock second."
    )
    interventions: Interventions = Field(
        default=Interventions(), description="When the scripted human takes over."
    )
    resources: Resources = Field(default=Resources(), description="Requests and limits.")
    pod_overrides: FreeForm = Field(
        default={}, description="Merged into the pod's spec: node selectors, tolerations, volumes."
    )


class Robots(Spec):
    """The fleet, as far as the job makes it."""

    simulated: Simulated = Field(
        default=Simulated(), description="Simulated robots; real ones are RobotActors of their own."
    )
