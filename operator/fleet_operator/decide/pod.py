"""One pod as it is, and what keeps it from running. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from fleet_contract.agents import EXIT_REFUSED
from fleet_contract.names import Label

_IMAGE_FAULTS = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"}
)
_KILLED = 137
_TERMINATED = 143
SHAKY = 300.0
"""Most seconds that a program which crashed again and again must run before it is believed."""


class End(NamedTuple):
    """How a container's process last ended."""

    code: int
    reason: str = ""
    message: str = ""
    lasted: float = 0.0  # seconds

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "End | None":
        """From a container's state; None where it does not tell of an end."""
        if (ended := state.get("terminated")) is None:
            return None
        lasted = _time(ended.get("finishedAt")) - _time(ended.get("startedAt"))
        message = ended.get("message", "").strip()
        return cls(ended["exitCode"], ended.get("reason", ""), message, max(0.0, lasted))

    @property
    def refused(self) -> bool:
        """Only another spec helps."""
        return self.code == EXIT_REFUSED

    @property
    def by_others(self) -> bool:
        """Somebody ended it; that says nothing against it."""
        return self.code == _TERMINATED or (self.code == _KILLED and self.reason != "OOMKilled")

    @property
    def words(self) -> str:
        """What it said at its end, one sentence or the last lines of its log."""
        if self.reason == "OOMKilled":
            return "it needs more memory than its limit: raise resources.limits.memory."
        said = self.message or f"it ended with exit code {self.code} and said nothing"
        return said if said.endswith(".") else f"{said}."


class Pod(NamedTuple):
    """One pod as it is."""

    name: str
    uid: str
    phase: str = "Pending"
    deleting: bool = False
    waiting: str = ""  # why a container waits, in the kubelet's word
    message: str = ""
    hash: str = ""
    owner_uid: str = ""
    image: str = ""
    down: bool = False  # a container has ended and is not started again yet
    started_at: float = 0.0  # Unix seconds; of the process that runs now
    last: End | None = None  # of the process before this one, or of this one if it is down

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Pod":
        metadata, status = manifest["metadata"], manifest.get("status", {})
        containers = status.get("containerStatuses", [])
        states = [one.get("state", {}) for one in containers]
        waiting = [one["waiting"] for one in states if "waiting" in one]
        ends = [
            End.of(one.get("state", {})) or End.of(one.get("lastState", {})) for one in containers
        ]
        unmet = [
            one.get("message", "")
            for one in status.get("conditions", [])
            if one["type"] == "PodScheduled" and one["status"] == "False"
        ]
        why: Mapping[str, str] = waiting[0] if waiting else {}
        starts = [_time(one["running"].get("startedAt")) for one in states if "running" in one]
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            phase=status.get("phase", "Pending"),
            deleting="deletionTimestamp" in metadata,
            waiting=why.get("reason", ""),
            message=why.get("message", "") or status.get("message", "") or "".join(unmet),
            hash=metadata.get("annotations", {}).get(Label.TEMPLATE_HASH, ""),
            owner_uid=next((one["uid"] for one in metadata.get("ownerReferences", [])), ""),
            image=next((one.get("image", "") for one in containers), ""),
            down=any("terminated" in one for one in states),
            started_at=max(starts, default=0.0),
            last=next((end for end in ends if end), None),
        )

    @property
    def running(self) -> bool:
        return self.phase == "Running" and not self.deleting and not self.waiting and not self.down

    @property
    def crashing(self) -> bool:
        """It ends by itself again and again, so that the node lets it wait in between."""
        by_itself = self.last is None or not self.last.by_others
        return self.waiting == "CrashLoopBackOff" and by_itself

    def shaky(self, now: float) -> bool:
        """It crashed before and does not yet run for clearly longer than it did then."""
        if self.last is None or self.last.by_others:
            return False
        return not self.running or now - self.started_at < min(2 * self.last.lasted + 5, SHAKY)

    @property
    def why(self) -> str:
        """What its last process said, and where to read more."""
        said = self.last.words if self.last else ""
        return f"{said} `kubectl logs {self.name} --previous` tells more.".strip()

    @property
    def trouble(self) -> str:
        """What keeps it from running, in a sentence that stays the same while the cause does."""
        if self.last is not None and not self.last.by_others:
            return f"It ended: {self.why}"
        if self.waiting == "CreateContainerConfigError":
            return (
                f"{self.message}: create it, or correct what names it "
                "(spec.transport.storage.secretRef, podOverrides)."
            )
        return "" if self.waiting == "CrashLoopBackOff" else self.message

    @property
    def image_fault(self) -> bool:
        return self.waiting in _IMAGE_FAULTS

    def without_image(self, field: str) -> str:
        """The same words at each try; the node's own differ from one to the next."""
        return (
            f"Pod {self.name} cannot pull image {self.image}: correct {field}, or let the nodes "
            f"have it; `kubectl describe pod {self.name}` tells what the registry said."
        )


def _time(text: str | None) -> float:
    return datetime.fromisoformat(text).timestamp() if text else 0.0
