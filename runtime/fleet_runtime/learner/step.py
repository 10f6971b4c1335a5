"""One update, and where in its course a run stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import FleetError
from fleet_contract.messages import LearnerStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_runtime.algorithms.base import Algorithm, Update
    from fleet_runtime.algorithms.ranks import Ranks
    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.replay.sampler import AdaptiveSampler


def stage(
    *, step: int, offline_steps: int, offline: bool, data: bool, allowed: int
) -> LearnerStage:
    """Where the run stands. Pure.

    Args:
        step: updates made.
        offline_steps: updates of the supervised stage.
        offline: whether there are demonstrations.
        data: whether there is anything to draw.
        allowed: updates that may be made now.
    """
    if not data:
        return LearnerStage.WAITING_FOR_DATA
    if offline and step < offline_steps:
        return LearnerStage.OFFLINE
    return LearnerStage.ONLINE if allowed > 0 else LearnerStage.WAITING_FOR_DATA


def advance(
    algorithm: Algorithm, batches: Iterator[Batch], sampler: AdaptiveSampler, ranks: Ranks
) -> Update:
    """One update, and its losses, those of all ranks, to the sampler.

    Raises FleetError when training has diverged, and what drawing a batch raises.
    """
    update = algorithm.update(batches)
    update = update._replace(losses=ranks.mean(update.losses))
    _demand_finite(update, algorithm.updates)
    sampler.observe(update.losses)
    return update


def _demand_finite(update: Update, step: int) -> None:
    if not np.isfinite(update.losses).any():
        raise FleetError(
            f"update {step} has no finite loss ({update.metrics}): training diverged. Lower the "
            "learning rate in spec.algorithm.parameters; a restart resumes the last checkpoint"
        )
