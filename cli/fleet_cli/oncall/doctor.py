"""``fleet doctor``: what must be in place, looked at all at once; ``checks`` judges it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall.checks import NEEDS, Facts
from fleet_cli.oncall.key_checks import Keys
from fleet_cli.oncall.world import R, read
from fleet_contract import names
from fleet_contract.resources import FleetTrainingJob, PolicyVersion, RobotActor
from fleet_operator.decide.keys import SECRETS

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from fleet_cli.kube import Kube, Object
    from fleet_contract.names import Signatory

METADATA = {"Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
OPERATOR = "app.kubernetes.io/name=fleetloop-operator"
KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def facts(kube: Kube, now: float) -> Facts:
    """Raises ``Fault`` where the API server cannot be reached at all."""
    version = await kube.call("GET", "/version") or {}
    (
        kinds,
        deployments,
        pods,
        allowed,
        jobs,
        robots,
        trust,
        secrets,
        versions,
    ) = await asyncio.gather(
        _or_why(_kinds(kube)),
        _or_why(kube.list("Deployment", labelSelector=OPERATOR)),
        _or_why(kube.list("Pod", labelSelector=OPERATOR)),
        _or_why(_allowed(kube)),
        _or_why(_all(kube, FleetTrainingJob)),
        _or_why(_all(kube, RobotActor)),
        _or_why(kube.find("ConfigMap", names.TRUST)),
        _or_why(_secrets(kube)),
        _or_why(_all(kube, PolicyVersion)),
    )
    keys = Keys(trust, secrets, versions)
    server, namespace = str(version.get("gitVersion", "?")), kube.namespace
    return Facts(server, namespace, kinds, deployments, pods, allowed, jobs, robots, keys, now)


async def _or_why(wanted: Awaitable[Any]) -> Any:
    """What could not be looked at is a finding too."""
    try:
        return await wanted
    except Fault as fault:
        return fault


async def _all(kube: Kube, kind: type[R]) -> list[R]:
    return [read(kind, one) for one in await kube.list(kind.kind_name)]


async def _secrets(kube: Kube) -> dict[Signatory, Object | None]:
    """The Secrets of the keys, without what is in them."""
    found = [
        await kube.call("GET", kube.path("Secret", name), headers=METADATA, absent=True)
        for name in SECRETS.values()
    ]
    return dict(zip(SECRETS, found, strict=True))


async def _kinds(kube: Kube) -> dict[str, Object | None]:
    """The kinds as the cluster has them, by name; None for one it has not."""
    wanted = [f"{plural}.{names.GROUP}" for plural in names.PLURALS.values()]
    found = await asyncio.gather(
        *(kube.call("GET", f"{KINDS}/{name}", absent=True) for name in wanted)
    )
    return dict(zip(wanted, found, strict=True))


async def _allowed(kube: Kube) -> list[bool]:
    """Of ``NEEDS``, which the caller may do."""

    async def may(verb: str, resource: str, part: str) -> bool:
        attributes = {
            "namespace": kube.namespace,
            "verb": verb,
            "group": "" if resource == "pods" else names.GROUP,
            "resource": resource,
            "subresource": part,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = await kube.call("POST", REVIEWS, body=body)
        if answer is None:
            raise Fault("no answer to an access review", Exit.NO_ACCESS)
        return bool(answer["status"].get("allowed"))

    return list(await asyncio.gather(*(may(*need[1:]) for need in NEEDS)))
