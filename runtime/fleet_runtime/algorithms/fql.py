"""Flow Q-learning (Park et al., arXiv 2502.02538), a baseline: a one-step policy led by Q.

    f_β:  flow matching on what went well, of both sides
    Q:    y = Σ γ^i r + γ^H Q'(s_{t+H}, μ(s_{t+H}, z)), the mean of two target heads
    μ:    −Q(s, μ(s, z)) / mean |Q| + α |μ(s, z) − ODE(f_β, s, z)|²,   z ~ N(0, I)

μ(s, z) = z + v_θ(z, 0 | s) is a flow taken in one Euler step, so what is published is a flow policy
like any other, whose `euler_steps` is 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field

from fleet_runtime.algorithms.base import Update, losses_by_pool
from fleet_runtime.algorithms.critics import TwinQ, sparse_return
from fleet_runtime.algorithms.flow_learner import FlowLearner, FlowLearnerConfig, follow
from fleet_runtime.experience.batch import EVERYTHING, SUCCESSES, Batch, SampleSpec, Source, by_name
from fleet_runtime.policies.lora import freeze

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_runtime.policies.flow import FlowPolicy


class FQLConfig(FlowLearnerConfig):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    critic_learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-4
    """Adam's step size for Q, constant."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """γ per control step."""
    alpha: Annotated[float, Field(ge=0)] = 10.0
    """α: weight of staying with what the flow imitates."""
    critic_ema: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Share of the new critic in its target per update."""
    flow_steps: Annotated[int, Field(ge=1, le=100)] = 10
    """Euler steps of the imitating flow."""
    imitates: tuple[Source, ...] = by_name(SUCCESSES)
    """What the flow imitates, of both sides."""


class FQL(FlowLearner[FQLConfig]):
    """A one-step flow policy between imitation and Q."""

    parameters = FQLConfig

    def __init__(self, config: FQLConfig, policy: FlowPolicy, *, seed: int = 0) -> None:
        super().__init__(config, policy.with_steps(1), seed=seed)
        chunk = policy.horizon
        self.sample_spec = SampleSpec(
            chunk=chunk,
            rows=config.batch_size,
            offline=EVERYTHING,
            online=EVERYTHING,
            windows=(chunk,),
            through_takeovers=True,
        )
        context = self.context_size
        size = {"hidden": config.hidden, "layers": config.layers}
        self.imitator = policy.with_steps(config.flow_steps)
        self.imitator.net.eyes = self.trained.net.eyes  # one pair, which imitation alone teaches
        freeze(self.imitator.net, config.trainable, policy.heads)
        self.q = TwinQ(context, chunk * policy.spaces.action_size, **size).to(self.device)
        self.target_q = TwinQ(context, chunk * policy.spaces.action_size, **size).to(self.device)
        self.target_q.load_state_dict(self.q.state_dict())
        self.policies.append(self.imitator)
        self.modules |= {"imitator": self.imitator.net, "q": self.q, "target_q": self.target_q}
        self.optimisers |= {
            "imitator": self.adam(self.imitator.net, config.learning_rate),
            "q": self.adam(self.q, config.critic_learning_rate),
        }

    def update(self, batches: Iterator[Batch]) -> Update:
        """One batch: the imitating flow, Q and its target, then the one-step policy."""
        batch = next(batches)
        shown = self.tensor(batch.of(self.config.imitates)).float()
        imitation = self.imitation_loss(batch, self.imitator)
        self.step("imitator", (imitation * shown).sum() / shown.sum().clamp(min=1.0))

        context, executed = self.context(batch), self.chunks(batch)
        q_loss = self._criticise(batch, context, executed)

        z = torch.randn(executed.shape, generator=self.noise, device=self.device)
        chunk = self._act(context, z)
        with torch.no_grad():
            taught = self.imitator.flow(context, z)
        q = self.q(context, self.bounded(chunk)).mean(dim=0)
        distance = (chunk - taught).square().mean(dim=1)
        loss = self.config.alpha * distance - q / q.detach().abs().mean().clamp(min=1e-3)
        self.improve(loss.mean())
        rows = distance.detach().cpu().numpy()
        return Update(
            metrics={
                "bc_flow": float(imitation.detach().mean()),
                "q_loss": q_loss,
                "q": float(q.detach().mean()),
                "distance": float(rows.mean()),
            },
            losses=losses_by_pool(rows, batch, len(self.trained.spaces.tasks)),
        )

    def _criticise(self, batch: Batch, context: torch.Tensor, executed: torch.Tensor) -> float:
        found = sparse_return(batch, 0, self.config.gamma)
        with torch.no_grad():
            later = self.later(batch, 0)
            z = torch.randn(executed.shape, generator=self.noise, device=self.device)
            ahead = self.target_q(later, self.bounded(self._act(later, z))).mean(dim=0)
            y = self.tensor(found.reward) + self.tensor(found.discount) * ahead
        loss = (self.q(context, executed) - y).square().mean()
        self.step("q", loss)
        follow(self.target_q, self.q, self.config.critic_ema)
        return float(loss.detach())

    def _act(self, context: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """μ(s, z): normalised chunks (B, H·A)."""
        start = torch.zeros((len(z), 1), device=self.device)
        out: torch.Tensor = z + self.trained.net(z, start, context)
        return out
