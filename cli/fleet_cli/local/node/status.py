"""A pod's status from the states of its containers. Pure: no clock, no server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleet_cli.local.node.api import Json


@dataclass
class ContainerState:
    """One container as the API tells it."""

    name: str
    image: str
    state: Json = field(default_factory=lambda: waiting("PodInitializing"))
    last: Json = field(default_factory=dict)
    restarts: int = 0
    container_id: str = ""
    started: bool = False
    ready: bool = False
    final: bool = False  # it ended and nobody starts it again

    @property
    def exit_code(self) -> int | None:
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def document(self) -> Json:
        document: Json = {
            "name": self.name,
            "image": self.image,
            "imageID": "",
            "state": self.state,
            "lastState": self.last,
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
        }
        if self.container_id:
            document["containerID"] = self.container_id
        return document


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def terminated(code: int, reason: str, started: str, finished: str, message: str = "") -> Json:
    ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": finished}
    return {"terminated": {**ended, **({"message": message} if message else {})}}


def phase(init: Sequence[ContainerState], app: Sequence[ContainerState]) -> str:
    if any(one.final and one.exit_code for one in init):
        return "Failed"
    if all(one.final for one in app):
        return "Failed" if any(one.exit_code for one in app) else "Succeeded"
    if any(one.restarts or "waiting" not in one.state for one in app):
        return "Running"
    return "Pending"


def pod_status(
    init: Sequence[ContainerState],
    app: Sequence[ContainerState],
    *,
    ip: str,
    start_time: str,
    now: str,
    before: Json,
    failure: tuple[str, str] | None = None,
) -> Json:
    """The status to report; ``failure`` (reason, message) fails the pod whatever its containers do.

    ``before`` is the last status: a condition keeps the time at which it last changed.
    """
    current = "Failed" if failure else phase(init, app)
    done = current in {"Failed", "Succeeded"}
    initialised = all(one.final and not one.exit_code for one in init)
    unready = [one.name for one in app if not one.ready]
    reason = "PodCompleted" if current == "Succeeded" else "ContainersNotReady"
    text = f"containers with unready status: [{' '.join(unready)}]"
    ready: Json = {"status": "True"}
    if done or unready:
        ready = {"status": "False", "reason": "PodFailed" if current == "Failed" else reason}
        if current not in {"Failed", "Succeeded"}:
            ready["message"] = text
    wanted = {
        "PodScheduled": {"status": "True"},
        "Initialized": {"status": "True"}
        if initialised
        else {"status": "False", "reason": "ContainersNotInitialized"},
        "ContainersReady": ready,
        "Ready": ready,
    }
    old = {one["type"]: one for one in before.get("conditions", [])}
    status: Json = {
        "phase": current,
        "conditions": [
            {
                "type": kind,
                # A strategic patch merges: what is not said any more has to be taken back.
                "reason": None,
                "message": None,
                **condition,
                "lastTransitionTime": old[kind]["lastTransitionTime"]
                if old.get(kind, {}).get("status") == condition["status"]
                else now,
            }
            for kind, condition in wanted.items()
        ],
        "hostIP": "127.0.0.1",
        "hostIPs": [{"ip": "127.0.0.1"}],
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "startTime": start_time,
        "containerStatuses": [one.document() for one in app],
    }
    if init:
        status["initContainerStatuses"] = [one.document() for one in init]
    if failure:
        status["reason"], status["message"] = failure
    return status
