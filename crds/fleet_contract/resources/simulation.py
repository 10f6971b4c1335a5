"""The simulation gate: what a candidate must do in simulation before a robot runs it."""

from pydantic import Field

from fleet_contract.resources.base import Duration, FreeForm, Name, Spec
from fleet_contract.resources.learning import Resources


class SimulatedWorld(Spec):
    """A world in place of the one that the tasks themselves name."""

    name: str = Field(
        max_length=63,
        description="Adapter, as registered under the entry point fleetloop.environments.",
    )
    parameters: FreeForm = Field(
        default={},
        description="The adapter's own parameters, beside tasks and seed; it refuses those it does "
        "not know.",
    )


class Simulation(Spec):
    """A batch/v1 Job runs the candidate, by itself and from fixed starts, and counts."""

    tasks: list[Name] = Field(
        default=[],
        max_length=64,
        description="Which of the job's tasks are run; empty: all of them.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    environment: SimulatedWorld | None = Field(
        default=None,
        description="The world they are run in; without it: the one that the tasks name.",
    )
    episodes: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Episodes of each task. They begin from the same starts for every version.",
    )
    min_success_rate: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of its episodes that must succeed, in every task.",
    )
    max_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Most by which a task's share may be below that of the stable version at its "
        "own gate, as a share of episodes. Not judged where that gate did not ask the same.",
    )
    deadline: Duration = Field(
        default="30m",
        description="Time in which the Job must end; one that does not holds the version.",
    )
    image: str = Field(
        default="", max_length=512, description="Container image; empty: the simulated robots'."
    )
    resources: Resources = Field(default=Resources(), description="Requests and limits.")
    pod_overrides: FreeForm = Field(
        default={}, description="Merged into the pod's spec: node selectors, tolerations, volumes."
    )
