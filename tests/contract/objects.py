"""Good objects to start from, and a way to spoil one at a dotted path."""

from copy import deepcopy
from typing import Any

from fleet_contract.names import API_VERSION, Kind

Object = dict[str, Any]
DIGEST = f"sha256:{'0' * 64}"


def job(name: str = "job") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": str(Kind.TRAINING_JOB),
        "metadata": {"name": name},
        "spec": {"tasks": [{"name": "reach"}]},
    }


def robot(name: str = "arm-1") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": str(Kind.ROBOT_ACTOR),
        "metadata": {"name": name},
        "spec": {"job": "job"},
    }


def version(name: str = "job-v7") -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": str(Kind.POLICY_VERSION),
        "metadata": {"name": name},
        "spec": {
            "job": "job",
            "jobUid": "uid",
            "sequence": 7,
            "learnerEpoch": 1,
            "learnerStep": 175,
            "digest": DIGEST,
            "uri": "jobs/uid/versions/000000000007.json",
            "size": 1024,
            "lineage": {"first": 1, "through": 3, "episodes": 40},
        },
    }


def but(item: Object, path: str, value: Any) -> Object:
    """The object with one value in another place: ``spec.rollout.mode``, made on the way."""
    item = deepcopy(item)
    *way, last = path.split(".")
    part = item
    for step in way:
        part = part.setdefault(step, {})
    part[last] = value
    return item
