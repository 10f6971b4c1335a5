"""A PolicyVersion from what the learner announced. Pure."""

from typing import Any

from fleet_contract import names
from fleet_contract.messages import Announcement
from fleet_contract.names import Kind, Label
from fleet_contract.resources import (
    FleetTrainingJob,
    PolicyVersion,
    PolicyVersionSpec,
    VersionRef,
)
from fleet_contract.resources.policy_version import LineageSpec
from fleet_contract.resources.training_job import DeletionPolicy
from fleet_operator.desired import pods


def version_ref(job: str, announcement: Announcement) -> VersionRef:
    """As status tells of it."""
    policy = announcement.policy
    return VersionRef(
        name=names.policy_version(job, policy.sequence),
        sequence=policy.sequence,
        digest=policy.digest,
        uri=policy.uri,
    )


def ref(version: PolicyVersion) -> VersionRef:
    """The same, of the object."""
    spec = version.spec
    return VersionRef(
        name=version.metadata.name, sequence=spec.sequence, digest=spec.digest, uri=spec.uri
    )


def published(job: FleetTrainingJob, announcement: Announcement) -> PolicyVersionSpec:
    """What was announced, as the object tells of it."""
    policy, lineage = announcement.policy, announcement.lineage
    return PolicyVersionSpec(
        job=job.metadata.name,
        job_uid=job.metadata.uid,
        sequence=policy.sequence,
        parent=announcement.parent,
        learner_epoch=announcement.learner_epoch,
        learner_step=announcement.step,
        digest=policy.digest,
        uri=policy.uri,
        size=announcement.size,
        signed_by=announcement.key_id,
        training_metrics=dict(list(announcement.metrics.items())[:32]),
        lineage=LineageSpec(
            first=lineage.first, through=lineage.through, episodes=lineage.episodes
        ),
    )


def policy_version(job: FleetTrainingJob, spec: PolicyVersionSpec) -> dict[str, Any]:
    """The object; with deletionPolicy Retain it outlives its job and so has no owner."""
    name, uid = job.metadata.name, job.metadata.uid
    metadata: dict[str, Any] = {
        "name": names.policy_version(name, spec.sequence),
        "namespace": job.metadata.namespace,
        "labels": {
            Label.JOB.value: name,
            Label.SEQUENCE.value: str(spec.sequence),
            Label.MANAGED_BY.value: names.FIELD_MANAGER,
        },
    }
    if job.spec.deletion_policy is DeletionPolicy.DELETE:
        metadata["ownerReferences"] = pods.owner(Kind.TRAINING_JOB, name, uid)
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.POLICY_VERSION.value,
        "metadata": metadata,
        "spec": spec.dump(),
    }
