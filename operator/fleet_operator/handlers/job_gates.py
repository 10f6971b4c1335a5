"""The gates that a job asks for, as its world shows them, and the Jobs that run them."""

from fleet_contract.names import Gate as GateName
from fleet_contract.resources import GateStatus
from fleet_operator.decide import simulation
from fleet_operator.decide.gates import Gate
from fleet_operator.decide.rollout import State
from fleet_operator.desired import simulation as desired
from fleet_operator.handlers import job_shadow
from fleet_operator.handlers.job_world import World
from fleet_operator.office import Office


def seen(world: World, state: State) -> tuple[Gate, ...]:
    """In the order in which a version passes them."""
    asked = []
    if gate := world.job.spec.rollout.gates.simulation:
        found = _simulation(world, state)
        report = simulation.report(found) if found else None
        asked.append(Gate(GateName.SIMULATION, desired.asked(world.job, gate), report))
    if beside := job_shadow.seen(world, state):
        asked.append(beside)
    return tuple(asked)


async def apply(office: Office, world: World, state: State) -> None:
    """The Jobs of the gate that runs now; those of others end."""
    cluster, found = office.cluster, _simulation(world, state)
    plan = simulation.plan(found, world.gate_runs, world.gate_pods)
    for run in plan.delete:
        await cluster.delete("Job", run.name, run.uid, foreground=True)
    for pod in plan.orphans:
        await cluster.delete("Pod", pod.name, pod.uid)
    if plan.create and found is not None:
        of, gate, status = found.candidate, found.gate, found.status
        await cluster.create(desired.gate_job(world.job, gate, status, of, world.to))


def last_run(world: World) -> int:
    """The greatest number of a run there is anything left of."""
    return max((run.number for run in world.gate_runs if run.ours), default=0)


def _simulation(world: World, state: State) -> simulation.Seen | None:
    """None where no run of it is under way or has ended for the candidate."""
    gate, candidate = world.job.spec.rollout.gates.simulation, state.candidate
    status = _of(state.rollout.gates)
    if gate is None or candidate is None or status is None or not status.run or state.started:
        return None
    stable = next(
        (one for one in world.versions if state.stable and one.metadata.name == state.stable.name),
        None,
    )
    before = _of(stable.status.gates) if stable else None
    return simulation.Seen(
        gate,
        status,
        candidate,
        tuple(task.name for task in desired.tasks(world.job, gate)),
        desired.template_hash(status, candidate),
        world.gate_runs,
        world.gate_pods,
        world.line.feed.gate if world.line else None,
        (stable.spec.sequence, before) if stable and before else None,
        world.job.spec.suspend,
        world.settling,
    )


def _of(gates: list[GateStatus]) -> GateStatus | None:
    return next((one for one in gates if one.name is GateName.SIMULATION), None)
