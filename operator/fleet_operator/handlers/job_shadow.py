"""The shadow gate of a job, as its world shows it: who may compute, and what they told."""

from fleet_operator.decide import shadow
from fleet_operator.decide.beside import Account, Beside, Scope
from fleet_operator.decide.gates import Gate
from fleet_operator.decide.rollout import State
from fleet_operator.handlers.job_world import World, robots_of


def seen(world: World, state: State) -> Gate | None:
    """None where it is not asked for."""
    began = status.started_at if (status := shadow.running(state)) else None
    elapsed, found = state.elapsed(began, world.now), _told(world, state)
    return shadow.gate(world.job.spec.rollout, state, robots_of(world), found, elapsed)


def _told(world: World, state: State) -> Beside:
    """Since the gate began, of the candidate beside the stable version."""
    status, line = shadow.running(state), world.line
    if line is None or status is None or state.candidate is None or state.stable is None:
        return Beside()
    scope = Scope(state.candidate.digest, state.stable.digest, status.events_from)
    known = line.beside
    if known is None or known.scope != scope or known.through > line.feed.last_event:
        known = line.beside = Account(scope)
    return known.extend(line.feed.since(known.through)).added_up()
