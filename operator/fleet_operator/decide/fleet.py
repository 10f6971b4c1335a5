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
    owned = {
        name: robot
        for name, robot in by_name.items()
        if any(one.uid == job_uid for one in robot.metadata.owner_references)
    }
    wanted = {names.simulated_robot(job, index): index for index in range(replicas)}
    surplus = [
        robot
        for name, robot in owned.items()
        if name not in wanted and robot.metadata.deletion_timestamp is None
    ]
    surplus.sort(key=lambda robot: int(robot.metadata.name.rpartition("-")[2]), reverse=True)
    return FleetPlan(
        create=tuple(index for name, index in wanted.items() if name not in by_name),
        delete=tuple(surplus),
        taken=tuple(name for name in wanted if name in by_name and name not in owned),
        simulated=sum(
            name in owned and owned[name].metadata.deletion_timestamp is None for name in wanted
        ),
    )
