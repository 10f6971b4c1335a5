"""The learner's runs: which Job to make, which to end. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fleet_contract.names import ConditionType, Label, Reason
from fleet_operator.decide.conditions import Finding

_IMAGE_FAULTS = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"}
)


class Run(NamedTuple):
    """One batch/v1 Job as it is."""

    name: str
    uid: str
    number: int
    hash: str
    ours: bool = True  # of this very FleetTrainingJob, not of a namesake that was deleted
    deleting: bool = False
    complete: bool = False
    failed: str = ""

    @classmethod
    def of(cls, manifest: Mapping[str, Any], job_uid: str) -> "Run":
        metadata = manifest["metadata"]
        ended = {
            one["type"]: one.get("message", "")
            for one in manifest.get("status", {}).get("conditions", [])
            if one["status"] == "True"
        }
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            number=int(metadata.get("labels", {}).get(Label.RUN, "0")),
            hash=metadata.get("annotations", {}).get(Label.TEMPLATE_HASH, ""),
            ours=any(one["uid"] == job_uid for one in metadata.get("ownerReferences", [])),
            deleting="deletionTimestamp" in metadata,
            complete="Complete" in ended,
            failed=ended.get("Failed", ""),
        )


class Pod(NamedTuple):
    """One pod as it is."""

    name: str
    uid: str
    phase: str = "Pending"
    deleting: bool = False
    waiting: str = ""  # why a container waits, in the kubelet's word
    message: str = ""
    restarts: int = 0
    hash: str = ""
    owner_uid: str = ""

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Pod":
        metadata, status = manifest["metadata"], manifest.get("status", {})
        containers = status.get("containerStatuses", [])
        waiting = [one["state"]["waiting"] for one in containers if "waiting" in one["state"]]
        unmet = [
            one.get("message", "")
            for one in status.get("conditions", [])
            if one["type"] == "PodScheduled" and one["status"] == "False"
        ]
        why: Mapping[str, str] = waiting[0] if waiting else {}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            phase=status.get("phase", "Pending"),
            deleting="deletionTimestamp" in metadata,
            waiting=why.get("reason", ""),
            message=why.get("message", "") or status.get("message", "") or "".join(unmet),
            restarts=sum(one.get("restartCount", 0) for one in containers),
            hash=metadata.get("annotations", {}).get(Label.TEMPLATE_HASH, ""),
            owner_uid=next((one["uid"] for one in metadata.get("ownerReferences", [])), ""),
        )

    @property
    def running(self) -> bool:
        return self.phase == "Running" and not self.deleting and not self.waiting

    @property
    def trouble(self) -> str:
        """What keeps it from running, in a sentence that stays the same while the cause does."""
        if self.waiting == "CrashLoopBackOff":
            return f"It ends again and again: read `kubectl logs {self.name} --previous`."
        return self.message

    @property
    def image_fault(self) -> bool:
        return self.waiting in _IMAGE_FAULTS


class LearnerPlan(NamedTuple):
    """Deletions go first; a creation never comes with them."""

    number: int  # of the run there is or shall be
    create: bool = False
    delete: tuple[Run, ...] = ()
    orphans: tuple[Pod, ...] = ()  # pods whose Job was deleted without them, as by a raw DELETE
    complete: bool = False
    finding: Finding = Finding(ConditionType.LEARNER_READY, False, Reason.LEARNER_PENDING)


def plan(
    *, wanted: bool, hash_: str, last_number: int, runs: Sequence[Run], pods: Sequence[Pod]
) -> LearnerPlan:
    """One run at a time: a new one only when the last one's Job and pods are all gone."""
    number = max([last_number, *(run.number for run in runs if run.ours)])
    alive = [pod for pod in pods if pod.phase not in {"Succeeded", "Failed"}]
    jobs = {run.uid for run in runs}
    orphans = tuple(pod for pod in alive if pod.owner_uid not in jobs and not pod.deleting)
    current = next((run for run in runs if run.ours and run.number == number), None)
    old = tuple(run for run in runs if run.ours and run is not current and not run.deleting)

    def planned(finding: Finding, *delete: Run, complete: bool = False) -> LearnerPlan:
        return LearnerPlan(number, False, delete, orphans, complete, finding)

    if current is not None and not current.deleting and wanted and current.hash == hash_:
        return planned(_ready(current, alive), *old, complete=current.complete)
    if current is not None and not current.deleting:
        why = "its spec changed" if wanted else "the job is suspended or complete"
        ending = _pending(f"Run {number} ends, for {why}.")
        return planned(ending, *old, current, complete=current.complete)
    if runs or alive:
        return planned(
            _pending("The last run's Job and pods must go before the next is made."), *old
        )
    if not wanted:
        off = Finding(ConditionType.LEARNER_READY, False, Reason.SUSPENDED, "No learner is wanted.")
        return planned(off)
    return LearnerPlan(
        number + 1, create=True, finding=_pending("The learner's pod is being made.")
    )


def _pending(message: str) -> Finding:
    return Finding(ConditionType.LEARNER_READY, False, Reason.LEARNER_PENDING, message)


def _ready(run: Run, pods: Sequence[Pod]) -> Finding:
    def told(holds: bool, reason: Reason, message: str) -> Finding:
        return Finding(ConditionType.LEARNER_READY, holds, reason, message)

    if run.complete:
        return told(False, Reason.GOAL_REACHED, f"Run {run.number} ended by itself, with success.")
    if run.failed:
        return told(
            False,
            Reason.LEARNER_FAILED,
            f"Job {run.name} failed: {run.failed}. Read its log; delete it to try again.",
        )
    for pod in pods:
        if pod.running:
            return told(True, Reason.LEARNER_RUNNING, f"Run {run.number} is at work.")
        if pod.image_fault:
            return told(
                False,
                Reason.IMAGE_PULL_FAILED,
                f"Pod {pod.name} has no image ({pod.message}): correct spec.learner.image.",
            )
    why = next((pod.trouble for pod in pods if pod.trouble), "")
    return _pending(f"The learner's pod does not run yet. {why}".strip())
