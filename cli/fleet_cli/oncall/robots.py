"""Robots: enroll one from outside, drain one and put it back to work."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall import edits, look, views
from fleet_cli.oncall.doctor import OPERATOR
from fleet_cli.oncall.world import read
from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.identity import claims, token_of
from fleet_contract.names import ConditionType as C
from fleet_contract.names import Env, Identity, Kind, Label
from fleet_contract.resources import FleetTrainingJob, RobotActor, RobotMode
from fleet_operator.decide.identities import entries_of, entry, of_robot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleet_cli.kube import Kube, Object
    from fleet_contract.identity import User

SPOOL = "/var/lib/fleetloop/spool"
TRUST = "/etc/fleetloop/trust"
CREDENTIALS = "/etc/fleetloop/user.creds"
AUTHORITIES = f"/etc/fleetloop/{names.CA}"
MINTED_WITHIN = 30.0  # seconds


def manifest(robot: str, job: str, site: str, groups: Sequence[str]) -> Object:
    """A robot that runs by itself."""
    spec = {"job": job, "mode": RobotMode.EXTERNAL.value}
    spec |= {"site": site} if site else {}
    return {
        "apiVersion": names.API_VERSION,
        "kind": Kind.ROBOT_ACTOR.value,
        "metadata": {"name": robot},
        "spec": spec | ({"groups": list(groups)} if groups else {}),
    }


def enrolled(
    job: FleetTrainingJob,
    robot: RobotActor,
    operator: Mapping[str, str],
    trust: Mapping[str, str],
    credentials: str = "",
    authorities: str = "",
) -> views.Enrolled:
    """What its program needs; ``operator`` are the operator's own variables, for its defaults.

    ``trust`` are the namespace's public keys, by role; ``credentials`` are who it is to NATS,
    ``authorities`` those that may sign the certificate of NATS.
    """
    transport, simulated = job.spec.transport, job.spec.robots.simulated
    config = RobotConfig(
        tasks=job.spec.tasks,
        control_hz=robot.spec.control_hz or simulated.control_hz,
        seed=robot.spec.seed,
        link=robot.spec.link,
        guard=robot.spec.guard,
        experience=transport.experience,
    )
    told = {
        Env.NAMESPACE: job.metadata.namespace,
        Env.JOB: job.metadata.name,
        Env.JOB_UID: job.metadata.uid,
        Env.ROBOT: robot.metadata.name,
        Env.ROBOT_UID: robot.metadata.uid,
        Env.NATS_URL: transport.nats.url or operator.get(Env.NATS_URL, ""),
        Env.STORAGE_URL: transport.storage.url or operator.get(Env.STORAGE_URL, ""),
        Env.SPOOL_DIR: SPOOL,
        Env.TRUST_DIR: TRUST,
        Env.SPEC: config.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True),
    }
    asked = accounts(job, operator)
    if asked:
        told[Env.NATS_CREDENTIALS] = CREDENTIALS
    if authorities:
        told[Env.NATS_CA] = AUTHORITIES
    missing = [
        f"{name.value}: the job names none, and the operator's default cannot be seen from here"
        for name, value in told.items()
        if not value
    ]
    grants = names.granted(told[Env.STORAGE_URL])
    if grants:
        told[Env.STORAGE_GRANTS] = "true"
    secret = transport.storage.secret_ref.name or operator.get(Env.STORAGE_SECRET, "")
    if secret and not grants:
        missing.append(f"AWS_…: the keys of the store, as in Secret {secret}")
    if asked and not credentials:
        missing.append(
            f"the file {CREDENTIALS}: the operator has not made it yet, or Secret "
            f"{names.users(names.user(Identity.ROBOT, robot.metadata.name))} is not yours to see; "
            f"`fleet robots credentials {robot.metadata.name}` asks again"
        )
    ours = told[Env.NATS_URL] == operator.get(Env.NATS_URL) and yes(operator, Env.NATS_TLS)
    if ours and not authorities:
        missing.append(
            f"the file {AUTHORITIES}: ConfigMap {names.NATS_CA} is not there yet, or not yours to "
            f"see; without it, and {Env.NATS_CA} that names it, no certificate of NATS is taken"
        )
    if not trust:
        missing.append(
            f"the public keys in {TRUST}: ConfigMap {names.TRUST} is not there yet, or not yours "
            "to see; its entries are the files of that folder"
        )
    return views.Enrolled(
        robot=robot.metadata.name,
        job=job.metadata.name,
        environment={name.value: value for name, value in told.items() if value},
        trust=dict(trust),
        credentials=credentials,
        authorities=authorities,
        missing=missing,
    )


def accounts(job: FleetTrainingJob, operator: Mapping[str, str]) -> bool:
    """Whether the job's NATS takes only whom the operator minted."""
    url = operator.get(Env.NATS_URL, "")
    return yes(operator, Env.NATS_ACCOUNTS) and job.spec.transport.nats.url in {"", url}


def yes(operator: Mapping[str, str], name: Env) -> bool:
    """Whether the operator is told so."""
    return operator.get(name, "").lower() in {"true", "1"}


