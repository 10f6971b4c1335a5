"""kopf's watch streams: every event becomes a key in the queue, and nothing else happens here."""

import time
from typing import Any

import kopf

from fleet_contract import names
from fleet_contract.names import Kind, Label, Role
from fleet_operator import metrics
from fleet_operator.office import Office
from fleet_operator.work import Key


class Watch:
    """Our three kinds, and the Jobs and Pods that carry a job's label."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self._signatures: dict[str, tuple[tuple[Any, ...], bool]] = {}

    def register(self, registry: kopf.OperatorRegistry) -> None:
        """Hand our methods to kopf."""
        ours: Any = {"registry": registry}
        for kind, handle in (
            (Kind.TRAINING_JOB, self.job),
            (Kind.ROBOT_ACTOR, self.robot),
            (Kind.POLICY_VERSION, self.version),
        ):
            kopf.on.event(names.GROUP, names.VERSION, names.PLURALS[kind], **ours)(handle)
        labels = {Label.JOB.value: kopf.PRESENT}
        kopf.on.event("batch", "v1", "jobs", labels=labels, **ours)(self.child)
        kopf.on.event("", "v1", "pods", labels=labels, **ours)(self.child)
        kopf.on.probe(id="watches", **ours)(self.alive)
        kopf.on.probe(id="secondsSinceLastEvent", **ours)(self.since_event)
        kopf.on.probe(id="secondsSinceLastReconcile", **ours)(self.since_turn)

    async def job(self, body: kopf.Body, **event: Any) -> None:
        if not self._changed(body, event["type"]):
            return
        name = body["metadata"]["name"]
        self.office.job_changed(name)
        self.office.wake(Key(Kind.TRAINING_JOB, name))
        if line := self.office.inbox.get(name):
            # What a robot's pod is made of, and whether it works at all, stands in the job.
            for robot in line.robots:
                self.office.wake(Key(Kind.ROBOT_ACTOR, robot))

    async def robot(self, body: kopf.Body, **event: Any) -> None:
        if self._changed(body, event["type"]):
            self.office.wake(Key(Kind.ROBOT_ACTOR, body["metadata"]["name"]))
            self.office.wake(Key(Kind.TRAINING_JOB, body["spec"]["job"]))

    async def version(self, body: kopf.Body, **event: Any) -> None:
        if self._changed(body, event["type"]):
            self.office.wake(Key(Kind.TRAINING_JOB, body["spec"]["job"]))

    async def child(self, body: kopf.Body, **_: Any) -> None:
        self._heard(body)
        labels = body["metadata"]["labels"]
        if labels.get(Label.ROLE) in {Role.LEARNER, Role.GATE, Role.CLERK}:
            self.office.wake(Key(Kind.TRAINING_JOB, labels[Label.JOB]))
        elif Label.ROBOT in labels:
            self.office.wake(Key(Kind.ROBOT_ACTOR, labels[Label.ROBOT]))

    async def since_event(self, **_: Any) -> float:
        return round(time.monotonic() - self.office.last_event, 1)

    async def since_turn(self, **_: Any) -> float:
        return round(time.monotonic() - self.office.last_turn, 1)

    async def alive(self, **_: Any) -> str:
        """Fails the probe where a watch is dead, so that the pod is started anew."""
        if dead := self.office.deliveries.dead(time.monotonic()):
            raise kopf.PermanentError(f"the watch is dead of: {', '.join(dead)}")
        return "alive"

    def _heard(self, body: kopf.Body) -> None:
        metadata = body["metadata"]
        version = int(metadata["resourceVersion"])
        self.office.deliveries.brought(body["kind"], metadata["uid"], version)
        self.office.last_event = time.monotonic()
        metrics.LAST_EVENT.set_to_current_time()

    def _changed(self, body: kopf.Body, type_: str | None) -> bool:
        """Whether more than a status changed; statuses of our kinds are of our own writing."""
        self._heard(body)
        metadata = body["metadata"]
        uid = metadata["uid"]
        if type_ == "DELETED":
            self._signatures.pop(uid, None)
            return True
        signature = (
            metadata.get("generation"),
            metadata.get("deletionTimestamp"),
            str(metadata.get("labels")),
            str(metadata.get("annotations")),
        )
        blank = body.get("status", {}).get("observedGeneration", -1) < 0
        before, was_blank = self._signatures.get(uid, (None, True))
        self._signatures[uid] = (signature, blank)
        return before != signature or (blank and not was_blank)  # somebody wiped it
