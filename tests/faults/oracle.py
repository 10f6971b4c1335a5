"""What a run left, without what differs from run to run; what was made on the way; who ran what."""

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Self

import nats
from nats.js.errors import NotFoundError

from fleet_cli.local.node.api import Json
from fleet_contract import names
from fleet_contract.messages import Assignment
from fleet_contract.names import Stream, StreamMeta
from fleet_operator.decide.assignment import Content
from helpers.control import JOBS, ROBOTS, VERSIONS
from helpers.kube import Kube

BATCH = "batch/v1/jobs"
KINDS = (JOBS, ROBOTS, VERSIONS, BATCH, "pods")
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
KEY = re.compile(r"\b[0-9a-f]{16}\b")  # of a signer, made anew in each namespace
RANDOM = re.compile(r"-[a-z0-9]{5}$")  # of a pod that a Job made
STREAM = "stream "
STREAMS = "$JS.EVENT.ADVISORY.STREAM.*.>"  # what the server tells of them

PASSING = frozenset(
    {
        *("uid", "resourceVersion", "creationTimestamp", "managedFields", "generateName"),
        *("lastTransitionTime", "startTime", "startedAt", "lastProbeTime", "controller-uid"),
        "batch.kubernetes.io/controller-uid",
        "epoch",  # of an assignment: it may have gaps
        names.Label.TEMPLATE_HASH.value,  # over UIDs
        "templateHash",
        # Written now and then only, so they lag by up to a quarter of a minute:
        *("lastSeen", "episodes", "successRate", "interventionRate", "spoolDepth"),
    }
)
"""Keys that say when, or under which name the machine keeps it."""
COUNTED = frozenset({"cohort", "tasks"})
"""Below these, figures are compared: they are history that must not be lost."""


async def end_state(kube: Kube, nats_url: str) -> dict[str, Any]:
    """Everything in the namespace and at the broker, by name."""
    found: dict[str, Any] = {}
    uids: dict[str, str] = {}
    for kind in KINDS:
        for one in (await kube.get(kind))["items"]:
            name = _name(kind, one)
            uids[one["metadata"]["uid"]] = f"<{name}>"
            found[f"{kind} {name}"] = _part(kind, one)
    found |= await _broker(kube.namespace, nats_url)
    return {key: _plain(value, uids, kube.namespace) for key, value in found.items()}


def _name(kind: str, one: Json) -> str:
    name = str(one["metadata"]["name"])
    return RANDOM.sub("", name) if kind == "pods" and "generateName" in one["metadata"] else name


def _part(kind: str, one: Json) -> Json:
    """What is ours in it; a pod's node adds much that is not."""
    metadata, spec, status = one["metadata"], one["spec"], one.get("status", {})
    kept = {
        key: metadata[key]
        for key in ("labels", "annotations", "ownerReferences", "deletionTimestamp", "generation")
        if key in metadata and (key != "annotations" or kind != "pods")
    }
    if kind == "pods":
        containers = [
            {key: each.get(key) for key in ("name", "command", "args", "env", "image", "resources")}
            for each in spec["containers"]
        ]
        return {"metadata": kept, "containers": containers, "phase": status.get("phase")}
    if kind == BATCH:
        status = {"active": status.get("active"), "conditions": status.get("conditions", [])}
    return {"metadata": kept, "spec": spec, "status": status}


def _plain(value: Any, uids: dict[str, str], namespace: str, *, counted: bool = False) -> Any:
    if isinstance(value, dict):
        return {
            _plain(key, uids, namespace): _plain(
                below, uids, namespace, counted=counted or key in COUNTED
            )
            for key, below in sorted(value.items())
            if key not in PASSING or (counted and key in {"episodes", "successRate"})
        }
    if isinstance(value, list | tuple):
        return [_plain(one, uids, namespace, counted=counted) for one in value]
    if isinstance(value, str):
        masked = UID.sub(lambda match: uids.get(match[0], "<unknown>"), value)
        return KEY.sub("<key>", masked.replace(namespace, "<namespace>"))
    return value


