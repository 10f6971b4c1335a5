"""One run of a learner as a batch/v1 Job. Pure."""

from typing import Any

from fleet_contract import names
from fleet_contract.agents import LearnerConfig
from fleet_contract.names import Identity, Kind, Label, Role
from fleet_contract.resources import FleetTrainingJob
from fleet_contract.resources.experience import ExperienceMode
from fleet_contract.resources.learning import Learner
from fleet_operator.desired import pods
from fleet_operator.desired.transport import Transport

MAX_BACKOFF = 2**31 - 1  # a learner that dies comes back, however often
GRACE = 60  # seconds to save a checkpoint


def spec_hash(job: FleetTrainingJob) -> str:
    """Differs where a field does whose change needs a new run.

    Only what people wrote counts, never a default: a newer operator, which knows more fields
    and makes other pods, does not restart learners.
    """
    fields = {"tasks", "algorithm", "policy", "offline", "sampler", "learner", "publish"}
    secret = job.spec.transport.storage.secret_ref.name
    mode = job.spec.transport.experience.mode
    return pods.digest(
        job.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, include=fields)
        | ({"secret": secret} if secret else {})
        | ({"experience": mode.value} if mode is not ExperienceMode.EPISODE else {})
    )


def config(job: FleetTrainingJob) -> LearnerConfig:
    """What the learner is told."""
    spec = job.spec
    return LearnerConfig(
        tasks=spec.tasks,
        algorithm=spec.algorithm,
        policy=spec.policy,
        offline=spec.offline,
        sampler=spec.sampler,
        publish=spec.publish,
        checkpoint=spec.learner.checkpoint,
        replicas=spec.learner.replicas,
        compute=spec.learner.compute,
        batch_size=spec.learner.batch_size,
        updates_per_episode=spec.learner.updates_per_episode,
        control_hz=spec.robots.simulated.control_hz,
        experience=spec.transport.experience,
    )


def learner_job(job: FleetTrainingJob, run: int, to: Transport) -> dict[str, Any]:
    """The Job of one run; its template is immutable, so another run is another Job."""
    learner = job.spec.learner
    default = Learner.model_fields["image"].default
    labels = pods.labels(job, Role.LEARNER, RUN=str(run))
    queue = job.metadata.labels.get(Label.KUEUE_QUEUE)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.learner_job(job.metadata.name, run),
            "namespace": job.metadata.namespace,
            "labels": labels | ({Label.KUEUE_QUEUE.value: queue} if queue else {}),
            "annotations": {Label.TEMPLATE_HASH.value: spec_hash(job)},
            "ownerReferences": pods.owner(Kind.TRAINING_JOB, job.metadata.name, job.metadata.uid),
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": learner.replicas,
            "parallelism": learner.replicas,
            "backoffLimit": MAX_BACKOFF,
            # A second learner only when the first is gone, not when it is going.
            "podReplacementPolicy": "Failed",
            # Kueue starts it when there is room; only it may flip this later.
            **({"suspend": True} if queue else {}),
            "template": {
                "metadata": {"labels": labels},
                "spec": pods.pod_spec(
                    name="learner",
                    image=to.learner_image if learner.image == default else learner.image,
                    command=["python", "-m", "fleet_runtime.learner"],
                    env=pods.environment(
                        job,
                        to,
                        spec=config(job).model_dump_json(by_alias=True, exclude_none=True),
                        KEY_FILE=f"{pods.KEYS}/{names.KEY}",
                        LOG_FORMAT=to.log_format,
                        OTLP_ENDPOINT=to.traces,
                    ),
                    resources=learner.resources,
                    overrides=learner.pod_overrides,
                    grace=GRACE,
                    # In its place and at once; the Job itself waits ten seconds after the first
                    # death, twice as long after each further one, and forgets none.
                    restart="OnFailure",
                    metrics=True,
                    signs=True,
                    to=to,
                    user=names.user(Identity.LEARNER, job.metadata.name),
                ),
            },
        },
    }
