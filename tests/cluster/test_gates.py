"""The simulation gate against a real API server: real Jobs, whose pods say what a test wants."""

import shlex
from pathlib import Path
from typing import Any

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.node.api import Json
from helpers.control import (
    JOBS,
    VERSIONS,
    Fleet,
    Operator,
    candidate,
    edit,
    enroll,
    press,
    stable,
    training_job,
    trial,
)
from helpers.kube import Kube, condition

GATE_JOBS = "batch/v1/jobs"
EXITS = "exit "
MEASURES = """
import json, os, pathlib, sys, time
says = pathlib.Path(sys.argv[1])
while not says.exists():
    time.sleep(0.05)
won = says.read_text().strip()
if won.startswith("exit "):
    pathlib.Path(os.environ["FLEET_LAST_WORDS"]).write_text("there is no such world")
    sys.exit(int(won.removeprefix("exit ")))
spec = json.loads(os.environ["FLEET_SPEC"])
report = {
    "v": 1, "jobUid": os.environ["FLEET_JOB_UID"], "run": spec["run"], "seed": 7,
    "digest": spec["policy"]["digest"], "episodes": spec["episodes"],
    "done": spec["episodes"] * len(spec["tasks"]),
    "successes": {task["name"]: int(won) for task in spec["tasks"]},
}
pathlib.Path(os.environ["FLEET_LAST_WORDS"]).write_text(json.dumps(report))
"""
"""In place of a simulator: waits for a file and finds what stands there."""


def gated(says: Path, **gate: Any) -> Json:
    """A job whose gate finds as many successes of 20 as the file says."""
    command = ["sh", "-c", f"exec python -c {shlex.quote(MEASURES)} {shlex.quote(str(says))}"]
    overrides = {"containers": [{"name": "gate", "command": command}]}
    return training_job(
        rollout={
            "steps": [{"robots": 1, "minEpisodes": 4}],
            "gates": {"simulation": {"podOverrides": overrides, **gate}},
        }
    )


def gate(job: Json) -> Json:
    """Where the candidate stands with its gate; empty where it has none."""
    gates = job["status"].get("rollout", {}).get("gates", [])
    return gates[0] if gates else {}


async def test_a_version_is_measured_before_a_robot_runs_it(
    operator: Operator, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    says = tmp_path / "says"
    await kube.create(JOBS, gated(says))
    await enroll(kube, "job", "r1", "r2")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
        await fleet.announce(1)
        job = await fleet.until(lambda job: gate(job).get("phase") == "Running")
        assert (stable(job), candidate(job), job["status"]["rollout"]["phase"]) == (0, 1, "Gated")
        await kube.until(VERSIONS, "job-v1", lambda v: v["status"].get("phase") == "Gated")
        made = await kube.until(GATE_JOBS, "job-gate-1", lambda _: True)
        assert made["metadata"]["ownerReferences"][0]["name"] == "job"
        await fleet.announce(2)  # waits as the candidate's successor
        await operator.kill()
        says.write_text("18")
        await kube.until(GATE_JOBS, "job-gate-1", lambda j: condition(j, "Complete") == "True")
        says.unlink()
        assert fleet.active == {}
        await operator.start()  # it was away when the gate ended
        await fleet.until(lambda job: stable(job) == 1)
        first = await kube.until(
            VERSIONS, "job-v1", lambda v: v["status"].get("phase") == "Promoted"
        )
        assert first["status"]["gates"][0]["tasks"] == [
            {"name": "reach", "episodes": 20, "successes": 18}
        ]
        job = await fleet.until(lambda job: candidate(job) == 2 and gate(job).get("run") == 2)
        await fleet.until(lambda job: job["status"]["robots"]["synced"] == 2)
        says.write_text("3")
        job = await fleet.until(lambda job: job["status"]["rolledBack"] == [2])
        assert {ref.sequence for ref in fleet.active.values()} == {1}
        bad = await kube.until(
            VERSIONS, "job-v2", lambda v: v["status"].get("phase") == "RolledBack"
        )
        assert "reach 3 of 20 (0.15, at least 0.50 is asked)" in bad["status"]["message"]
        says.unlink()
        await fleet.announce(3)
        await fleet.until(lambda job: gate(job).get("run") == 3)
        await kube.until_gone(GATE_JOBS, "job-gate-1", 30.0)
        says.write_text("20")
        await fleet.until(lambda job: len(trial(job)) == 1)
        for reason in ("GateStarted", "GatePassed", "GateFailed"):
            await kube.event("job", reason)


async def test_a_gate_that_cannot_be_run_holds_the_version_and_counts_as_nothing(
    operator: Operator, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    says = tmp_path / "says"
    says.write_text(f"{EXITS}78")
    await kube.create(JOBS, gated(says))
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as fleet:
        await fleet.announce(1)
        job = await fleet.until(lambda job: condition(job, "Stalled") == "True", 60.0)
        assert gate(job)["phase"] == "Blocked"
        assert "there is no such world." in job["status"]["rollout"]["message"]
        assert (stable(job), candidate(job)) == (0, 1)
        await kube.event("job", "GateBlocked")

        says.unlink()
        await press(kube, "job", "retry@1#1")
        job = await fleet.until(lambda job: gate(job).get("run") == 2)
        await fleet.until(lambda job: condition(job, "Ready") == "True")

        def slower(found: Json) -> None:
            found["spec"]["rollout"]["gates"]["simulation"]["deadline"] = "2s"

        await edit(kube, JOBS, "job", slower)
        await fleet.until(lambda job: gate(job).get("phase") == "Blocked", 60.0)
        job = await fleet.until(lambda job: condition(job, "Stalled") == "True")
        assert gate(job)["run"] == 3
        assert "did not end within 2s" in gate(job)["message"]
        await kube.until_gone(GATE_JOBS, "job-gate-2", 30.0)

        await press(kube, "job", "skip@1#2")
        job = await fleet.until(lambda job: stable(job) == 1)
        version = await kube.until(
            VERSIONS, "job-v1", lambda v: v["status"].get("phase") == "Promoted"
        )
        assert version["status"]["gates"][0]["phase"] == "Skipped"
        await kube.event("job", "GateSkipped")
        await fleet.until(lambda job: condition(job, "Ready") == "True")


async def test_what_is_deleted_by_hand_is_measured_anew(
    operator: Operator, cluster: LocalCluster, kube: Kube, tmp_path: Path
) -> None:
    says = tmp_path / "says"
    await kube.create(JOBS, gated(says))
    await enroll(kube, "job", "r1")
    async with Fleet.of(kube, cluster.nats_url, "job", ["r1"]) as fleet:
        await fleet.announce(1)
        made = await kube.until(GATE_JOBS, "job-gate-1", lambda _: True)
        await kube.delete(GATE_JOBS, "job-gate-1")
        uid = made["metadata"]["uid"]
        await kube.until(GATE_JOBS, "job-gate-1", lambda job: job["metadata"]["uid"] != uid)
        says.write_text("20")
        await fleet.until(lambda job: stable(job) == 1)
        await kube.delete(JOBS, "job")
        await kube.until_gone(GATE_JOBS, "job-gate-1", 30.0)
