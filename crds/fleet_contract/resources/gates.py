"""Gates: what a candidate passes before a robot runs it, and where it stands with them."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.names import Gate
from fleet_contract.resources.base import Model, Spec
from fleet_contract.resources.shadow import Shadow
from fleet_contract.resources.simulation import Simulation


class Gates(Spec):
    """Checks before a candidate acts on a robot; one that is absent is not asked for.

    A version passes them in this order, each when the one before it is passed.
    """

    simulation: Simulation | None = Field(
        default=None, description="Run the candidate in simulation first."
    )
    shadow: Shadow | None = Field(
        default=None,
        description="Let robots compute the candidate beside the version they run; it moves "
        "nothing.",
    )


class GatePhase(StrEnum):
    """Where a candidate stands with one gate."""

    RUNNING = "Running"
    BLOCKED = "Blocked"
    PASSED = "Passed"
    FAILED = "Failed"
    SKIPPED = "Skipped"


class GateTask(Model):
    """What was measured of one task."""

    name: str = Field(max_length=63, description="The task.")
    episodes: int = Field(default=0, description="Episodes run.")
    successes: int = Field(default=0, description="Those that succeeded.")


class GateStatus(Model):
    """One gate of one version."""

    name: Gate = Field(description="Which gate.")
    phase: GatePhase = Field(
        default=GatePhase.RUNNING,
        description="Running; Blocked: it cannot be run, and the version waits; Passed; Failed: "
        "the version is taken back; Skipped: by request, or there was nothing to ask.",
    )
    run: int = Field(
        default=0, description="Which run of a gate this is; one that is run anew gets another."
    )
    asked: str = Field(
        default="", max_length=64, description="Hash of what was asked; another is run anew."
    )
    started_at: str | None = Field(default=None, description="When it began, in RFC 3339.")
    events_from: int = Field(
        default=0, description="Events stream sequence from which what robots tell counts for it."
    )
    robots: list[str] = Field(
        default=[],
        max_length=100_000,
        description="Robots that compute the version beside the one they run, at its shadow gate.",
    )
    message: str = Field(default="", description="What it measured and what is asked: a sentence.")
    tasks: list[GateTask] = Field(
        default=[],
        max_length=64,
        description="What was measured, task by task.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
