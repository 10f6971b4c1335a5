"""The simulated part of a fleet: which RobotActors to make and which to end. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from fleet_contract import names
from fleet_contract.resources import RobotActor


class FleetPlan(NamedTuple):
    """Robots to make by index, to end by name; names that somebody else holds."""

    create: tuple[int, ...]
    delete: tuple[RobotActor, ...]
    taken: tuple[str, ...]
    simulated: int  # those there are, and stay


def plan(job: str, job_uid: str, replicas: int, robots: Iterable[RobotActor]) -> FleetPlan:
    """Indices 0 to replicas-1 shall exist; those above go, the highest first."""
    by_name = {robot.metadata.name: robot for robot in robots}
    index_of = {
        name: index
        for name, robot in by_name.items()
        if any(one.uid == job_uid for one in robot.metadata.owner_references)
        and (index := _index(job, name)) is not None
    }
    wanted = {names.simulated_robot(job, index): index for index in range(replicas)}
    surplus = [
        by_name[name]
        for name in sorted(index_of, key=lambda name: index_of[name], reverse=True)
        if name not in wanted and by_name[name].metadata.deletion_timestamp is None
    ]
    return FleetPlan(
        create=tuple(index for name, index in wanted.items() if name not in by_name),
        delete=tuple(surplus),
        taken=tuple(name for name in wanted if name in by_name and name not in index_of),
        simulated=sum(
            name in index_of and by_name[name].metadata.deletion_timestamp is None
            for name in wanted
        ),
    )


def _index(job: str, name: str) -> int | None:
    """None of a robot that somebody else made, though its job may own it."""
    index = name.rpartition("-")[2]
    ours = index.isdecimal() and names.simulated_robot(job, int(index)) == name
    return int(index) if ours else None
