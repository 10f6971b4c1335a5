"""Who lets a job's robots into the object store, as a batch/v1 Job without an end. Pure.

It has the store's keys, so that they do not. It is there as long as the job is, whether or not a
learner is: a robot that begins anew needs its policy.
"""

from collections.abc import Mapping
from typing import Any

from fleet_contract import names
from fleet_contract.names import Identity, Kind, Label, Role
from fleet_contract.resources import FleetTrainingJob
from fleet_contract.resources.learning import Learner, Resources
from fleet_operator.desired import pods
from fleet_operator.desired.learner import MAX_BACKOFF
from fleet_operator.desired.transport import Transport

GRACE = 5  # seconds; it keeps nothing
RESOURCES = Resources(requests={"cpu": "50m", "memory": "192Mi"})
"""It imports no torch."""


OF_POD = frozenset(
    {"serviceAccountName", "automountServiceAccountToken", "imagePullSecrets", "volumes"}
    | {"hostAliases", "dnsPolicy", "dnsConfig"}
)
OF_CONTAINER = frozenset({"env", "envFrom", "volumeMounts"})


def overrides(job: FleetTrainingJob) -> Mapping[str, Any]:
    """Of the learner's: by which it comes to the store; its size and its nodes are its own."""
    theirs = job.spec.learner.pod_overrides
    said = theirs.get("containers")  # what is no container, the API server refuses of the learner
    containers = [
        {"name": "clerk"} | {key: one[key] for key in OF_CONTAINER & one.keys()}
        for one in (said if isinstance(said, list) else [])
        if isinstance(one, dict) and one.get("name") == "learner"
    ]
    kept = {key: theirs[key] for key in OF_POD & theirs.keys()}
    return kept | ({"containers": containers} if containers else {})


def template_hash(job: FleetTrainingJob, to: Transport) -> str:
    """Differs where it has to be another; like the others, blind to a newer operator."""
    where = [to.nats_url, to.storage_url, to.storage_secret, to.accounts]
    return pods.digest([job.metadata.uid, job.spec.learner.image, where, overrides(job)])


def clerk_job(job: FleetTrainingJob, to: Transport) -> dict[str, Any]:
    """The one Job; its fixed name is what forbids a second one."""
    labels = pods.labels(job, Role.CLERK)
    default = Learner.model_fields["image"].default
    image = job.spec.learner.image
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.clerk_job(job.metadata.name),
            "namespace": job.metadata.namespace,
            "labels": labels,
            "annotations": {Label.TEMPLATE_HASH.value: template_hash(job, to)},
            "ownerReferences": pods.owner(Kind.TRAINING_JOB, job.metadata.name, job.metadata.uid),
        },
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": MAX_BACKOFF,
            "template": {
                "metadata": {"labels": labels},
                "spec": pods.pod_spec(
                    name="clerk",
                    image=to.learner_image if image == default else image,
                    command=["python", "-m", "fleet_runtime.clerk"],
                    env=pods.environment(job, to, LOG_FORMAT=to.log_format),
                    resources=RESOURCES,
                    overrides=overrides(job),
                    grace=GRACE,
                    restart="OnFailure",
                    metrics=True,
                    to=to,
                    user=names.user(Identity.CLERK, job.metadata.name),
                ),
            },
        },
    }
