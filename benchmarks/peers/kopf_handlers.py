"""An operator of RobotActors as users of kopf write one: handlers of create, update and resume.

It does what ours does for a robot that nobody has heard of: it looks up the job and writes the
status. kopf's settings are as they come.

    kopf run --module benchmarks.peers.kopf_handlers --namespace NAMESPACE
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import kopf
from kubernetes import client, config

from fleet_contract import names
from fleet_contract.names import Kind

if TYPE_CHECKING:
    from kubernetes.client import CustomObjectsApi

ROBOTS = names.PLURALS[Kind.ROBOT_ACTOR]
JOBS = names.PLURALS[Kind.TRAINING_JOB]


@kopf.on.startup()
def connect(memo: kopf.Memo, **_: Any) -> None:
    config.load_kube_config(os.environ["KUBECONFIG"])  # type: ignore[no-untyped-call]
    memo.api = client.CustomObjectsApi()


@kopf.on.resume(names.GROUP, names.VERSION, ROBOTS)
@kopf.on.create(names.GROUP, names.VERSION, ROBOTS)
@kopf.on.update(names.GROUP, names.VERSION, ROBOTS)
async def reconcile(
    spec: kopf.Spec, meta: kopf.Meta, namespace: str | None, patch: kopf.Patch, memo: Any, **_: Any
) -> None:
    found = await asyncio.to_thread(job_exists, memo.api, namespace or "default", spec["job"])
    reason = "HeartbeatMissing" if found else "JobNotFound"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    patch.status["observedGeneration"] = meta["generation"]
    patch.status["phase"] = "Offline" if found else "NoJob"
    patch.status["conditions"] = [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": "It does not send heartbeats." if found else "Its job is not there.",
            "observedGeneration": meta["generation"],
            "lastTransitionTime": now,
        }
        for kind, status in (("Ready", "False"), ("Reconciling", "True"), ("Connected", "False"))
    ]


def job_exists(api: CustomObjectsApi, namespace: str, job: str) -> bool:
    try:
        api.get_namespaced_custom_object(names.GROUP, names.VERSION, namespace, JOBS, job)
    except client.ApiException as fault:
        if fault.status != 404:
            raise
        return False
    return True
