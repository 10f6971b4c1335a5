"""RECAP (arXiv 2511.14759): imitate everything, told which actions were better than usual.

A distributional value learns the return from the data, in steps to success:

    r = −1 per step, 0 at success, −C_fail at failure, in units of the longest episode
    L_V = −Σ m_i log p_φ(i|o, l) on Monte-Carlo returns, 201 bins on (−1, 0)
    A = Σ_{t..t+N−1} r + V(o_{t+N}) − V(o_t),   I = 1[A > ε_l]

ε_l is set per task so that a given share of its frames is positive; a human's frame always is. The
policy learns with I as an input that is left out of 30 % of the rows, and acts by guidance
v_u + β (v_c − v_u) (see `FlowPolicy`). As SOP's plug-in (arXiv 2601.03044) the value learns in the
offline stage and is then frozen.

The first `value_steps` updates label everything as good, which is plain imitation: a value that
knows nothing must not choose. C_fail (an episode's length) is our choice: a failure's return is −1
at each of its steps. Where control changes within N steps, V takes over there.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fleet_runtime.algorithms import divl
from fleet_runtime.algorithms.base import Update, losses_by_pool
from fleet_runtime.algorithms.critics import Critic
from fleet_runtime.algorithms.flow_learner import FlowLearner, FlowLearnerConfig
from fleet_runtime.experience.batch import EVERYTHING, Batch, SampleSpec, Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleet_runtime.policies.flow import FlowPolicy


class RECAPConfig(FlowLearnerConfig):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    guidance: Annotated[float, Field(ge=0, le=10)] = 1.0
    """β when acting: 1 asks for a good action, more exaggerates it (the paper: 1 to 2.5)."""
    dropout: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of rows whose label is left out."""
    positive: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of a task's frames that count as better (the paper: .3 before, .4 after training)."""
    lookahead: Annotated[int, Field(ge=1, le=10_000)] = 50
    """N: steps after which V takes over from what was observed."""
    longest: Annotated[int, Field(ge=1)] = 500
    """Control steps of the longest episode, the unit of returns."""
    value_steps: Annotated[int, Field(ge=0)] = 500
    """Updates before the value's word counts."""
    value_learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-4
    """Adam's step size for V, constant."""
    bins: Annotated[int, Field(ge=2, le=1001)] = 201
    """Atoms of V's law on [−1, 0]."""
    remembered: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Advantages per task that ε_l is read from."""


class Thresholds(nn.Module):
    """The latest advantages of each task, and the ε_l that parts them. A module, to be saved."""

    seen: torch.Tensor  # (M, size), a ring a task
    count: torch.Tensor  # (M,)

    def __init__(self, tasks: int, size: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(tasks, size))
        self.register_buffer("count", torch.zeros(tasks, dtype=torch.int64))

    def observe(self, advantage: torch.Tensor, task: torch.Tensor) -> None:
        """Take in the advantages (B,) of frames of these tasks (B,)."""
        size = self.seen.shape[1]
        for number in range(len(self.count)):
            new = advantage[task == number][-size:]
            start = int(self.count[number])
            place = (start + torch.arange(len(new), device=new.device)) % size
            self.seen[number, place] = new
            self.count[number] += len(new)

    def epsilon(self, positive: float) -> torch.Tensor:
        """ε_l (M,): this share of a task's latest advantages lies above it; −∞ where none is."""
        found = torch.full((len(self.count),), -torch.inf, device=self.seen.device)
        for number, count in enumerate(self.count.tolist()):
            if count:
                found[number] = torch.quantile(self.seen[number, :count], 1 - positive)
        return found


class RECAP(FlowLearner[RECAPConfig]):
    """A flow policy conditioned on advantage."""

    parameters = RECAPConfig

    def __init__(self, config: RECAPConfig, policy: FlowPolicy, *, seed: int = 0) -> None:
        super().__init__(config, policy, seed=seed)
        self.sample_spec = SampleSpec(
            chunk=policy.horizon,
            rows=config.batch_size,
            offline=EVERYTHING,
            online=EVERYTHING,
            windows=(config.lookahead,),
        )
        tasks = len(policy.spaces.tasks)
        self.v = Critic(self.context_size, config.bins, hidden=config.hidden, layers=config.layers)
        self.v.to(self.device)
        self.thresholds = Thresholds(tasks, config.remembered).to(self.device)
        self.modules |= {"v": self.v, "thresholds": self.thresholds}
        # Eyes of its own: the policy's go on learning when the value is frozen.
        self.eyes = copy.deepcopy(policy.net.eyes)
        judging: list[nn.Module] = [self.v]
        if self.eyes is not None:
            self.modules["eyes"] = self.eyes
            judging.append(self.eyes)
        self.optimisers["v"] = self.adam(nn.ModuleList(judging), config.value_learning_rate)
        self.atoms = torch.linspace(-1, 0, config.bins, device=self.device)

    def update(self, batches: Iterator[Batch]) -> Update:
        """One batch: the value while it is not frozen, then the labelled policy."""
        batch = next(batches)
        metrics = {} if self.online else {"v_loss": self._value(batch)}
        labels = self._labels(batch)
        shown = torch.rand(len(batch), generator=self.noise, device=self.device)
        told = labels * (shown >= self.config.dropout)
        loss = self.imitation_loss(batch, self.trained, advantage=told)
        self.improve(loss.mean())
        rows = loss.detach().cpu().numpy()
        metrics |= {
            "bc_flow": float(rows.mean()),
            "positive": float((labels > 0).float().mean()),
        }
        return Update(metrics, losses_by_pool(rows, batch, len(self.trained.spaces.tasks)))

    def _value(self, batch: Batch) -> float:
        target = divl.project(self.tensor(returns(batch, self.config.longest)), self.atoms)
        loss = divl.cross_entropy(self.v(self.context(batch)), target).mean()
        self.step("v", loss)
        return float(loss.detach())

    def look(self, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What the value makes of frames: (B, F)."""
        assert self.eyes is not None  # noqa: S101 - there are cameras
        features: torch.Tensor = self.eyes(images)
        return features

    @torch.no_grad()
    def _labels(self, batch: Batch) -> torch.Tensor:
        """1 for better, −1 for not, per row (B,)."""
        task = self.tensor(batch.task)
        if self.updates < self.config.value_steps:
            return torch.ones_like(task)
        advantage = self._advantage(batch)
        # All ranks', so that one ε_l holds for all.
        self.thresholds.observe(self.ranks.gather(advantage), self.ranks.gather(task))
        better = advantage > self.thresholds.epsilon(self.config.positive)[task]
        better |= self.tensor(batch.of([Source.HUMAN]))
        return torch.where(better, 1, -1)

    def _advantage(self, batch: Batch) -> torch.Tensor:
        """A (B,), in units of the longest episode."""
        here = divl.mean(self.v(self.context(batch)), self.atoms)
        later = divl.mean(self.v(self.later(batch, 0)), self.atoms)
        ended = self.tensor(batch.remaining <= batch.ahead[:, 0])
        walked = self.tensor(batch.ahead[:, 0]).to(here.dtype) / -self.config.longest
        whole = self.tensor(returns(batch, self.config.longest))
        return torch.where(ended, whole, walked + later) - here


def returns(batch: Batch, longest: int) -> np.ndarray:
    """Monte-Carlo returns (B,) float32 from here to the end of the episode, cut to [−1, 0]."""
    steps = batch.remaining - batch.success  # the last step of a success costs nothing
    cost = np.where(batch.success, steps, steps + longest) / longest
    found: np.ndarray = -np.minimum(cost, 1.0).astype(np.float32)
    return found
