"""The operator's endpoint over the life of robots, of an operator and of a job."""

import pytest

from fleet_cli.local.cluster import LocalCluster
from fleet_cli.local.ports import LOOPBACK, free_ports
from fleet_contract import metrics as m
from fleet_contract.messages import Uptake
from helpers.control import JOBS, ROBOTS, Fleet, Operator, enroll, training_job
from helpers.kube import Kube
from helpers.prometheus import Endpoint, Figures


def of(found: Figures, robot: str) -> set[str]:
    return {name for name, *labels in found if robot in labels}


@pytest.mark.usefixtures("kinds")
async def test_series_live_as_long_as_what_they_are_about(
    cluster: LocalCluster, kube: Kube
) -> None:
    port = free_ports(["metrics"])["metrics"]
    endpoint = Endpoint(f"{LOOPBACK}:{port}")
    operator = await Operator(cluster, kube.namespace, FLEET_METRICS_PORT=str(port)).start()
    whose = ("job", kube.namespace)
    try:
        await kube.create(JOBS, training_job())
        await enroll(kube, "job", "r1", "r2")
        async with Fleet.of(kube, cluster.nats_url, "job", ["r1", "r2"]) as fleet:
            connected = {robot: (m.ROBOT_CONNECTED.name, *whose, robot) for robot in fleet.uids}
            await endpoint.until("connected", lambda f: all(f.get(c) for c in connected.values()))

            await fleet.announce(1)
            stages = [
                (f"{m.POLICY_STAGE.name}_count", *whose, s) for s in ("announced", "assigned")
            ]
            promoted = (m.ROLLOUTS.name, *whose, "Promoted")
            await endpoint.until("assigned", lambda f: [f.get(s) for s in stages] == [1, 1])
            await endpoint.until("promoted", lambda f: f.get(promoted) == 1)

            # Told in every heartbeat, it counts once for each robot.
            fleet.says["uptake"] = Uptake(sequence=2, fetch=0.5, wait=1.5, total=3.0)
            latency = [(f"{m.POLICY_LATENCY.name}_{part}", *whose) for part in ("count", "sum")]
            await endpoint.until("taken up", lambda f: [f.get(one) for one in latency] == [2, 6])

            del fleet.uids["r2"]
            presence = {m.ROBOT_CONNECTED.name, m.ROBOT_SUSPENDED.name, m.ROBOT_LAST_SEEN.name}
            silent = await endpoint.until("silent", lambda f: of(f, "r2") == presence)
            assert silent[connected["r2"]] == 0
            assert silent[connected["r1"]] == 1
            assert silent[latency[0]] == 2

            await operator.kill()
            await operator.start()
            again = await endpoint.until("back", lambda f: f.get(connected["r1"]) == 1)
            assert of(again, "r2") == presence

            await kube.delete(ROBOTS, "r2")
            left = await endpoint.until("gone", lambda f: bool(f) and not of(f, "r2"))
            assert left[connected["r1"]] == 1

            await kube.delete(JOBS, "job")
            bare = await endpoint.until(
                "gone", lambda f: bool(f) and not any("job" in key[1:] for key in f)
            )
            writes = (m.API_REQUESTS.name, "fleettrainingjobs/status", "ok", "apply")
            assert bare[writes] >= 1
    finally:
        await operator.stop()
