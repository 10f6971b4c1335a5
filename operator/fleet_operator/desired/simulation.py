"""One run of the simulation gate as a batch/v1 Job. Pure."""

from typing import Any

from fleet_contract import names
from fleet_contract.agents import EXIT_REFUSED, GateConfig
from fleet_contract.messages import PolicyRef
from fleet_contract.names import Identity, Kind, Label, Role
from fleet_contract.resources import FleetTrainingJob, GateStatus, Simulation, Task, VersionRef
from fleet_contract.resources.base import seconds
from fleet_contract.resources.fleet import Simulated
from fleet_operator.desired import pods
from fleet_operator.desired.transport import Transport

CONTAINER = "gate"
GRACE = 5  # seconds; it saves nothing
RETRIES = 3  # pods after the first, for what another try may cure


def tasks(job: FleetTrainingJob, gate: Simulation) -> list[Task]:
    """Those that are run."""
    return [one for one in job.spec.tasks if not gate.tasks or one.name in gate.tasks]


def asked(job: FleetTrainingJob, gate: Simulation) -> str:
    """Differs where another run would be needed; thresholds are applied to what a run counted."""
    thresholds = {"min_success_rate", "max_drop"}
    return pods.digest(
        {
            "gate": gate.model_dump(
                mode="json", by_alias=True, exclude_defaults=True, exclude=thresholds
            ),
            "tasks": [
                one.model_dump(
                    mode="json",
                    by_alias=True,
                    exclude_defaults=True,
                    include={"name", "environment"},
                )
                for one in tasks(job, gate)
            ],
        }
    )


def template_hash(status: GateStatus, candidate: VersionRef) -> str:
    """Of which version and of what asked a Job is, beside its number."""
    return pods.digest([status.name.value, status.asked, candidate.digest])


def gate_job(
    job: FleetTrainingJob,
    gate: Simulation,
    status: GateStatus,
    candidate: VersionRef,
    to: Transport,
) -> dict[str, Any]:
    """The Job of one run."""
    labels = pods.labels(job, Role.GATE, RUN=str(status.run))
    queue = job.metadata.labels.get(Label.KUEUE_QUEUE)
    simulated = job.spec.robots.simulated.image
    default = to.robot_image if simulated == Simulated.model_fields["image"].default else simulated
    config = GateConfig(
        run=status.run,
        policy=PolicyRef(**candidate.model_dump(include={"sequence", "digest", "uri"})),
        tasks=tasks(job, gate),
        world=gate.environment,
        episodes=gate.episodes,
    )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.gate_job(job.metadata.name, status.run),
            "namespace": job.metadata.namespace,
            "labels": labels | ({Label.KUEUE_QUEUE.value: queue} if queue else {}),
            "annotations": {Label.TEMPLATE_HASH.value: template_hash(status, candidate)},
            "ownerReferences": pods.owner(Kind.TRAINING_JOB, job.metadata.name, job.metadata.uid),
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": RETRIES,
            # Kubernetes' own clock: it ends the pod also while no operator lives, and stands while
            # Kueue lets the Job wait.
            "activeDeadlineSeconds": max(1, round(seconds(gate.deadline))),
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": CONTAINER,
                            "operator": "In",
                            "values": [EXIT_REFUSED],
                        },
                    },
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            **({"suspend": True} if queue else {}),
            "template": {
                "metadata": {"labels": labels},
                "spec": pods.pod_spec(
                    name=CONTAINER,
                    image=gate.image or default,
                    command=["python", "-m", "fleet_runtime.gate"],
                    env=pods.environment(
                        job,
                        to,
                        spec=config.model_dump_json(by_alias=True, exclude_none=True),
                        LOG_FORMAT=to.log_format,
                    ),
                    resources=gate.resources,
                    overrides=gate.pod_overrides,
                    grace=GRACE,
                    # A pod that failed stays, with its words and its log, until the Job goes.
                    restart="Never",
                    to=to,
                    user=names.user(Identity.GATE, job.metadata.name),
                ),
            },
        },
    }
