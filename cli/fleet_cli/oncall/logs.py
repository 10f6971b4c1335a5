"""The log of a learner or of a robot that is a pod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_cli.exits import Exit, Fault
from fleet_contract.names import Kind, Label, Role, robot_pod

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from fleet_cli.kube import Kube, Object

INDEX = "batch.kubernetes.io/job-completion-index"


def newest(pods: Iterable[Object], rank: int) -> Object | None:
    """The last pod made for this rank of a learner."""
    of_rank = [one for one in pods if _rank(one) == rank]
    return max(of_rank, key=lambda one: one["metadata"]["creationTimestamp"], default=None)


async def pod_of(kube: Kube, name: str, rank: int) -> str:
    """A job's learner pod, else a robot's pod. Raises ``Fault`` where there is neither."""
    if await kube.find(Kind.TRAINING_JOB, name) is not None:
        selector = f"{Label.JOB}={name},{Label.ROLE}={Role.LEARNER}"
        found = newest(await kube.list("Pod", labelSelector=selector), rank)
        if found is None:
            raise Fault(
                f"job {name} has no learner pod of rank {rank}: `fleet status {name}` says why",
                Exit.NOT_FOUND,
            )
        return str(found["metadata"]["name"])
    robot = await kube.find(Kind.ROBOT_ACTOR, name)
    if robot is None:
        raise Fault(
            f"no job and no robot {name!r} in namespace {kube.namespace}: `fleet get` and "
            "`fleet robots list` name them",
            Exit.NOT_FOUND,
        )
    if robot["spec"].get("mode") == "External":
        raise Fault(f"robot {name} is External: its log is where its program runs", Exit.NOT_FOUND)
    if await kube.find("Pod", robot_pod(name)) is None:
        raise Fault(f"robot {name} has no pod now: `fleet robots list` says why", Exit.NOT_FOUND)
    return robot_pod(name)


async def lines(
    kube: Kube, pod: str, *, follow: bool, previous: bool, tail: int
) -> AsyncIterator[str]:
    """Its lines, the last ``tail`` ones (0: all), and on for ever when followed."""
    query = {"follow": str(follow).lower(), "previous": str(previous).lower()}
    query |= {"tailLines": str(tail)} if tail else {}
    async for line in kube.lines(f"{kube.path('Pod', pod)}/log", query):
        yield line


def _rank(pod: Object) -> int:
    metadata = pod["metadata"]
    return int((metadata.get("annotations") or {}).get(INDEX, 0))
