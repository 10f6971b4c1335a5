"""The simulation gate with its real program: one that learned passes, a scrambled one not.

The operator is a pod under its own Role, the gate a Job that it makes; robots are bare messages.
"""

from pathlib import Path
from typing import Any

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_contract.messages import Manifest
from fleet_runtime.artifacts import Store
from fleet_runtime.learner.publish import Version
from fleet_runtime.learner.spoil import announce
from helpers import keys
from helpers.control import JOBS, VERSIONS, Fleet, enroll, stable, training_job
from helpers.kube import Kube
from helpers.line import learned, plug_in, scrambled
from helpers.ring import SLOW
from helpers.world import publish

pytestmark = pytest.mark.usefixtures("operator")


def on_the_line(path: str) -> dict[str, Any]:
    env = [{"name": "PYTHONPATH", "value": path}]
    gate = {
        "environment": {"name": "line"},
        "episodes": 10,
        "minSuccessRate": 0.7,
        "podOverrides": {"containers": [{"name": "gate", "env": env}]},
    }
    return {
        "tasks": [{"name": name, "environment": {"name": "line"}} for name in ("left", "right")],
        "rollout": {"strategy": "Broadcast", "gates": {"simulation": gate}},
    }


async def test_a_policy_that_learned_reaches_the_fleet_and_a_scrambled_one_never_does(
    cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    made = await kube.create(JOBS, training_job(**on_the_line(plug_in(tmp_path))))
    await enroll(kube, "job", "r1")
    store, uid = Store(cluster.storage_url), made["metadata"]["uid"]

    async def publishes(sequence: int, files: dict[str, bytes]) -> None:
        sign = (await keys.of(kube)).sign
        ref = publish(store, sequence, job_uid=uid, files=files, sign=sign)
        manifest = Manifest.open(store.get(ref.uri))
        await announce(cluster.nats_url, kube.namespace, "job", Version(manifest, ref), sign)

    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as fleet:
        await publishes(1, learned())
        await fleet.until(lambda job: stable(job) == 1, SLOW)
        await publishes(2, scrambled())
        await fleet.until(lambda job: job["status"]["rolledBack"] == [2], SLOW)
        await fleet.until_runs("r1", 1)
        assert stable(await kube.get(JOBS, "job")) == 1
        version = await kube.until(
            VERSIONS, "job-v2", lambda v: v["status"].get("phase") == "RolledBack"
        )
        (gate,) = version["status"]["gates"]
        assert gate["phase"] == "Failed"
        assert "at least 0.70 is asked" in gate["message"]
