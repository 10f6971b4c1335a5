"""What the pods of learner and robots have in common. Pure.

They meet the restricted Pod Security Standard, and beyond it: a read-only root, no token, and
something asked for of the scheduler.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fleet_contract import names
from fleet_contract.names import Env, Label
from fleet_contract.resources.learning import Resources
from fleet_contract.resources.training_job import FleetTrainingJob
from fleet_operator.desired.transport import Transport

SCRATCH = "/var/lib/fleetloop/scratch"  # not /tmp: other paths that a pod is told lie there
SPOOL = "/var/lib/fleetloop/spool"
TRUST = "/var/lib/fleetloop/trust"
KEYS = "/var/lib/fleetloop/keys"
NATS = "/var/lib/fleetloop/nats"
AUTHORITIES = "/var/lib/fleetloop/nats-ca"
LAST_WORDS = "/dev/termination-log"
METRICS_PORT = 9090
NOBODY = 65532
REQUESTS = {"cpu": "100m", "memory": "640Mi"}
"""Of whom nobody sized: a robot's agent takes 580 MiB, of which torch is nearly all."""

Manifest = dict[str, Any]


def digest(value: Any) -> str:
    """Sixteen hex digits that differ where two JSON values do."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def environment(
    job: FleetTrainingJob, to: Transport, *, spec: str = "", **more: str
) -> list[Manifest]:
    """Variables of every pod of a job, by ``names.Env``; ``more`` by its members' names."""
    more |= {"NATS_CREDENTIALS": f"{NATS}/{CREDENTIALS}"} if to.accounts else {}
    values = {
        Env.NAMESPACE: job.metadata.namespace,
        Env.JOB: job.metadata.name,
        Env.JOB_UID: job.metadata.uid,
        Env.NATS_URL: to.nats_url,
        Env.NATS_CA: f"{AUTHORITIES}/{names.CA}",
        Env.STORAGE_URL: to.storage_url,
        Env.SPEC: spec,
        Env.LAST_WORDS: LAST_WORDS,
        Env.TRUST_DIR: TRUST,
    } | {Env[name]: value for name, value in more.items()}
    optional = {Env.LOG_FORMAT, Env.OTLP_ENDPOINT, Env.SPEC}
    told = {name: value for name, value in values.items() if value or name not in optional}
    return [{"name": name.value, "value": value} for name, value in told.items()]


PUBLIC_KEYS = {"name": "trust", "configMap": {"name": names.TRUST}}
# Where there is none, the machine's own authorities count.
BELIEVED = {"name": "nats-ca", "configMap": {"name": names.NATS_CA, "optional": True}}
PRIVATE_KEY = {
    "name": "keys",
    "secret": {"secretName": names.LEARNER_KEY, "defaultMode": 0o440},
}
CREDENTIALS = "user.creds"


def _identity(entry: str) -> Manifest:
    """Of all that the operator minted, this one's alone."""
    items = [{"key": entry, "path": CREDENTIALS}]
    secret = {"secretName": names.users(entry), "items": items, "defaultMode": 0o440}
    return {"name": "nats", "secret": secret}


METRICS_PORTS = [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}]
METRICS_ENV = [
    {"name": Env.METRICS_PORT.value, "value": str(METRICS_PORT)},
    {
        "name": Env.BIND_ADDRESS.value,
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}},
    },
]
"""For who serves metrics; a robot never does, it tells its figures in its heartbeat."""


def pod_spec(
    *,
    name: str,
    image: str,
    command: list[str],
    env: list[Manifest],
    resources: Resources,
    overrides: Mapping[str, Any],
    grace: int,
    restart: str,
    to: Transport,
    user: str,
    spool: bool = False,
    metrics: bool = False,
    signs: bool = False,
) -> Manifest:
    """A pod's spec; ``grace`` is in seconds. Overrides are merged in last.

    Every one gets the public keys, who may sign the certificate of NATS and, where NATS has
    accounts, the identity of ``user``, an entry of ``names.users``; one that ``signs`` gets
    the learner's private key too: as files, which a pod sees change and which are in no listing of
    processes or variables.

    The keys of the store's Secret become variables, but none takes the place of one in ``env``.
    """
    secret = to.storage_secret
    volumes = {"scratch": SCRATCH} | ({"spool": SPOOL} if spool else {})
    keys = {TRUST: PUBLIC_KEYS, AUTHORITIES: BELIEVED} | ({KEYS: PRIVATE_KEY} if signs else {})
    keys |= {NATS: _identity(user)} if to.accounts else {}
    container = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": [*env, *(METRICS_ENV if metrics else []), {"name": "TMPDIR", "value": SCRATCH}],
        **({"envFrom": [{"secretRef": {"name": secret}}]} if secret else {}),
        "resources": _sized(resources),
        # What a program says at its end; where it could not, the end of its log.
        "terminationMessagePath": LAST_WORDS,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **({"ports": METRICS_PORTS} if metrics else {}),
        "volumeMounts": [
            *({"name": volume, "mountPath": path} for volume, path in volumes.items()),
            *({"name": v["name"], "mountPath": p, "readOnly": True} for p, v in keys.items()),
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    base = {
        "restartPolicy": restart,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "fsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            *({"name": volume, "emptyDir": {}} for volume in volumes),
            *keys.values(),
        ],
    }
    merged: Manifest = merge(base, overrides)
    return merged


def _sized(resources: Resources) -> Manifest:
    """With a request of what neither a request nor a limit speaks of."""
    said = resources.requests.keys() | resources.limits.keys()
    more = {name: value for name, value in REQUESTS.items() if name not in said}
    return {**resources.dump(), "requests": {**more, **resources.requests}}


def merge(base: Any, over: Any) -> Any:
    """Objects merge by key, lists of named objects by name, lists of other objects add up.

    Everything else, a command as a whole included, is replaced.
    """
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        both = {key: merge(base[key], over[key]) for key in base.keys() & over.keys()}
        return {**base, **over, **both}
    if isinstance(base, list) and isinstance(over, list):
        if not all(isinstance(one, Mapping) for one in (*base, *over)):
            return over
        if not all(isinstance(one.get("name"), str) for one in (*base, *over)):
            return base + over
        named = {one["name"]: one for one in base}
        for one in over:
            named[one["name"]] = merge(named.get(one["name"], {}), one)
        return list(named.values())
    return over


def labels(job: FleetTrainingJob, role: names.Role, **more: str) -> dict[str, str]:
    """Labels of a job's children; ``more`` by the names of ``Label``'s members."""
    return {
        Label.JOB.value: job.metadata.name,
        Label.ROLE.value: role.value,
        Label.MANAGED_BY.value: names.FIELD_MANAGER,
    } | {Label[name].value: value for name, value in more.items()}


def owner(kind: names.Kind, name: str, uid: str) -> list[Manifest]:
    """The one reference by which a child goes with its owner."""
    return [
        {
            "apiVersion": names.API_VERSION,
            "kind": kind.value,
            "name": name,
            "uid": uid,
            "controller": True,
            # True would need the right to set finalizers on the owner.
            "blockOwnerDeletion": False,
        }
    ]
