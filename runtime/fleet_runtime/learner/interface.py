"""Where a job's interface and its first weights may come from, besides a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import FleetError, Misconfigured, Untrusted
from fleet_runtime.artifacts import Missing
from fleet_runtime.datasets.items import open_folder
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.policies.bundle import FILES, from_files

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.policies.base import Policy


def spaces_of(episode: Episode, tasks: tuple[str, ...]) -> Spaces:
    """The interface an episode shows; actions are taken to be normalised to ±1.

    Raises FleetError when they are not: bounds cannot be guessed from what was done.
    """
    worst = float(np.abs(episode.action).max())
    if worst > 1.0:
        raise Misconfigured(
            f"episode {episode.id} has an action of {worst:g}, outside the bounds of ±1 assumed "
            "where none are told; give spec.policy.parameters.spaces with observationSize, "
            "actionLow and actionHigh"
        )
    size = episode.action.shape[1]
    return Spaces(
        tasks=tasks,
        observation_size=episode.observation.shape[1],
        action_low=(-1.0,) * size,
        action_high=(1.0,) * size,
        images={name: frames.shape[1:] for name, frames in episode.images.items()},
    )


def initial_policy(uri: str) -> Policy | None:
    """The bundle in a folder, None for no URI. Raises FleetError (`Retry`, `Untrusted` too)."""
    if not uri:
        return None
    try:
        store, folder = open_folder(uri)
    except ValueError as fault:
        raise Misconfigured(f"spec.policy.initial.uri: {fault}") from fault
    try:
        return from_files({name: store.get(f"{folder}/{name}") for name in FILES})
    except (Missing, Untrusted) as fault:
        raise FleetError(
            f"spec.policy.initial.uri: {fault}; point it at a folder with {', '.join(FILES)}"
        ) from fault
