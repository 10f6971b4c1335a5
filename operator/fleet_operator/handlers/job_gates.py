"""The gates that a job asks for, as its world shows them; one function a gate."""

from fleet_operator.decide.gates import Gate
from fleet_operator.handlers.job_world import World


def seen(world: World) -> tuple[Gate, ...]:  # noqa: ARG001 - the simulation's comes next
    """In the order in which a version passes them."""
    return ()
