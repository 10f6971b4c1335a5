"""What the doctor finds, line by line, and what to do about it. Pure."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet_cli.exits import Fault
from fleet_cli.oncall import key_checks, look, views
from fleet_cli.oncall.status import TROUBLESHOOTING
from fleet_cli.oncall.tables import age
from fleet_cli.oncall.world import since
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Kind
from fleet_contract.schema import crd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fleet_cli.kube import Object
    from fleet_cli.oncall.key_checks import Keys
    from fleet_contract.resources import FleetTrainingJob, RobotActor

INSTALL = "`kubectl apply --server-side -k manifests/overlays/kind` installs it (docs/install.md)"
NEEDS = (
    ("see jobs", "list", "fleettrainingjobs", ""),
    ("watch jobs", "watch", "fleettrainingjobs", ""),
    ("press buttons and pin", "patch", "fleettrainingjobs", ""),
    ("see robots", "list", "robotactors", ""),
    ("watch robots", "watch", "robotactors", ""),
    ("enroll robots", "create", "robotactors", ""),
    ("drain robots", "patch", "robotactors", ""),
    ("see versions", "list", "policyversions", ""),
    ("watch versions", "watch", "policyversions", ""),
    ("find pods", "list", "pods", ""),
    ("read logs", "get", "pods", "log"),
)
"""What the commands need of the caller: what for, verb, resource, part of it."""
SHOWN = 5  # robots told of one by one; the rest are counted


class Facts(NamedTuple):
    """What was found; a ``Fault`` says why something could not be looked at."""

    server: str
    namespace: str
    kinds: dict[str, Object | None] | Fault
    operator: list[Object] | Fault
    pods: list[Object] | Fault
    allowed: list[bool] | Fault
    jobs: list[FleetTrainingJob] | Fault
    robots: list[RobotActor] | Fault
    keys: Keys
    now: float  # Unix seconds


def checkup(facts: Facts) -> views.Checkup:
    """Every check, in the order in which one depends on the other."""
    checks = [
        views.Check(name="API server", ok=True, found=f"it answers, Kubernetes {facts.server}"),
        *_kinds(facts),
        *_rights(facts),
        *_operator(facts),
        *_jobs(facts),
        *_robots(facts),
        *key_checks.check(
            facts.keys,
            [] if isinstance(facts.jobs, Fault) else facts.jobs,
            [] if isinstance(facts.robots, Fault) else facts.robots,
            facts.now,
        ),
    ]
    return views.Checkup(ok=all(one.ok for one in checks), checks=checks)


def _kinds(facts: Facts) -> Iterator[views.Check]:
    name = "kinds"
    if isinstance(facts.kinds, Fault):
        yield views.Check.unseen(name, facts.kinds)
        return
    missing = [one for one, found in facts.kinds.items() if found is None]
    ours = {one["metadata"]["name"]: one for one in map(crd, Kind)}
    other = [
        one
        for one, found in facts.kinds.items()
        if found is not None and _schema(found) != _schema(ours[one])
    ]
    if missing:
        found = f"the cluster has no {', '.join(missing)}"
        yield views.Check(name=name, ok=False, found=found, remedy=INSTALL)
    if other:
        found = f"not those of this program: {', '.join(other)}"
        remedy = (
            "where this program is the newer one: `fleet crds | kubectl apply --server-side "
            "--force-conflicts -f -`; else install the program of the cluster's version"
        )
        yield views.Check(name=name, ok=False, found=found, remedy=remedy)
    if not missing and not other:
        yield views.Check(name=name, ok=True, found=f"all {len(ours)}, as this program knows them")


def _schema(kind: Object) -> Any:
    return {one["name"]: one["schema"] for one in kind["spec"]["versions"]}


def _rights(facts: Facts) -> Iterator[views.Check]:
    name = "your rights"
    if isinstance(facts.allowed, Fault):
        yield views.Check.unseen(name, facts.allowed)
        return
    needs = [(need, may) for need, may in zip(NEEDS, facts.allowed, strict=True)]
    lacking = [need for need, may in needs if not may]
    if not lacking:
        yield views.Check(name=name, ok=True, found=f"all {len(NEEDS)} in {facts.namespace}")
        return
    verbs = [
        f"{verb} {resource}{f'/{part}' if part else ''}" for _, verb, resource, part in lacking
    ]
    yield views.Check(
        name=name,
        ok=False,
        found=f"you may not {', '.join(need[0] for need in lacking)} in {facts.namespace}",
        remedy=f"ask an administrator for a Role with {', '.join(verbs)}",
    )


def _operator(facts: Facts) -> Iterator[views.Check]:
    name = "operator"
    if isinstance(facts.operator, Fault):
        yield views.Check.unseen(name, facts.operator)
        return
    for one in facts.operator:
        at, ready = one["metadata"]["name"], one.get("status", {}).get("readyReplicas", 0)
        wanted = one["spec"].get("replicas", 1)
        if ready and ready >= wanted:
            found = f"Deployment {at} is ready, its probe answers{_pods(facts)}"
            yield views.Check(name=name, ok=True, found=found)
            continue
        yield views.Check(
            name=name,
            ok=False,
            found=f"Deployment {at}: {ready} of {wanted} ready{_pods(facts)}",
            remedy=f"`kubectl -n {facts.namespace} describe pod -l app.kubernetes.io/name={at}`"
            if wanted
            else f"`kubectl -n {facts.namespace} scale deployment/{at} --replicas=1`",
        )
    jobs = [] if isinstance(facts.jobs, Fault) else facts.jobs
    if facts.operator:
        return
    # It may run by hand, elsewhere: then its deeds tell of it.
    if jobs and all(one.status.observed_generation == one.metadata.generation for one in jobs):
        found = f"no Deployment of it in {facts.namespace}, but its jobs were looked at"
        yield views.Check(name=name, ok=True, found=found)
    else:
        found = f"there is none in namespace {facts.namespace}, the only one it would work in"
        yield views.Check(name=name, ok=False, found=found, remedy=INSTALL)


def _pods(facts: Facts) -> str:
    """What its containers say: what they wait for, and how often they were started again."""
    pods = [] if isinstance(facts.pods, Fault) else facts.pods
    statuses = list(
        chain.from_iterable(one.get("status", {}).get("containerStatuses") or [] for one in pods)
    )
    waits = [one.get("state", {}).get("waiting", {}).get("reason", "") for one in statuses]
    count = sum(one.get("restartCount", 0) for one in statuses)
    told = [*filter(None, waits), *([f"restarted {count} times"] if count else [])]
    return "".join(f", {one}" for one in told)


PARTS = ((C.STREAMS_READY, "False", "NATS"), (C.STORAGE_FAILING, "True", "storage"))
"""Conditions that tell of what a job works with: when they are wrong, and of what."""


def _jobs(facts: Facts) -> Iterator[views.Check]:
    if isinstance(facts.jobs, Fault):
        yield views.Check.unseen("jobs", facts.jobs)
        return
    if not facts.jobs:
        remedy = "`kubectl apply -f manifests/samples/staged.yaml` makes one"
        yield views.Check(name="jobs", ok=True, found="there is none yet", remedy=remedy)
    for job in facts.jobs:
        yield from _job(job)


def _job(job: FleetTrainingJob) -> Iterator[views.Check]:
    name, status = f"job {job.metadata.name}", job.status
    said: set[str] = set()
    if status.observed_generation < job.metadata.generation:
        found = "its newest edit was not looked at"
        remedy = "look again in a minute; if that lasts, the operator is away"
        yield views.Check(name=name, ok=False, found=found, remedy=remedy)
    for type_, wrong, part in PARTS:
        one = status.condition(type_)
        if one is not None and one.status == wrong:
            said.add(one.message)
            yield views.Check(
                name=f"{name}, {part}", ok=False, found=one.message, remedy=_page(one)
            )
    stalled = status.condition(C.STALLED)
    if stalled is not None and stalled.message not in said:
        yield views.Check(name=name, ok=False, found=stalled.message, remedy=_page(stalled))
    elif not said and status.observed_generation >= job.metadata.generation:
        ready = status.condition(C.READY)
        yield views.Check(name=name, ok=True, found=ready.message if ready else status.phase)


def _page(condition: Any) -> str:
    return f"{TROUBLESHOOTING}, {condition.reason}"


def _robots(facts: Facts) -> Iterator[views.Check]:
    if isinstance(facts.robots, Fault):
        yield views.Check.unseen("robots", facts.robots)
        return
    at_work = [one for one in facts.robots if not one.spec.suspend]
    stalled = [one for one in at_work if one.status.condition(C.STALLED) is not None]
    for one in stalled[:SHOWN]:
        why = one.status.condition(C.STALLED)
        if why is not None:
            name = f"robot {one.metadata.name}"
            yield views.Check(name=name, ok=False, found=why.message, remedy=_page(why))
    if (more := len(stalled) - SHOWN) > 0:
        yield views.Check(
            name="robots",
            ok=False,
            found=f"{more} more are Stalled",
            remedy="`fleet robots list` tells of each why",
        )
    silent = [one for one in at_work if one not in stalled and _silent(one)]
    if silent:
        yield views.Check(
            name="robots",
            ok=False,
            found=f"{len(silent)} of {len(at_work)} are silent: {_named(silent, facts.now)}",
            remedy="look whether they run and reach NATS; `fleet logs ROBOT` where it is a pod, "
            "`fleet robots drain ROBOT` where it is away for long",
        )
    elif not stalled:
        yield views.Check(name="robots", ok=True, found=f"all {len(at_work)} at work are heard of")


def _silent(robot: RobotActor) -> bool:
    """Those of a job at rest are not missed."""
    resting = look.holds(robot.status, C.SUSPENDED)
    return not resting and not look.holds(robot.status, C.CONNECTED)


def _named(robots: Sequence[RobotActor], now: float) -> str:
    def one(robot: RobotActor) -> str:
        seen = since(robot.status.last_seen, now)
        return f"{robot.metadata.name} ({'never seen' if seen is None else f'{age(seen)} ago'})"

    more = len(robots) - SHOWN
    shown = ", ".join(map(one, robots[:SHOWN]))
    return f"{shown} and {more} more" if more > 0 else shown
