"""One key follows another: both are known for a while, then the new one signs."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, NamedTuple

from fleet_cli.exits import Exit, Fault
from fleet_cli.oncall import views
from fleet_cli.oncall.world import read
from fleet_contract import names
from fleet_contract.names import Kind, Label, Signatory
from fleet_contract.resources import RobotActor, RobotMode
from fleet_contract.resources.base import now_rfc3339
from fleet_contract.trust import PrivateKey, read_public
from fleet_operator.decide.keys import SECRETS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleet_cli.kube import Kube, Object

NEXT = "the new key signs as soon as nodes show its Secret to their pods, within two minutes"
LAST = (
    "`fleet doctor` says what still needs an old key, and when its line may go from ConfigMap "
    f"{names.TRUST} and from robots outside"
)


class Begun(NamedTuple):
    """What people have to know while both keys are known and the old one signs."""

    role: Signatory
    public: str
    outside: list[str]
    overlap: float


async def rotate(
    kube: Kube,
    role: Signatory,
    overlap: float,
    now: float,
    tell: Callable[[Begun], Awaitable[None]],
) -> views.Rotation:
    """Make a key, make its public half known, and after ``overlap`` seconds let it sign.

    Raises ``Fault`` where there is no key yet, where the caller may not, or where somebody else
    changes the same objects meanwhile.
    """
    trust, secret = await _found(kube, role)
    fresh = PrivateKey.generate()
    robots = [read(RobotActor, one) for one in await kube.list(Kind.ROBOT_ACTOR)]
    outside = [one.metadata.name for one in robots if one.spec.mode is RobotMode.EXTERNAL]
    known = trust["data"][role.value]
    await kube.merge(
        "ConfigMap", names.TRUST, _at(trust) | {"data": {role.value: _with(known, fresh.public)}}
    )
    await tell(Begun(role, fresh.public, outside, overlap))
    await asyncio.sleep(overlap)
    trust, secret = await _found(kube, role)
    if fresh.public not in read_public(trust["data"][role.value]).values():
        raise Fault(
            f"somebody took {fresh.public} out of ConfigMap {names.TRUST} meanwhile: the old key "
            f"signs on; `fleet keys rotate {role}` begins anew"
        )
    patch = _at(secret)
    patch["metadata"]["annotations"] = {
        Label.PUBLIC_KEY.value: fresh.public,
        Label.SIGNS_SINCE.value: now_rfc3339(now + overlap),
    }
    patch["data"] = {names.KEY: base64.b64encode(fresh.reveal().encode()).decode()}
    await kube.merge("Secret", SECRETS[role], patch)
    return views.Rotation(
        role=role.value,
        key=fresh.id,
        public=fresh.public,
        old=[one for one in read_public(known) if one != fresh.id],
        outside=outside,
        next=[NEXT, LAST],
    )


async def _found(kube: Kube, role: Signatory) -> tuple[Object, Object]:
    trust = await kube.find("ConfigMap", names.TRUST)
    secret = await kube.find("Secret", SECRETS[role])
    if trust is None or secret is None or role.value not in (trust.get("data") or {}):
        raise Fault(
            f"there is no key of the {role} in namespace {kube.namespace} yet: the operator makes "
            "it at its first job",
            Exit.NOT_FOUND,
        )
    try:
        read_public(trust["data"][role.value])
    except ValueError as fault:
        raise Fault(f"ConfigMap {names.TRUST}, {role}: {fault}: correct it first") from fault
    return trust, secret


def _at(found: Object) -> Object:
    """A patch that is refused where somebody changed the object since."""
    return {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}}


def _with(known: str, public: str) -> str:
    return f"{known.rstrip()}\n{public}\n"
