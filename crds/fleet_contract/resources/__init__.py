"""The three resources as pydantic models: the one source of CRDs, docs and Python types."""

from fleet_contract.resources.analysis import Analysis
from fleet_contract.resources.base import Condition, ObjectMeta, Resource, Spec, Status, seconds
from fleet_contract.resources.gates import GatePhase, Gates, GateStatus, GateTask
from fleet_contract.resources.job_status import FleetTrainingJobStatus
from fleet_contract.resources.learning import Task
from fleet_contract.resources.policy_version import (
    CohortStatus,
    PolicyPhase,
    PolicyVersion,
    PolicyVersionSpec,
    PolicyVersionStatus,
)
from fleet_contract.resources.robot_actor import (
    RobotActor,
    RobotActorSpec,
    RobotActorStatus,
    RobotMode,
)
from fleet_contract.resources.rollout import (
    Rollout,
    RolloutMode,
    RolloutPhase,
    RolloutStatus,
    Step,
    Strategy,
    VersionRef,
)
from fleet_contract.resources.schedule import (
    Approval,
    OnDeadline,
    PostPromotion,
    Selector,
    Window,
)
from fleet_contract.resources.shadow import Shadow
from fleet_contract.resources.simulation import Simulation
from fleet_contract.resources.training_job import FleetTrainingJob, FleetTrainingJobSpec

KINDS: tuple[type[Resource], ...] = (FleetTrainingJob, RobotActor, PolicyVersion)

__all__ = [
    "KINDS",
    "Analysis",
    "Approval",
    "CohortStatus",
    "Condition",
    "FleetTrainingJob",
    "FleetTrainingJobSpec",
    "FleetTrainingJobStatus",
    "GatePhase",
    "GateStatus",
    "GateTask",
    "Gates",
    "ObjectMeta",
    "OnDeadline",
    "PolicyPhase",
    "PolicyVersion",
    "PolicyVersionSpec",
    "PolicyVersionStatus",
    "PostPromotion",
    "Resource",
    "RobotActor",
    "RobotActorSpec",
    "RobotActorStatus",
    "RobotMode",
    "Rollout",
    "RolloutMode",
    "RolloutPhase",
    "RolloutStatus",
    "Selector",
    "Shadow",
    "Simulation",
    "Spec",
    "Status",
    "Step",
    "Strategy",
    "Task",
    "VersionRef",
    "Window",
    "seconds",
]
