"""Environments by name: whatever is installed under the entry point `fleetloop.environments`."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from fleet_contract.parameters import unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.robot.env import Robot

GROUP = "fleetloop.environments"
"""Entry point group: a callable (tasks, *, seed) → Robot for each name."""


def find(name: str) -> Callable[..., Robot]:
    """What makes a robot of that environment; LookupError says what is missing."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise LookupError(f"no environment {name!r} is installed, {unknown(name, sorted(found))}")
    try:
        made: Callable[..., Robot] = found[name].load()
    except ImportError as fault:
        raise LookupError(f"environment {name!r} cannot be imported here: {fault}") from fault
    return made
