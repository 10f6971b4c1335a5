"""The learner's runs: which Job to make, which to end. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fleet_contract.names import ConditionType, Label, Reason
from fleet_contract.resources import Condition
from fleet_operator.decide.conditions import Finding
from fleet_operator.decide.pod import Pod

_SILENT = "It is not heard of: if that lasts, see whether its pod reaches NATS."


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
    refusal: str = ""  # what it said when it ended for good
    why: str = ""  # it failed, in one word of Kubernetes'
    queue: str = ""  # Kueue's, in which it waits for room

    @classmethod
    def of(cls, manifest: Mapping[str, Any], job_uid: str) -> "Run":
        metadata = manifest["metadata"]
        conditions = manifest.get("status", {}).get("conditions", [])
        true = {one["type"]: one for one in conditions if one["status"] == "True"}
        ended = {type_: one.get("message", "") for type_, one in true.items()}
        waits = manifest.get("spec", {}).get("suspend", False)
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            number=int(metadata.get("labels", {}).get(Label.RUN, "0")),
            hash=metadata.get("annotations", {}).get(Label.TEMPLATE_HASH, ""),
            ours=any(one["uid"] == job_uid for one in metadata.get("ownerReferences", [])),
            deleting="deletionTimestamp" in metadata,
            complete="Complete" in ended,
            failed=ended.get("Failed", "") or ("it failed" if "Failed" in ended else ""),
            refusal=metadata.get("annotations", {}).get(Label.REFUSAL, ""),
            why=true.get("Failed", {}).get("reason", ""),
            queue=metadata.get("labels", {}).get(Label.KUEUE_QUEUE, "") if waits else "",
        )


class LearnerPlan(NamedTuple):
    """Deletions go first; a creation never comes with them."""

    number: int  # of the run there is or shall be
    create: bool = False
    delete: tuple[Run, ...] = ()
    orphans: tuple[Pod, ...] = ()  # pods whose Job was deleted without them, as by a raw DELETE
    complete: bool = False
    refuse: tuple[Run, str] | None = None
    """A run that said it cannot work, and its words: no pod of it shall start again."""
    finding: Finding = Finding(ConditionType.LEARNER_READY, False, Reason.LEARNER_PENDING)


def plan(
    *,
    wanted: bool,
    hash_: str,
    last_number: int,
    runs: Sequence[Run],
    pods: Sequence[Pod],
    ranks: int = 1,
    doubted: bool = False,
    heard: bool = True,
    undemonstrated: Sequence[str] = (),
    now: float = 0.0,
) -> LearnerPlan:
    """One run at a time: a new one only when the last one's Job and pods are all gone.

    ``ranks``: pods that a run has; it works when all of them do.
    ``doubted``: it crashed again and again until now; that it runs at this moment says little.
    ``heard``: its heartbeats arrive.
    ``undemonstrated``: tasks of which it said that its datasets show nothing.
    """
    number = max([last_number, *(run.number for run in runs if run.ours)])
    alive = [pod for pod in pods if pod.phase not in {"Succeeded", "Failed"}]
    jobs = {run.uid for run in runs}
    orphans = tuple(pod for pod in alive if pod.owner_uid not in jobs and not pod.deleting)
    current = next((run for run in runs if run.ours and run.number == number), None)
    old = tuple(run for run in runs if run.ours and run is not current and not run.deleting)

    def planned(finding: Finding, *delete: Run, complete: bool = False) -> LearnerPlan:
        return LearnerPlan(number, False, delete, orphans, complete, finding=finding)

    if current is not None and not current.deleting and wanted and current.hash == hash_:
        told = _told(number, undemonstrated, heard=heard)
        found = _ready(current, alive, ranks, told, doubted=doubted, now=now)
        refused = next((pod.last.words for pod in alive if pod.last and pod.last.refused), "")
        refuse = (current, refused) if refused and not current.refusal else None
        return planned(found, *old, complete=current.complete)._replace(refuse=refuse)
    if current is not None and not current.deleting:
        why = "its spec changed" if wanted else "the job is suspended or complete"
        ending = _pending(f"Run {number} ends, for {why}.")
        done = current.complete and current.hash == hash_
        return planned(ending, *old, current, complete=done)
    if runs or alive:
        left = ", ".join(sorted({run.name for run in runs} | {pod.name for pod in alive}))
        return planned(_pending(f"{left} must go before the next is made."), *old)
    if not wanted:
        off = Finding(ConditionType.LEARNER_READY, False, Reason.SUSPENDED, "No learner is wanted.")
        return planned(off)
    return LearnerPlan(
        number + 1, create=True, finding=_pending("The learner's pod is being made.")
    )


def heard(before: Sequence[Condition], at: float, since: float, *, settling: bool) -> bool:
    """Whether it was heard of ``since`` then; as it was said last, while we listen too short."""
    ready = (one for one in before if one.type is ConditionType.LEARNER_READY)
    silent = any(one.message.endswith(_SILENT) for one in ready)
    return at >= since or (settling and not silent)


def _pending(message: str) -> Finding:
    return Finding(ConditionType.LEARNER_READY, False, Reason.LEARNER_PENDING, message)


def _told(number: int, undemonstrated: Sequence[str], *, heard: bool) -> str:
    """What is said of a run at work; `heard` knows silence by how it ends."""
    told = f"Run {number} is at work."
    if undemonstrated:
        tasks = ", ".join(undemonstrated)
        told += f" Its datasets show nothing of {tasks} that it can learn from: robots alone will."
    return told if heard else f"{told} {_SILENT}"


def _ready(  # noqa: PLR0911 - a list of rules, the first wins
    run: Run, pods: Sequence[Pod], ranks: int, at_work: str, *, doubted: bool, now: float
) -> Finding:
    def told(holds: bool, reason: Reason, message: str) -> Finding:
        return Finding(ConditionType.LEARNER_READY, holds, reason, message)

    if run.complete:
        return told(False, Reason.GOAL_REACHED, f"Run {run.number} ended by itself, with success.")
    refused = next((pod.last.words for pod in pods if pod.last and pod.last.refused), "")
    if words := run.refusal or refused:
        return told(
            False,
            Reason.LEARNER_REFUSED,
            f"The learner cannot work as the spec says: {words} It starts again when the spec "
            f"changes, or when Job {run.name} is deleted.",
        )
    if run.failed:
        return told(
            False,
            Reason.LEARNER_FAILED,
            f"Job {run.name} failed: {run.failed}. Read its log; delete it to try again.",
        )
    if run.queue:
        return _pending(
            f"Job {run.name} waits for room in Kueue's queue {run.queue}: `kubectl describe "
            "workloads` says for what."
        )
    for pod in pods:
        if pod.crashing or (doubted and pod.shaky(now)):
            return told(
                False,
                Reason.LEARNER_CRASHING,
                f"The learner ends again and again: {pod.why} It is started again all the while.",
            )
        if pod.image_fault:
            return told(False, Reason.IMAGE_PULL_FAILED, pod.without_image("spec.learner.image"))
    running = sum(pod.running for pod in pods)
    if running >= ranks:
        return told(True, Reason.LEARNER_RUNNING, at_work)
    why = next((pod.trouble for pod in pods if pod.trouble), "")
    what = "The learner's pod does" if ranks == 1 else f"{ranks - running} of {ranks} ranks do"
    return _pending(f"{what} not run yet. {why}".strip())
