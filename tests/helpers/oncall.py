"""Objects as the API has them, for what is shown of them."""

from typing import Any

from fleet_cli.oncall.world import World, made
from fleet_contract.messages import digest_of
from fleet_contract.names import API_VERSION
from fleet_contract.resources.base import now_rfc3339

NOW = 1_800_000_000.0


def ago(seconds: float) -> str:
    """As the API writes it."""
    return now_rfc3339(NOW - seconds)


def condition(type_: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    told = {"type": type_, "status": status, "reason": reason, "message": message}
    return told | {"lastTransitionTime": ago(60)}


READY = condition("Ready", "True", "Ready", "Learner, streams and fleet are at work.")


def reference(sequence: int) -> dict[str, Any]:
    digest = digest_of(str(sequence).encode())
    uri = f"jobs/uid/versions/{sequence}"
    return {"name": f"staged-v{sequence}", "sequence": sequence, "digest": digest, "uri": uri}


def job(*conditions: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """Four robots, version 6 at work; ``spec`` adds to its spec, all else to its status."""
    spec = {"tasks": [{"name": "push"}]} | parts.pop("spec", {})
    status = {
        "observedGeneration": 1,
        "phase": "Training",
        "conditions": list(conditions or [READY]),
        "robots": {"desired": 4, "connected": 4, "synced": 4},
        "learner": {"run": 1, "stage": "online", "step": 1200},
        "stable": reference(6),
        "tasks": [{"name": "push", "episodes": 50, "successRate": "0.95"}],
        "successRate": "0.95",
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "FleetTrainingJob",
        "metadata": _metadata("staged", 3 * 86400, generation=1, uid="uid"),
        "spec": spec,
        "status": status | parts,
    }


def robot(
    name: str, *conditions: dict[str, Any], runs: int | None = 6, **parts: Any
) -> dict[str, Any]:
    """One that is at work; ``spec`` adds to its spec, all else to its status."""
    well = [READY, condition("Connected", "True", "HeartbeatReceived")]
    synced = condition("PolicySynced", "True", "OnAssignedVersion")
    spec = {"job": "staged", "mode": "External"} | parts.pop("spec", {})
    status = {
        "observedGeneration": 1,
        "phase": "Running",
        "conditions": list(conditions or [*well, synced]),
        "active": reference(runs) if runs else None,
        "lastSeen": ago(3),
        "successRate": "0.90",
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "RobotActor",
        "metadata": _metadata(name, 86400, generation=1, uid=f"uid-{name}"),
        "spec": spec,
        "status": status | parts,
    }


def version(
    sequence: int, phase: str, *conditions: dict[str, Any], parent: int | None = None, **parts: Any
) -> dict[str, Any]:
    spec = {
        "job": "staged",
        "jobUid": "uid",
        "sequence": sequence,
        "parent": parent,
        "learnerEpoch": 2,
        "learnerStep": 100 * sequence,
        "digest": digest_of(str(sequence).encode()),
        "uri": f"jobs/uid/versions/{sequence}",
        "size": 650_000,
        "lineage": {"first": 0, "through": sequence, "episodes": 10 * sequence},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "PolicyVersion",
        "metadata": _metadata(f"staged-v{sequence}", 600),
        "spec": spec | parts.pop("spec", {}),
        "status": {"phase": phase, "conditions": list(conditions)} | parts,
    }


def seen(job: dict[str, Any], *others: dict[str, Any], now: float = NOW) -> World:
    """The job with its robots and versions."""
    robots = [one for one in others if one["kind"] == "RobotActor"]
    versions = [one for one in others if one["kind"] == "PolicyVersion"]
    return made(job, robots, versions, now)


def _metadata(name: str, age: float, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "lab", "creationTimestamp": ago(age), **more}
