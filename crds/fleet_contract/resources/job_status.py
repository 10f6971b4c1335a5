"""Where a FleetTrainingJob stands."""

from typing import Annotated

from pydantic import Field

from fleet_contract import names
from fleet_contract.resources.base import (
    REQUEST_MAX,
    Model,
    Status,
)
from fleet_contract.resources.rollout import RolloutStatus, VersionRef

HANDLED_MAX = 32
"""Requests of which a job remembers that they were acted upon."""


class RobotsStatus(Model):
    """The fleet in numbers."""

    desired: int = Field(default=0, description="RobotActors of this job that are not suspended.")
    connected: int = Field(default=0, description="Of these, how many were heard of lately.")
    synced: int = Field(default=0, description="Of these, how many run what they are assigned.")


class LearnerStatus(Model):
    """The learner's current run."""

    run: int = Field(default=0, description="Number of the run; each is a batch/v1 Job.")
    spec_hash: str = Field(default="", max_length=64, description="What the run was made from.")
    stage: str = Field(default="", max_length=32, description="What the learner is doing.")
    step: int = Field(default=0, description="Updates so far, some seconds ago.")
    goal_step: int = Field(
        default=0, description="Updates after which the offline stage ends; 0 without one."
    )
    epoch: int = Field(default=0, description="Epoch of the learner last heard of.")
    undemonstrated: list[Annotated[str, Field(max_length=63)]] = Field(
        default=[],
        max_length=64,
        description="Tasks of which the datasets show nothing it can learn from, while they show "
        "others: robots alone will.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class TaskStatus(Model):
    """How one task fares, over its latest judged episodes."""

    name: str = Field(max_length=63, description="The task.")
    episodes: int = Field(default=0, description="Judged episodes it is measured on.")
    success_rate: str = Field(default="", max_length=8, description="Autonomous success rate.")


class AssignmentStatus(Model):
    """The last assignment document, so that its epoch survives a lost broker."""

    term: int = Field(default=0, description="The operator's term.")
    generation: int = Field(default=0, description="Raised by people to recover a lost stream.")
    epoch: int = Field(default=0, description="Grows with every document.")
    content_hash: str = Field(default="", max_length=64, description="What the document says.")


class FleetTrainingJobStatus(Status):
    """Where the job stands."""

    phase: str = Field(default="", max_length=32, description="One word for people.")
    replicas: int = Field(default=0, description="Simulated robots there are; for kubectl scale.")
    selector: str = Field(
        default="", max_length=256, description="Label selector of their pods; for kubectl scale."
    )
    robots: RobotsStatus = Field(default=RobotsStatus(), description="The fleet in numbers.")
    learner: LearnerStatus = Field(default=LearnerStatus(), description="The current run.")
    stable: VersionRef | None = Field(default=None, description="The version the fleet runs.")
    rollout: RolloutStatus = Field(default=RolloutStatus(), description="The rollout in progress.")
    last_known_good: list[VersionRef] = Field(
        default=[],
        max_length=10,
        description="Versions the fleet ran before the stable one, the latest last: where a "
        "rollback returns to.",
    )
    rolled_back: list[int] = Field(
        default=[],
        max_length=1000,
        description="Sequences taken back; never assigned again, unless pinned or by retry.",
    )
    handled_requests: list[Annotated[str, Field(max_length=REQUEST_MAX)]] = Field(
        default=[],
        max_length=HANDLED_MAX,
        description=f"Values of the annotation {names.Label.REQUEST} acted upon, the latest last: "
        "none counts again, whoever writes it anew.",
    )
    last_sequence: int = Field(default=0, description="Newest sequence ever made a candidate.")
    assignment: AssignmentStatus = Field(
        default=AssignmentStatus(), description="The last assignment document."
    )
    tasks: list[TaskStatus] = Field(
        default=[],
        max_length=64,
        description="How each task fares.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    success_rate: str = Field(
        default="", max_length=8, description="Mean autonomous success over the tasks."
    )
    episodes: int = Field(default=0, description="Episodes the fleet has reported, about.")
