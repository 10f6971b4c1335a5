"""Behaviour cloning: the supervised start that SOP and LWD call SFT.

    L(θ) = E |v_θ(x^w, w | o, task) − (x¹ − x⁰)|²

over chunks of the demonstrations; what the fleet lives through is not looked at. With `online`
sources it is filtered BC, the baseline that imitates the fleet's own successes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet_runtime.algorithms.base import Update, losses_by_pool
from fleet_runtime.algorithms.flow_learner import FlowLearnerConfig, Learner
from fleet_runtime.experience.batch import SUCCESSES, Batch, SampleSpec, Source, by_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_runtime.policies.base import Trainable


class BCConfig(FlowLearnerConfig):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    offline: tuple[Source, ...] = by_name(SUCCESSES)
    """What it imitates of the offline side."""
    online: tuple[Source, ...] = ()
    """What it imitates of the online side."""


class BC(Learner[BCConfig, "Trainable"]):
    """Imitation of any policy that has a loss for it."""

    parameters = BCConfig

    def __init__(self, config: BCConfig, policy: Trainable, *, seed: int = 0) -> None:
        super().__init__(config, policy, seed=seed)
        self.sample_spec = SampleSpec(
            chunk=policy.horizon,
            rows=config.batch_size,
            offline=frozenset(config.offline),
            online=frozenset(config.online),
            # A subclass that updates in its own way may look at what only the end tells.
            unfinished=type(self).update is BC.update,
        )

    def update(self, batches: Iterator[Batch]) -> Update:
        """One batch, one optimiser step, one step of the average."""
        batch = next(batches)
        loss = self.imitation_loss(batch, self.trained)
        self.improve(loss.mean())
        rows = loss.detach().cpu().numpy()
        return Update(
            metrics={"bc_flow": float(rows.mean()), "online": float(batch.side.mean())},
            losses=losses_by_pool(rows, batch, len(self.trained.spaces.tasks)),
        )
