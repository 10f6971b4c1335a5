"""LWD's offline-to-online reinforcement learning (arXiv 2605.00416): DIVL critics, QAM actor.

Three stages in one run; everything is carried over from each to the next.

1. Behaviour cloning for `bc_steps`: the policy imitates the offline side's successes.
   What it has become is frozen as f_β, the reference; f_θ goes on from it. None where the policy
   it begins with is imitation enough.
2. Offline: V, Q and the policy learn from everything on the offline side, failures included;
   the target looks `n_step` chunks ahead. For the first `critic_steps` the policy stands still,
   for a Q that knows nothing must not lead it.
3. Online, once the fleet's experience flows: the same losses, one chunk ahead, a bolder τ.

An update, in the paper's order:

    ψ:  L_V = −Σ m_i log p_ψ(i|s),   m = the lower target Q(s, a) split over two atoms
    y = Σ γ^i r + γ^{nH} Quant_τ(s_{t+nH}),   by the new ψ, τ from its entropy there
    φ:  L_Q = (Q_φ(s, a) − y)², two heads;   target φ moves by `critic_ema`
    θ:  adjoint matching towards π_β exp(Q/λ), Q the lower target head   (see `qam`)

`value: expectile` replaces V by IQL's, `tau_alpha: 0` makes τ constant: the paper's baselines.
LWD draws the two sides alike: set spec.sampler.mode to Balanced.

With cameras, the policy's eyes learn in the first stage and are then fixed, for the critics too;
the paper fixes its vision online.

While the critics learn alone the policy's loss is told as 0, which an adaptive sampler remembers.
The paper leaves open which Q leads the policy, τ's limits, λ's scale against our Q in [0, 1] (its 2
is inert here) and the critic's size; what stands here and below is our choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from fleet_runtime.algorithms import divl, qam
from fleet_runtime.algorithms.base import Update, losses_by_pool
from fleet_runtime.algorithms.critics import Critic, TwinQ, sparse_return
from fleet_runtime.algorithms.flow_learner import FlowLearner, FlowLearnerConfig, follow
from fleet_runtime.experience.batch import (
    EVERYTHING,
    SUCCESSES,
    Batch,
    SampleSpec,
    Side,
    Source,
    by_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleet_runtime.policies.flow import FlowPolicy

ONE, MANY = 0, 1  # columns of the batch's windows: one chunk ahead, n_step of them


class DIVLQAMConfig(FlowLearnerConfig):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Adam's step size for the policy while it imitates, constant."""
    actor_learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-4
    """Adam's step size for the policy under adjoint matching, constant."""
    critic_learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-4
    """Adam's step size for V and Q, constant."""
    bc_steps: Annotated[int, Field(ge=0)] = 2000
    """Updates of behaviour cloning before the reference is frozen; 0: the policy it begins with."""
    critic_steps: Annotated[int, Field(ge=0)] = 0
    """Updates of the critics alone, after that."""
    imitates: tuple[Source, ...] = by_name(SUCCESSES)
    """What behaviour cloning imitates of the offline side."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """γ per control step; 1/(1 − γ) of about an episode's length keeps values apart."""
    n_step: Annotated[int, Field(ge=1, le=100)] = 10
    """n: chunks the offline target looks ahead; online it is always 1."""
    value: Literal["divl", "expectile"] = "divl"
    """How V is learned: DIVL's categorical law, or IQL's expectile at τ_base."""
    atoms: Annotated[int, Field(ge=2, le=1001)] = 201
    """K: atoms of V's law."""
    value_low: float = -0.1
    """The lowest atom."""
    value_high: float = 1.1
    """The highest atom."""
    tau_base_offline: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """τ_base before the fleet's experience flows."""
    tau_base_online: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """τ_base once it does."""
    tau_alpha: Annotated[float, Field(ge=0, le=1)] = 0.3
    """α: how far a vague V lowers τ; 0 holds τ at τ_base."""
    tau_low: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """τ_min; it rules while V is untrained."""
    tau_high: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """τ_max."""
    critic_ema: Annotated[float, Field(gt=0, le=1)] = 0.005
    """Share of the new critic in its target per update."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """λ: π* ∝ π_β exp(Q/λ); smaller trusts Q more."""
    flow_steps: Annotated[int, Field(ge=2, le=100)] = 10
    """T: steps of the adjoint's path (QAM's study: 10 suffice, 3 collapse)."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Greatest norm of the policy's gradient in adjoint matching."""


