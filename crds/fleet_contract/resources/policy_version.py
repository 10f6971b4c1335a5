"""PolicyVersion: one version that became a candidate; written by the operator alone."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.messages import Digest
from fleet_contract.names import Kind
from fleet_contract.resources.base import Column, Model, Name, Resource, Spec, Status, cel
from fleet_contract.resources.gates import GateStatus


class PolicyPhase(StrEnum):
    """Where a version stands on its way through the fleet."""

    CANDIDATE = "Candidate"
    GATED = "Gated"
    STAGED = "Staged"
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    SUPERSEDED = "Superseded"


class LineageSpec(Spec):
    """The data a version was trained on."""

    first: int = Field(description="First journal segment.")
    through: int = Field(description="Last journal segment.")
    episodes: int = Field(description="Online episodes in them.")


class PolicyVersionSpec(Spec):
    """What was published; immutable."""

    job: Name = Field(description="Name of the FleetTrainingJob that made it.")
    job_uid: str = Field(max_length=64, description="UID of that job.")
    sequence: int = Field(ge=1, description="Number the learner gave it; later is greater.")
    parent: int | None = Field(default=None, description="Sequence it was trained from.")
    learner_epoch: int = Field(ge=1, description="Epoch of the learner that published it.")
    learner_step: int = Field(ge=0, description="Updates behind it.")
    digest: Digest = Field(description="Digest of its manifest.")
    uri: str = Field(max_length=1024, description="Key of its manifest in the job's store.")
    size: int = Field(ge=0, description="Size of the bundle in bytes.")
    signed_by: str = Field(
        default="",
        max_length=16,
        description="Name of the learner's key that signed its announcement.",
    )
    training_metrics: dict[str, float] = Field(
        default={}, max_length=32, description="What the learner measured at that step."
    )
    lineage: LineageSpec = Field(description="The data it was trained on.")
    rules = (
        cel("self == oldSelf", "a PolicyVersion is immutable; the learner publishes new ones"),
    )


class CohortStatus(Model):
    """What the robots that ran a version lived through in its last stage."""

    robots: int = Field(default=0, description="Robots in the cohort.")
    episodes: int = Field(default=0, description="Judged episodes.")
    successes: int = Field(default=0, description="Autonomous successes among them.")
    interventions: int = Field(default=0, description="Episodes with a takeover.")
    guard_trips: int = Field(default=0, description="Episodes in which the guard tripped.")


class PolicyVersionStatus(Status):
    """How the version fared."""

    phase: PolicyPhase = Field(
        default=PolicyPhase.CANDIDATE,
        description="Candidate, Gated, Staged, Promoted, RolledBack or Superseded.",
    )
    cohort: CohortStatus = Field(
        default=CohortStatus(), description="Evidence from the robots that ran it on trial."
    )
    success_rate: str = Field(
        default="", max_length=8, description="Autonomous success rate on trial."
    )
    gates: list[GateStatus] = Field(
        default=[],
        max_length=8,
        description="What its gates measured.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    message: str = Field(default="", description="Why it stands where it stands, in a sentence.")


class PolicyVersion(Resource):
    """One published policy."""

    kind_name = Kind.POLICY_VERSION
    summary = "A version of a job's policy: what was published, from which data, and its fate."
    columns = (
        Column("Job", ".spec.job"),
        Column("Sequence", ".spec.sequence", "integer"),
        Column("Step", ".spec.learnerStep", "integer"),
        Column("Phase", ".status.phase"),
        Column("Success", ".status.successRate"),
        Column("Age", ".metadata.creationTimestamp", "date"),
    )
    selectable = (".spec.job", ".spec.sequence")

    spec: PolicyVersionSpec = Field(
        description="What was published.", json_schema_extra={"x-fleet-change": "immutable"}
    )
    status: PolicyVersionStatus = Field(
        default=PolicyVersionStatus(), description="How it fared in the fleet."
    )
