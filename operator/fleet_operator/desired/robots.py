"""Simulated robots: their RobotActor and its one pod. Pure."""

from typing import Any

from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.names import Identity, Kind, Label, Role
from fleet_contract.resources import FleetTrainingJob, RobotActor
from fleet_contract.resources.fleet import Simulated
from fleet_operator.desired import pods
from fleet_operator.desired.transport import Transport

GRACE = 30  # seconds to end the episode and spool it
SEED_STRIDE = 1000  # between two robots, so that a robot may count its episodes from its seed


def simulated_robot(job: FleetTrainingJob, index: int) -> dict[str, Any]:
    """The RobotActor of one simulated replica."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.ROBOT_ACTOR.value,
        "metadata": {
            "name": names.simulated_robot(job.metadata.name, index),
            "namespace": job.metadata.namespace,
            "labels": pods.labels(job, Role.ROBOT, SIMULATED="true"),
            "ownerReferences": pods.owner(Kind.TRAINING_JOB, job.metadata.name, job.metadata.uid),
        },
        "spec": {
            "job": job.metadata.name,
            "mode": "Simulated",
            "seed": SEED_STRIDE * (index + 1),
        },
    }


def config(job: FleetTrainingJob, robot: RobotActor) -> RobotConfig:
    """What the robot is told."""
    simulated = job.spec.robots.simulated
    return RobotConfig(
        tasks=job.spec.tasks,
        control_hz=robot.spec.control_hz or simulated.control_hz,
        time_scale=simulated.time_scale,
        interventions=simulated.interventions,
        seed=robot.spec.seed,
        link=robot.spec.link,
        guard=robot.spec.guard,
        experience=job.spec.transport.experience,
    )


def template_hash(job: FleetTrainingJob, robot: RobotActor, to: Transport) -> str:
    """Differs where the robot's pod has to be another; like the learner's, blind to defaults."""
    simulated = job.spec.robots.simulated
    return pods.digest(
        {
            "job": job.metadata.uid,
            "robot": robot.metadata.uid,
            "config": config(job, robot).model_dump(
                mode="json", by_alias=True, exclude_defaults=True
            ),
            "pod": simulated.model_dump(
                mode="json",
                by_alias=True,
                exclude_defaults=True,
                include={"image", "resources", "pod_overrides"},
            ),
            "transport": list(filter(None, [to.nats_url, to.storage_url, to.storage_secret]))
            + [names.users(names.user(Identity.ROBOT, robot.metadata.name))] * to.accounts,
        }
    )


def robot_pod(job: FleetTrainingJob, robot: RobotActor, to: Transport) -> dict[str, Any]:
    """The robot's pod; the fixed name is what forbids a second one."""
    simulated, name = job.spec.robots.simulated, robot.metadata.name
    default = Simulated.model_fields["image"].default
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.robot_pod(name),
            "namespace": robot.metadata.namespace,
            "labels": pods.labels(job, Role.ROBOT, ROBOT=name, SIMULATED="true"),
            "annotations": {Label.TEMPLATE_HASH.value: template_hash(job, robot, to)},
            "ownerReferences": pods.owner(Kind.ROBOT_ACTOR, name, robot.metadata.uid),
        },
        "spec": pods.pod_spec(
            name="robot",
            image=to.robot_image if simulated.image == default else simulated.image,
            command=["python", "-m", "fleet_runtime.robot"],
            env=pods.environment(
                job,
                to,
                spec=config(job, robot).model_dump_json(by_alias=True, exclude_none=True),
                ROBOT=name,
                ROBOT_UID=robot.metadata.uid,
                SPOOL_DIR=pods.SPOOL,
                LOG_FORMAT=to.log_format,
                OTLP_ENDPOINT=to.traces,
                **({"STORAGE_GRANTS": "true"} if to.grants else {}),
            ),
            resources=simulated.resources,
            overrides=simulated.pod_overrides,
            grace=GRACE,
            restart="Always",
            # Who is let in by the clerk holds no key.
            to=to._replace(storage_secret="") if to.grants else to,
            user=names.user(Identity.ROBOT, name),
            spool=True,
        ),
    }
