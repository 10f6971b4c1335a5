"""The one Job that lets a job's robots into the store, where its store asks for that."""

from fleet_operator.decide import clerk, training_job
from fleet_operator.desired import clerk as desired
from fleet_operator.handlers.job_world import World
from fleet_operator.office import Office


async def apply(office: Office, world: World) -> str:
    """Make it or end it; the kind and name of an object whose name it needs, if there is one."""
    plan = _plan(world)
    for old in plan.delete:
        await office.cluster.delete("Job", old.name, old.uid, foreground=True)
    if not plan.create:
        return ""
    made = desired.clerk_job(world.job, world.to)
    return await office.cluster.claim(made, world.job.metadata.uid)


def storage_fault(office: Office, world: World) -> str:
    """What is wrong with the store, as the learner says, or with the way there for robots."""
    said: str | None = ""
    if world.line is not None:
        said = world.line.feed.learner_fault(office.inbox.heard_since)
        if world.settling and not world.line.feed.learner_told:
            said = None
    return training_job.storage_fault(world.job, said) or _plan(world).fault


def _plan(world: World) -> clerk.ClerkPlan:
    return clerk.plan(
        wanted=world.to.grants,
        hash_=desired.template_hash(world.job, world.to),
        runs=world.clerks,
        pods=world.clerk_pods,
    )