class DIVLQAM(FlowLearner[DIVLQAMConfig]):
    """A flow policy improved by critics beside a frozen imitation of the demonstrations."""

    parameters = DIVLQAMConfig

    def __init__(self, config: DIVLQAMConfig, policy: FlowPolicy, *, seed: int = 0) -> None:
        super().__init__(config, policy, seed=seed)
        chunk = policy.horizon
        self.sample_spec = SampleSpec(
            chunk=chunk,
            rows=config.batch_size,
            offline=EVERYTHING,
            online=EVERYTHING,
            windows=(chunk, config.n_step * chunk),
            through_takeovers=True,
        )
        context = self.context_size
        size = {"hidden": config.hidden, "layers": config.layers}
        outputs = config.atoms if config.value == "divl" else 1
        self.reference = policy.copy().net.requires_grad_(False)
        self.v = Critic(context, outputs, **size).to(self.device)
        self.q = TwinQ(context, chunk * policy.spaces.action_size, **size).to(self.device)
        self.target_q = TwinQ(context, chunk * policy.spaces.action_size, **size).to(self.device)
        self.target_q.load_state_dict(self.q.state_dict())
        self.modules |= {
            "reference": self.reference,
            "v": self.v,
            "q": self.q,
            "target_q": self.target_q,
        }
        self.optimisers |= {
            "actor": self.adam(self.trained.net, config.actor_learning_rate),
            "v": self.adam(self.v, config.critic_learning_rate),
            "q": self.adam(self.q, config.critic_learning_rate),
        }
        self.atoms = torch.linspace(
            config.value_low, config.value_high, config.atoms, device=self.device
        )

    def update(self, batches: Iterator[Batch]) -> Update:
        """One batch: an imitation step in the first stage, then ψ, φ and θ in turn."""
        batch = next(batches)
        if self.updates < self.config.bc_steps:
            rows, metrics = self._imitate(batch)
            if self.updates == self.config.bc_steps:
                self._freeze()
        else:
            metrics = self._criticise(batch)
            if self.updates < self.config.bc_steps + self.config.critic_steps:
                self.updates += 1
                rows = np.zeros(len(batch))
            else:
                rows = self._match(batch)
                metrics |= {"qam": float(rows.mean())}
        tasks = len(self.trained.spaces.tasks)
        return Update(metrics=metrics, losses=losses_by_pool(rows, batch, tasks))

    def _imitate(self, batch: Batch) -> tuple[np.ndarray, dict[str, float]]:
        """Stage 1. Only what is to be imitated counts; the other rows weigh nothing."""
        loss = self.imitation_loss(batch, self.trained)
        shown = batch.of(self.config.imitates) & (batch.side == Side.OFFLINE)
        weight = self.tensor(shown).to(loss.dtype)
        mean = (loss * weight).sum() / weight.sum().clamp(min=1.0)
        self.improve(mean)
        return loss.detach().cpu().numpy(), {"bc_flow": float(mean.detach())}

    def _freeze(self) -> None:
        """Stage 1 ends: its average is the reference, and where the policy goes on from."""
        for net in (self.reference, self.trained.net):
            net.load_state_dict(self.average.net.state_dict())

    def _criticise(self, batch: Batch) -> dict[str, float]:
        """ψ, then y by the new ψ, then φ, then its target."""
        config, window = self.config, ONE if self.online else MANY
        tau_base = config.tau_base_online if self.online else config.tau_base_offline
        context, chunk = self.context(batch), self.chunks(batch)
        with torch.no_grad():
            label = self.target_q.least(context, chunk)
        if config.value == "divl":
            value_loss = divl.cross_entropy(self.v(context), divl.project(label, self.atoms))
        else:
            value_loss = divl.expectile_loss(label - self.v(context)[:, 0], tau_base)
        self.step("v", value_loss.mean())

        found = sparse_return(batch, window, config.gamma)
        with torch.no_grad():
            ahead, tau = self._bootstrap(self.later(batch, window), tau_base)
            y = self.tensor(found.reward) + self.tensor(found.discount) * ahead
        q = self.q(context, chunk)
        q_loss = (q - y).square()
        self.step("q", q_loss.mean())
        follow(self.target_q, self.q, config.critic_ema)
        return {
            "v_loss": float(value_loss.detach().mean()),
            "q_loss": float(q_loss.detach().mean()),
            "q": float(q.detach().mean()),
            "tau": float(tau.mean()),
        }

    def _bootstrap(self, context: torch.Tensor, base: float) -> tuple[torch.Tensor, torch.Tensor]:
        """What the state at a window's end is worth, and the τ that says so, each (B,)."""
        out = self.v(context)
        if self.config.value == "expectile":
            return out[:, 0], torch.full_like(out[:, 0], base)
        config = self.config
        tau = divl.adaptive_tau(
            out, base=base, alpha=config.tau_alpha, low=config.tau_low, high=config.tau_high
        )
        return divl.quantile(out, self.atoms, tau), tau

    def _match(self, batch: Batch) -> np.ndarray:
        """θ: one step of adjoint matching; its loss per row (B,)."""
        context = self.context(batch)
        flow, reference = self._flow(self.trained.net, context), self._flow(self.reference, context)
        size = self.trained.horizon * self.trained.spaces.action_size
        noise = torch.randn((len(batch), size), generator=self.noise, device=self.device)
        path = qam.paths(flow, reference, noise, self.config.flow_steps, self.noise)
        adjoint = qam.lean_adjoint(reference, path, self._slope(context, path[-1]))
        loss = qam.loss(flow, reference, path, adjoint)
        self.improve(loss.mean(), "actor", clip=self.config.clip)
        return loss.detach().cpu().numpy()

    def _slope(self, context: torch.Tensor, chunk: torch.Tensor) -> torch.Tensor:
        """g_1 = −∇_a Q(s, a)/λ at the generated chunks; the chunk is clipped inside Q."""
        chunk = chunk.detach().requires_grad_()
        q = self.target_q.least(context, self.bounded(chunk))
        (slope,) = torch.autograd.grad(q.sum(), chunk)
        return -slope / self.config.temperature

    @staticmethod
    def _flow(net: torch.nn.Module, context: torch.Tensor) -> qam.Flow:
        run: Callable[..., torch.Tensor] = net
        return lambda x, w: run(x, w, context.repeat(len(x) // len(context), 1))
