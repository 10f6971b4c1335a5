"""Who calls whom: from a pod's own network namespace, whatever its image holds."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml

from e2e.images import PAUSE
from e2e.kubectl import NAMESPACE, WITHIN, Kubectl
from e2e.node import NODE, SERVICES
from fleet_cli.local.node.api import Json

ELSEWHERE = "elsewhere"  # a namespace of nobody's
NETWORKS = Path("/run/netns")
HEARD_WITHIN = 90.0  # seconds
# A kernel that refuses has heard the call, too: what is held back is never answered.
CALL = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def answered(at):
    host, port = at.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        pass
    except TimeoutError:
        return False
    return True
with ThreadPoolExecutor(len(sys.argv)) as pool:
    print(json.dumps(list(pool.map(answered, sys.argv[1:]))))
"""
# Pods that only stand there, and what they are called in the table.
ROLE, STORE, BROKER = "fleetloop.dev/role", "fleetloop.dev/store", "fleetloop.dev/broker"
IDLE: dict[str, tuple[str, dict[str, str]]] = {
    "stranger": (NAMESPACE, {}),
    "outsider": (ELSEWHERE, {}),
    "person": (NAMESPACE, {STORE: "true"}),
    "sweeper": (NAMESPACE, {STORE: "true", BROKER: "true"}),
    "impostor": (ELSEWHERE, {ROLE: "learner", STORE: "true", BROKER: "true"}),
    "rank": (NAMESPACE, {ROLE: "learner"}),
    "gate": (NAMESPACE, {ROLE: "gate"}),
}


class Call(NamedTuple):
    """A cell of the table: between pods by their names there, at a port of the one called."""

    caller: str
    at: str


# Refused of the pod that was made last, and by the policy that stands last in any list.
LAST = (Call("gate", "outsider:80"), Call("stranger", "s3:7070"))


def make_idle(kubectl: Kubectl) -> None:
    """In order: the last one comes when the others are there."""
    kubectl("create", "namespace", ELSEWHERE)
    for name, (namespace, labels) in IDLE.items():
        document = yaml.safe_dump(_idle(name, namespace, labels))
        kubectl("apply", "--server-side", "--namespace", namespace, "-f", "-", stdin=document)
        ready = ("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={WITHIN}")
        kubectl("--namespace", namespace, *ready)


def remove_idle(kubectl: Kubectl) -> None:
    kubectl("delete", "pods", "--all", "--now", "--namespace", ELSEWHERE)
    kubectl("delete", "namespace", ELSEWHERE, "--wait=false")
    names = (name for name, (namespace, _) in IDLE.items() if namespace == NAMESPACE)
    kubectl("delete", "pods", *names, "--now")


def _idle(name: str, namespace: str, labels: dict[str, str]) -> Json:
    """What the restricted standard takes."""
    container = {
        "name": "idle",
        "image": PAUSE,
        "imagePullPolicy": "Never",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    spec = {"containers": [container], "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


class Phones:
    """The pods of now, each with its address and its network namespace."""

    def __init__(self, kubectl: Kubectl) -> None:
        told = json.loads(kubectl("get", "pods", "--all-namespaces", "--output=json"))
        service = kubectl("get", "service", "nats", "--output=jsonpath={.spec.clusterIP}")
        self._addresses = {"node": NODE, "service": SERVICES, "nats-service": service}
        pods = sorted(told["items"], key=lambda pod: str(pod["metadata"]["name"]))
        for pod in pods:
            if pod["status"]["phase"] == "Running":
                self._addresses.setdefault(_called(pod, self._addresses), pod["status"]["podIP"])
        self._networks = dict(_networks())

    def answered(self, calls: Iterable[Call]) -> Mapping[Call, bool]:
        """All of them at once."""
        by_caller: dict[str, list[Call]] = {}
        for call in calls:
            by_caller.setdefault(call.caller, []).append(call)
        with ThreadPoolExecutor(len(by_caller)) as pool:
            heard = list(pool.map(self._from, by_caller, by_caller.values()))
        return {call: yes for part in heard for call, yes in part.items()}

    def settle(self, *calls: Call, answered: bool) -> None:
        """Until the network has heard of what was changed last, of which it tells nobody."""
        deadline = time.monotonic() + HEARD_WITHIN
        while set(self.answered(calls).values()) != {answered}:
            if time.monotonic() > deadline:
                raise AssertionError(f"not {'answered' if answered else 'held back'}: {calls}")
            time.sleep(0.2)

    def _from(self, caller: str, calls: list[Call]) -> dict[Call, bool]:
        within = [] if caller == "node" else [self._networks[self._addresses[caller]]]
        enter = ["nsenter", f"--net={within[0]}"] if within else []
        named = (call.at.rsplit(":", 1) for call in calls)
        at = [f"{self._addresses[name]}:{port}" for name, port in named]
        command = [*enter, sys.executable, "-c", CALL, *at]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return dict(zip(calls, json.loads(done.stdout), strict=True))


def _called(pod: Json, taken: Mapping[str, str]) -> str:
    """By what it is, or for a pod that only stands there, by its name."""
    name, labels = pod["metadata"]["name"], pod["metadata"].get("labels", {})
    if name in IDLE:
        return str(name)
    what = labels.get(ROLE) or labels.get("app.kubernetes.io/name", name)
    known = str(what).removeprefix("fleetloop-")
    return f"other-{known}" if known in taken else known


def _networks() -> Iterable[tuple[str, Path]]:
    """Those that the node made, by the address in them."""
    for path in NETWORKS.iterdir():
        command = ["ip", "--netns", path.name, "--json", "address", "show", "eth0"]
        done = subprocess.run(command, capture_output=True, check=False)
        for link in json.loads(done.stdout or "[]"):  # one on its way out has none
            for address in link["addr_info"]:
                if address["family"] == "inet":
                    yield address["local"], path