async def _broker(namespace: str, url: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    client = await nats.connect(url)
    try:
        context = client.jetstream()
        offset = 0
        while page := await context.streams_info(offset=offset):
            offset += len(page)
            for one in page:
                told = one.config.metadata or {}
                if told.get(StreamMeta.NAMESPACE) != namespace:
                    continue
                name = str(one.config.name)
                found[f"{STREAM}{UID.sub('', name)}"] = {
                    "subjects": sorted(one.config.subjects or []),
                    "consumers": await _durables(context, name),
                    "job": told.get(StreamMeta.JOB),
                }
                if Stream.CONTROL.value in name:
                    subject = names.assign_subject(namespace, str(told.get(StreamMeta.JOB)))
                    found["assignment"] = await _assignment(context, name, subject)
    finally:
        await client.close()
    return found


async def _durables(context: Any, stream: str) -> list[str]:
    """Those that are not the operator's own passing ones."""
    infos = await context.consumers_info(stream)
    return sorted(one.name for one in infos if one.config.durable_name)


async def _assignment(context: Any, stream: str, subject: str) -> Any:
    with contextlib.suppress(NotFoundError):
        stored = await context.get_last_msg(stream, subject)
        document = Assignment.open(stored.data)
        wire = document.model_dump(mode="json", by_alias=True)
        return {key: wire[key] for key in Content._fields}
    return None


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Sentences, of at most a line each."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            said
            for key in sorted(wanted.keys() | found.keys())
            for said in differences(wanted.get(key), found.get(key), f"{at}/{key}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [said for index, (a, b) in pairs for said in differences(a, b, f"{at}[{index}]")]
    return [] if wanted == found else [f"{at}: {str(wanted)[:150]} became {str(found)[:150]}"]


class Ledger:
    """Counts what is made and what goes, by name, as watches tell that no fault touches.

    Streams too: one that goes and is made anew is the same to look at, and what it held is lost.
    """

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.made: Counter[str] = Counter()
        self.gone: Counter[str] = Counter()
        self._ghosts: set[str] = set()
        """Children made for an owner that had gone: between a look and a write somebody deleted it.

        No order of requests forbids that; they go as their owner did, and are not counted.
        """
        self.story: list[str] = []
        """Each making and going, for whoever looks into a failure."""
        self._seen: set[str] = set()
        self._dead: set[str] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, kube: Kube, nats_url: str) -> AsyncIterator[Self]:
        ledger = cls(kube)
        client = await nats.connect(nats_url)
        tasks = [asyncio.create_task(ledger._keep(kind)) for kind in KINDS]
        try:
            await client.subscribe(STREAMS, cb=ledger._hear)
            await client.flush()
            yield ledger
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()

    async def _hear(self, message: Any) -> None:
        told = json.loads(message.data)
        counts = {"create": self.made, "delete": self.gone}.get(told["action"])
        if counts is not None:
            counts[f"{STREAM}{told['stream']}"] += 1
            if self._ours(told["stream"]):
                now = datetime.now(UTC)
                self.story.append(f"{now:%H:%M:%S.%f} {told['action']} {told['stream']}")

    def _ours(self, stream: str) -> bool:
        """The server is shared: others' jobs are not seen."""
        return bool(set(UID.findall(stream)) & self._seen)

    async def _keep(self, kind: str) -> None:
        async for what, seen in self.kube.api.watch(self.kube.path(kind)):
            for one in seen["items"] if what == "LISTED" else [seen]:
                name, uid = f"{kind} {_name(kind, one)}", one["metadata"]["uid"]
                if uid not in self._seen and self._ghost(one):
                    self._ghosts.add(uid)
                    self._note("ghost", name, one)
                if uid in self._ghosts:
                    continue
                if uid not in self._seen:
                    self._seen.add(uid)
                    self.made[name] += 1
                    self._note("made", name, one)
                if what == "DELETED":
                    self._dead.add(uid)
                    self.gone[name] += 1
                    self._note("gone", name, one)

    def _note(self, what: str, name: str, one: Json) -> None:
        status, now = one.get("status", {}), datetime.now(UTC).strftime("%H:%M:%S.%f")
        about = [status.get("phase"), status.get("reason"), status.get("message")]
        owners = [owner["uid"] for owner in one["metadata"].get("ownerReferences", [])]
        self.story.append(f"{now} {what} {name} {one['metadata']['uid']} of {owners} {about}")

    def _ghost(self, one: Json) -> bool:
        owners = one["metadata"].get("ownerReferences", [])
        return any(owner["uid"] in self._dead for owner in owners)

    @property
    def ghosts(self) -> int:
        return len(self._ghosts)

    def counts(self) -> dict[str, list[int]]:
        """Made and gone, by name."""
        counts = {name: [self.made[name], self.gone[name]] for name in sorted(self.made)}
        return {
            UID.sub("", name): count
            for name, count in counts.items()
            if not name.startswith(STREAM) or self._ours(name)
        }


class Exposure:
    """Every assignment document there is, held against what its stage allows."""

    def __init__(self, stage: int) -> None:
        self.stage = stage
        self.earned: set[int] = set()
        """Versions that the fleet may have: the first, and those whose trial may have passed."""
        self.denied: set[int] = set()
        """Versions that were taken back for good."""
        self.violations: list[str] = []
        self.documents = 0
        self._last: Assignment | None = None

    def take(self, document: Assignment) -> None:
        self.documents += 1
        before, self._last = self._last, document
        default = document.default.sequence if document.default else 0
        trial = [(rule.manifest.sequence, rule.robots) for rule in document.rules]
        if before is not None and document.order <= before.order:
            self._wrong(document, f"epoch {document.epoch} after {before.epoch}")
        if before is not None and before.default and default < before.default.sequence:
            self._wrong(document, f"the fleet went from version {before.default.sequence} back")
        if default and default not in self.earned:
            self._wrong(document, f"the fleet got version {default}, which had not earned it")
        exposed = {robot for sequence, robots in trial for robot in robots if sequence != default}
        if len(exposed) > self.stage:
            self._wrong(document, f"{sorted(exposed)} are more than {self.stage}")
        for sequence, _ in trial:
            if sequence in self.denied or sequence < default:
                self._wrong(document, f"version {sequence} was over, and is on trial")

    def _wrong(self, document: Assignment, why: str) -> None:
        self.violations.append(f"document {document.epoch}: {why}")
