"""A job's learner, simulated robots and clerk: those that are missing made, the others ended."""

from typing import NamedTuple

from fleet_contract import names
from fleet_contract.errors import Retry
from fleet_contract.names import Kind
from fleet_operator.cluster import RefusedError
from fleet_operator.decide import fleet, learner
from fleet_operator.desired import learner as desired_learner
from fleet_operator.desired import robots as desired_robots
from fleet_operator.handlers import job_clerk
from fleet_operator.handlers.job_world import World
from fleet_operator.office import Office


class Made(NamedTuple):
    """How far it came."""

    begun: int
    """Number of the learner's run there is. One that was not begun must not count as the last, or
    the one that lives would be taken for an old one."""
    taken: str = ""  # the first object whose name we need and somebody else has
    refusal: str = ""  # the API server will have one of them neither now nor later
    later: str = ""  # why it could not take one of them now


async def apply(
    office: Office, world: World, run: learner.LearnerPlan, crew: fleet.FleetPlan
) -> Made:
    """Raises nothing: what becomes of a rollout does not hang on it."""
    made = Made(run.number - run.create)
    if world.keys_fault:
        return made._replace(refusal=world.keys_fault)
    try:
        begun, taken = await _learner(office, world, run)
        made = made._replace(begun=begun, taken=taken)
        taken = await _robots(office, world, crew)
        made = made._replace(taken=made.taken or taken)
        taken = await job_clerk.apply(office, world)
        return made._replace(taken=taken or made.taken)
    except RefusedError as fault:
        return made._replace(refusal=str(fault))
    except Retry as fault:
        return made._replace(later=str(fault))


async def _learner(office: Office, world: World, run: learner.LearnerPlan) -> tuple[int, str]:
    cluster, begun, taken = office.cluster, run.number - run.create, ""
    for old in run.delete:
        await cluster.delete("Job", old.name, old.uid, foreground=True)
    for pod in run.orphans:
        await cluster.delete("Pod", pod.name, pod.uid)
    if run.refuse is not None:
        refused, words = run.refuse
        await cluster.end_job(refused.name, refused.uid, words)
    # Without streams a learner has nothing to read; they come first.
    if run.create and world.line is not None and not await _lives(office, world, run.number - 1):
        made = desired_learner.learner_job(world.job, run.number, world.to)
        taken = await cluster.claim(made, world.job.metadata.uid)
        begun = run.number if not taken else begun
    return begun, taken


async def _lives(office: Office, world: World, number: int) -> bool:
    """Whether the last run is still there, asked by name: a list may be an old one."""
    name = names.learner_job(world.job.metadata.name, number)
    return number > 0 and await office.cluster.get("Job", name) is not None


async def _robots(office: Office, world: World, crew: fleet.FleetPlan) -> str:
    cluster, taken = office.cluster, list[str]()
    for index in crew.create:
        made = desired_robots.simulated_robot(world.job, index)
        taken.append(await cluster.claim(made, world.job.metadata.uid))
    for robot in crew.delete:
        await cluster.delete(Kind.ROBOT_ACTOR, robot.metadata.name, robot.metadata.uid)
    taken += [f"{Kind.ROBOT_ACTOR} {name}" for name in crew.taken]
    return next(filter(None, taken), "")
