"""It installs: the documented commands, one after the other, on a node that runs containers."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from e2e.calls import LAST, Call, Phones, make_idle, remove_idle
from e2e.kubectl import AT_WORK, WITHIN, Kubectl
from e2e.node import RealCluster
from e2e.outage import crash, drain
from e2e.table import CELLS
from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.names import Identity
from helpers.identity import as_operator, connected
from helpers.kube import Kube, condition
from helpers.nats import streams_gone
from helpers.ring import JOBS, ROBOTS, VERSIONS
from helpers.tls import believed

pytestmark = pytest.mark.usefixtures("installed")
OVERLAY = "manifests/overlays/kind"
JOB = "broadcast"  # the sample
# The node learns a moment after a pod is ready that its Service leads there, and says so to nobody.
CONNECT = """
import socket, sys, time
late = time.monotonic() + 30
for address in sys.argv[1:]:
    while True:
        try:
            socket.create_connection(address.split(":"), 5)
            break
        except OSError:
            if time.monotonic() > late:
                raise
            time.sleep(0.2)
print("reached")
"""
Heard = tuple[Mapping[Call, bool], Mapping[Call, bool]]
SLOW = 300.0  # seconds: programs import torch, on two cores and from a cold disk


def test_the_operator_is_available_beside_its_broker_and_its_store(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=Available", "deployment/fleetloop-operator", "--timeout=10s")
    pods = kubectl("get", "pods", "--output=jsonpath={.items[*].status.phase}").split()
    assert pods == ["Running"] * 3


def test_services_are_found_by_name_and_commands_run_in_a_pod(kubectl: Kubectl) -> None:
    addresses = ("nats:4222", "kubernetes.default:443", "nats.fleetloop.svc.cluster.local:4222")
    command = ("exec", "deployment/fleetloop-operator", "--", "python", "-c", CONNECT, *addresses)
    assert kubectl(*command) == "reached\n"


def test_the_namespace_refuses_what_is_not_restricted(kubectl: Kubectl) -> None:
    told = kubectl.refused("run", "bold", "--image=fleetloop-operator")
    assert 'violates PodSecurity "restricted:latest"' in told


def test_experts_demonstrate_into_the_store(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "manifests/samples/demonstrations.yaml")
    kubectl("wait", "--for=condition=Complete", "job/demonstrations", f"--timeout={WITHIN}")
    assert json.loads(kubectl("logs", "job/demonstrations")) == {"episodes": 6}


async def test_a_job_turns_the_ring(kubectl: Kubectl, kube: Kube) -> None:
    kubectl("apply", "--server-side", "-f", f"manifests/samples/{JOB}.yaml")
    robot = f"{JOB}-sim-0"
    await kube.until(ROBOTS, robot, lambda r: condition(r, "Connected") == "True", SLOW)
    await kube.until(JOBS, JOB, lambda j: condition(j, "Ready") == "True", SLOW)
    await kube.until(JOBS, JOB, improved, SLOW)
    assert "fleet_runtime" in kubectl("logs", f"job/{JOB}-learner-1")
    assert kubectl("exec", f"{robot}-robot", "--", "id", "-u") == "65532\n"


def improved(job: Json) -> bool:
    """The fleet runs a version that was made of its own experience."""
    stable = job["status"].get("stable") or {}
    return int(stable.get("sequence", 0)) > 1


@pytest.fixture(scope="module")
def heard(kubectl: Kubectl) -> Heard:
    """What came through under the policies, and what did without any."""
    make_idle(kubectl)
    phones, calls = Phones(kubectl), [call for call, _ in CELLS]
    phones.settle(*LAST, answered=False)
    under = phones.answered(calls)
    kubectl("delete", "networkpolicies", "--all")
    phones.settle(*LAST, answered=True)
    without = phones.answered(calls)
    kubectl("apply", "--server-side", "--force-conflicts", "-k", OVERLAY)
    phones.settle(*LAST, answered=False)
    remove_idle(kubectl)
    return under, without


def test_a_call_comes_through_where_a_policy_grants_it_and_nowhere_else(heard: Heard) -> None:
    under, _ = heard
    assert [call for call, granted in CELLS if under[call] is not granted] == []


def test_without_policies_each_of_these_calls_would_come_through(heard: Heard) -> None:
    _, without = heard
    assert [call for call, came in without.items() if not came] == []


def test_what_is_refused_to_one_is_granted_to_another() -> None:
    granted = {call.at for call, came in CELLS if came}
    assert {call.at for call, _ in CELLS} == granted


async def test_ranks_of_a_learner_find_each_other(kubectl: Kubectl, kube: Kube) -> None:
    before = (await kube.get(JOBS, JOB))["status"]["learner"]["epoch"]
    ranks = '{"spec": {"learner": {"replicas": 2}}}'
    kubectl("patch", f"ftj/{JOB}", "--type=merge", f"--patch={ranks}")
    await published_after(kube, before)
    run = f"--selector=fleetloop.dev/job={JOB},fleetloop.dev/role=learner,fleetloop.dev/run=2"
    assert "2 ranks have met" in kubectl("logs", run, "--tail=-1")


async def published_after(kube: Kube, epoch: int) -> int:
    """The first version that a learner which came later has made."""
    async with asyncio.timeout(SLOW):
        async for kind, seen in kube.api.watch(kube.path(VERSIONS)):
            for version in seen["items"] if kind == "LISTED" else [seen]:
                if version["spec"]["learnerEpoch"] > epoch:
                    return int(version["spec"]["sequence"])
    raise AssertionError("the watch ended")  # it never does


@pytest.mark.parametrize("outage", ["drained", "crashed"])
async def test_a_node_that_is_drained_or_crashes_gets_the_ring_back(
    cluster: RealCluster, kubectl: Kubectl, kube: Kube, outage: str
) -> None:
    """A learner after it makes a version, of what was learned before, and a robot runs that."""
    before = (await kube.get(JOBS, JOB))["status"]
    if outage == "drained":
        drain(kubectl)
    else:
        crash(cluster)
    for name in AT_WORK:
        kubectl("rollout", "status", name, f"--timeout={WITHIN}")
    made = await published_after(kube, before["learner"]["epoch"])
    assert made > before["stable"]["sequence"]

    def runs(robot: Json) -> bool:
        active = robot["status"].get("active") or {}
        return int(active.get("sequence", 0)) >= made

    await kube.until(ROBOTS, f"{JOB}-sim-0", runs, SLOW)
    await kube.until(JOBS, JOB, lambda j: condition(j, "Ready") == "True", SLOW)


def test_nothing_was_refused(kubectl: Kubectl) -> None:
    """By the Pod Security Standard or a quota; their owners say so in events."""
    assert kubectl("get", "events", "--field-selector=reason=FailedCreate", "--output=name") == ""


async def test_a_deleted_job_leaves_nothing(kubectl: Kubectl, kube: Kube) -> None:
    uid = kubectl("get", f"ftj/{JOB}", "--output=jsonpath={.metadata.uid}")
    address = kubectl("get", "pod", "nats-0", "--output=jsonpath={.status.podIP}")
    inbox = names.inbox(Identity.OPERATOR, names.FIELD_MANAGER)
    # Nobody comes to this broker without an identity and TLS, a test as little as a robot.
    who, ca = await as_operator(kube), await believed(kube)
    at = f"tls://{address}:4222"
    async with connected(at, who, inbox, authorities=ca, host="nats") as connection:
        await asyncio.to_thread(kubectl, "delete", f"ftj/{JOB}", "--wait")
        async with asyncio.timeout(SLOW):
            await streams_gone(connection, uid)
    kubectl("wait", "--for=delete", "pods", f"--selector=fleetloop.dev/job={JOB}", "--timeout=90s")
    for kind in ("ract", "polv", "jobs", "pods"):
        kubectl("wait", "--for=delete", kind, f"--selector=fleetloop.dev/job={JOB}", "--timeout=9s")


def test_uninstalling_leaves_nothing(kubectl: Kubectl) -> None:
    kubectl("delete", "-k", OVERLAY, "--wait", f"--timeout={WITHIN}")
    assert "fleetloop" not in kubectl("get", "namespaces,crds", "--output=name")