async def enroll(
    kube: Kube, robot: str, job: str, site: str, groups: Sequence[str]
) -> views.Enrolled:
    """Make the RobotActor. Raises ``Fault`` where the job is not there or the name is taken."""
    found = read(FleetTrainingJob, await kube.get(Kind.TRAINING_JOB, job))
    if await kube.find(Kind.ROBOT_ACTOR, robot) is not None:
        raise Fault(f"there is a robot {robot} already: name another, or `kubectl delete` it first")
    made = await kube.create(manifest(robot, job, site, groups))
    return await _needs(kube, found, read(RobotActor, made))


async def credentials(kube: Kube, name: str, *, new: bool) -> views.Enrolled:
    """What the program of a robot outside needs, as it is now.

    With ``new`` other credentials are made, and those of before are void. Raises ``Fault``.
    """
    robot = read(RobotActor, await kube.get(Kind.ROBOT_ACTOR, name))
    if robot.spec.mode is not RobotMode.EXTERNAL:
        raise Fault(f"robot {name} is simulated: its pod has what it needs")
    job = read(FleetTrainingJob, await kube.get(Kind.TRAINING_JOB, robot.spec.job))
    if new:
        patch = {"metadata": {"annotations": {Label.CREDENTIALS.value: secrets.token_hex(4)}}}
        changed = await kube.merge(Kind.ROBOT_ACTOR, name, patch)
        robot = read(RobotActor, changed)
    return await _needs(kube, job, robot)


async def _needs(kube: Kube, job: FleetTrainingJob, robot: RobotActor) -> views.Enrolled:
    told: dict[str, str] = {}
    with contextlib.suppress(Fault):  # an operator that runs elsewhere, or is not ours to see
        for one in await kube.list("Deployment", labelSelector=OPERATOR):
            for container in one["spec"]["template"]["spec"]["containers"]:
                told |= {e["name"]: e.get("value", "") for e in container.get("env", [])}
    public = await _public(kube, names.TRUST)
    believed = (await _public(kube, names.NATS_CA)).get(names.CA, "")
    who = await _minted(kube, of_robot(robot, job).user) if accounts(job, told) else ""
    return enrolled(job, robot, told, public, who, believed)


async def _public(kube: Kube, name: str) -> dict[str, str]:
    """What a ConfigMap holds; nothing where it is not there, or not ours to see."""
    found: Object | None = None
    with contextlib.suppress(Fault):
        found = await kube.find("ConfigMap", name)
    return dict(found.get("data") or {}) if found else {}


async def _minted(kube: Kube, user: User) -> str:
    """The robot's credentials as soon as the operator has made them; empty where it does not."""
    with contextlib.suppress(Fault, TimeoutError):
        async with asyncio.timeout(MINTED_WITHIN):
            secret = names.users(entry(user))
            selector = f"metadata.name={secret}"
            async for known in kube.follow("Secret", fieldSelector=selector):
                text = entries_of(known.get(secret)).get(entry(user), "")
                if text and claims(token_of(text))["nats"]["tags"] == user.tags:
                    return text
    return ""


def idle(robot: RobotActor) -> bool:
    """Out of work, as far as its object tells: no pod is left, or nothing waits on its disk."""
    status = robot.status
    seen = status.observed_generation >= robot.metadata.generation
    out = seen and look.holds(status, C.SUSPENDED) and look.holds(status, C.READY)
    return out and (robot.spec.mode is RobotMode.SIMULATED or status.spool_depth == 0)


async def drain(kube: Kube, name: str, *, within: float, force: bool) -> views.Edit:
    """Take a robot out of work and await that it is idle.

    Raises ``Fault`` where there is none, or it is not idle after ``within`` seconds; 0: no wait.
    """
    patch, does = {"spec": {"suspend": True}}, f"Robot {name} is drained."
    made = await edits.edit(kube, Kind.ROBOT_ACTOR, name, patch, does=does, force=force)
    if not made.applied or not within:
        return made
    last: RobotActor | None = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            async for known in kube.follow(Kind.ROBOT_ACTOR, fieldSelector=f"metadata.name={name}"):
                if name not in known:
                    raise Fault(f"robot {name} was deleted meanwhile", Exit.NOT_FOUND)
                last = read(RobotActor, known[name])
                if idle(last):
                    return _told(made, last)
    waits = f"{last.status.spool_depth} records wait on its disk" if last else "it was not seen"
    raise Fault(
        f"robot {name} is suspended, but not idle after {within:g} s: {waits}; "
        f"`fleet robots list` shows it, `fleet robots undrain {name}` puts it back to work",
        Exit.NO_ANSWER,
    )


def _told(made: views.Edit, robot: RobotActor) -> views.Edit:
    if robot.spec.mode is RobotMode.SIMULATED:
        return made
    more = " It is in no trial any more; its program still runs: stop it now."
    return made.model_copy(update={"message": made.message + more})


async def undrain(kube: Kube, name: str, *, force: bool) -> views.Edit:
    """Put it back to work."""
    patch, does = {"spec": {"suspend": False}}, f"Robot {name} is at work again."
    return await edits.edit(kube, Kind.ROBOT_ACTOR, name, patch, does=does, force=force)
