"""HG-DAgger on a flow policy: imitate the demonstrations and whatever the fleet did well.

The human alone decides when to take over (Kelly et al., arXiv 1810.02890); as SOP's plug-in
(arXiv 2601.03044) the loss is the flow-matching loss of the policy on a mix of offline
demonstrations and online data, and the sampler settles the mix:

    L(θ) = E |v_θ(x^w, w | o, task) − (x¹ − x⁰)|²   over actions the validity mask lets through.

Rows are executed actions: the human's frames, and the policy's own where an episode went well.
Acting uses an exponential average of the weights, which a flow policy needs more than most: the
noise of its last updates shows as jitter of the arm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field

from fleet_runtime.algorithms.base import Update, losses_by_pool
from fleet_runtime.experience.batch import SUCCESSES, Batch, SampleSpec, Source
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.policies.base import Policy


class HGDagger:
    """Flow-matching imitation with an averaged policy for acting."""

    parameters: ClassVar[type[BaseModel]]

    def __init__(self, config: HGDaggerConfig, policy: FlowPolicy, *, seed: int = 0) -> None:
        self.config = config
        self.sample_spec = SampleSpec(
            chunk=policy.horizon,
            rows=config.batch_size,
            offline=frozenset(config.offline),
            online=frozenset(config.online),
        )
        self.updates = 0
        self._trained = policy
        self._average = policy.copy()
        self._weights: list[torch.Tensor] = list(self._trained.net.parameters())
        self._averages: list[torch.Tensor] = list(self._average.net.parameters())
        self._optimiser = torch.optim.Adam(self._weights, lr=config.learning_rate, fused=True)
        self._noise = torch.Generator(policy.device)
        self._noise.manual_seed(seed)

    @classmethod
    def create(
        cls,
        spaces: Spaces,
        config: Mapping[str, object],
        *,
        normalization: Normalization | None = None,
        initial: Policy | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """As in `Algorithm.create`; an initial policy brings its own size and statistics."""
        settings = HGDaggerConfig.model_validate(dict(config))
        if initial is not None:
            if not isinstance(initial, FlowPolicy) or initial.spaces != spaces:
                raise ValueError("the initial policy is not a flow policy for these spaces")
            policy = FlowPolicy(initial.settings, initial.normalization, device)
            policy.net.load_state_dict(initial.net.state_dict())
            return cls(settings, policy, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = FlowPolicy(
                FlowConfig(
                    spaces=spaces,
                    horizon=settings.horizon,
                    execute=settings.execute,
                    hidden=settings.hidden,
                    layers=settings.layers,
                    noise=settings.noise,
                ),
                normalization
                or Normalization.identity(spaces.observation_size, spaces.action_size),
                device,
            )
        return cls(settings, policy, seed=seed)

    def update(self, batches: Iterator[Batch]) -> Update:
        """One batch, one optimiser step, one step of the average."""
        batch = next(batches)
        device = self._trained.device
        loss = self._trained.loss(
            torch.from_numpy(batch.observation).to(device),
            torch.from_numpy(batch.task).to(device),
            torch.from_numpy(batch.action).to(device),
            torch.from_numpy(batch.valid).to(device),
            self._noise,
        )
        bc_flow = loss.mean()
        self._optimiser.zero_grad(set_to_none=True)
        bc_flow.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.updates += 1
        # The average must not remember the random start, so it begins as a plain mean.
        decay = min(self.config.ema, self.updates / (self.updates + 10.0))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)
        rows = loss.detach().cpu().numpy()
        return Update(
            metrics={"bc_flow": float(rows.mean()), "online": float(batch.side.mean())},
            losses=losses_by_pool(rows, batch, len(self._trained.spaces.tasks)),
        )

    def policy(self) -> FlowPolicy:
        """A copy of the averaged policy."""
        return self._average.copy()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, average, Adam's moments, statistics, noise and counter."""
        out = {
            "updates": torch.tensor(self.updates),
            "noise": self._noise.get_state().cpu(),
        }
        for name, tensor in self._trained.statistics().items():
            out[f"normalization.{name}"] = tensor
        for name, tensor in self._trained.tensors().items():
            out[f"trained.{name}"] = tensor.clone()
        for name, tensor in self._average.tensors().items():
            out[f"average.{name}"] = tensor.clone()
        for number, moments in self._optimiser.state_dict()["state"].items():
            for name, tensor in moments.items():
                out[f"adam.{number}.{name}"] = tensor.detach().cpu().clone()
        return out

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """As in `Algorithm.load`."""

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        config = self._trained.settings.model_dump()
        trained = FlowPolicy.build(config, part("trained."), part("normalization."))
        average = FlowPolicy.build(config, part("average."), part("normalization."))
        device = self._trained.device
        for mine, read in ((self._trained, trained), (self._average, average)):
            mine.net.load_state_dict(read.net.state_dict())
            mine.normalization = read.normalization.to(device)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in part("adam.").items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = tensor
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        self._noise.set_state(state["noise"])
        self.updates = int(state["updates"])


class HGDaggerConfig(BaseModel):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256
    """Rows of a batch."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Adam's step size, constant."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay per update of the averaged weights that act; 0 acts with the newest."""
    horizon: Annotated[int, Field(ge=1, le=256)] = 8
    """H: actions in a chunk, in control steps."""
    execute: Annotated[int, Field(ge=1, le=256)] = 4
    """Actions executed before the next chunk is asked for."""
    hidden: Annotated[int, Field(ge=1, le=4096)] = 256
    """Width of each hidden layer."""
    layers: Annotated[int, Field(ge=1, le=16)] = 3
    """Hidden layers."""
    noise: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Scale of the initial noise when acting: 1 samples the learned law, 0 its central path."""
    offline: tuple[Source, ...] = tuple(sorted(SUCCESSES, key=lambda s: s.value))
    """What it imitates of the offline side."""
    online: tuple[Source, ...] = tuple(sorted(SUCCESSES, key=lambda s: s.value))
    """What it imitates of the online side."""


HGDagger.parameters = HGDaggerConfig
