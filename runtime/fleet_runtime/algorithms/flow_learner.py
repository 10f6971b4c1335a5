"""What every algorithm here shares: a policy's start, its published copy, its checkpoint.

Acting uses an exponential average of the weights, which a flow policy needs more than most: the
noise of its last updates shows as jitter of the arm.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from pydantic import BaseModel, Field

from fleet_runtime.algorithms.adam import Adam
from fleet_runtime.algorithms.ranks import ALONE, Ranks
from fleet_runtime.policies.base import Trainable
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.lora import LoRA, freeze, learning
from fleet_runtime.policies.networks import VelocityNet, fill
from fleet_runtime.policies.parameters import FlowParameters
from fleet_runtime.policies.vision import shifted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Images
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.policies.normalization import Normalization


class FlowLearnerConfig(FlowParameters):
    """Parameters of a job's `algorithm` field; one that is not listed here is refused."""

    network: ClassVar = frozenset(FlowParameters.model_fields)
    """What it takes for a flow policy's sake; an architecture of another name has its own."""

    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256
    """Rows of a batch; of a job that does not say it here, `spec.learner.batchSize`."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 1e-3
    """Adam's step size for the policy, constant."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay per update of the averaged weights that act; 0 acts with the newest."""
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    """Pixels by which each frame is moved at random in training (DrQ takes 4 of 84)."""
    trainable: Literal["all", "heads", "lora"] = "all"
    """What of the policy learns: everything, its heads alone (of a flow policy the last layer), or
    low-rank adapters of its linear layers (arXiv 2106.09685). What is frozen has the same bytes in
    every version. A change starts anew: name the last version in `spec.policy.initial`."""
    lora_rank: Annotated[int, Field(ge=1, le=1024)] = 8
    """r of the adapters."""
    lora_alpha: Annotated[float, Field(gt=0, le=4096)] = 16.0
    """α of the adapters, which count α/r times."""


C = TypeVar("C", bound=FlowLearnerConfig)
P = TypeVar("P", bound=Trainable)


class Learner(Generic[C, P]):
    """A policy in training. Subclasses set `parameters` and `sample_spec`, and update.

    What a checkpoint must hold of theirs they enter into `modules`, `optimisers` and `policies`.
    """

    parameters: ClassVar[type[BaseModel]]
    architectures: ClassVar[frozenset[str] | None] = None  # it can train; None: any

    def __init__(self, config: C, policy: P, *, seed: int = 0) -> None:
        self.config = config
        self.updates = 0
        self.online = False
        self.ranks: Ranks = ALONE
        self.trained = policy
        freeze(policy.net, config.trainable, policy.heads)
        self.average = policy.copy()
        share_frozen(self.average.net, policy.net)
        self.device = policy.device
        self.policies = [self.trained, self.average]  # which share the statistics
        self.modules: dict[str, nn.Module] = {
            "trained": self.trained.net,
            "average": self.average.net,
        }
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "policy": self.adam(self.trained.net, config.learning_rate)
        }
        self.noise = torch.Generator(policy.device)
        self.noise.manual_seed(seed)

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
        settings = cls.parameters.model_validate(dict(config))
        assert isinstance(settings, FlowLearnerConfig)  # noqa: S101 (for the reader and mypy)
        if initial is None:
            fields = settings.model_dump(include=set(FlowConfig.model_fields))
            initial = FlowPolicy.create(
                spaces, fields, normalization=normalization, device=device, seed=seed
            )
        elif initial.spaces != spaces:
            raise ValueError(f"the policy is for the spaces {initial.spaces}, not {spaces}")
        elif cls.architectures and initial.architecture not in cls.architectures:
            known = ", ".join(sorted(cls.architectures))
            raise ValueError(f"it trains a policy of {known}, not of {initial.architecture}")
        size = LoRA(rank=settings.lora_rank, alpha=settings.lora_alpha)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = cls.begin(
                initial, settings, device, size if settings.trainable == "lora" else None
            )
            return cls(settings, policy, seed=seed)  # type: ignore[arg-type]

    @classmethod
    def begin(
        cls,
        initial: Policy,
        settings: FlowLearnerConfig,  # noqa: ARG003 - for those that override it
        device: str,
        lora: LoRA | None,
    ) -> Trainable:
        """The policy to train from a given one, which is left alone."""
        if not isinstance(initial, Trainable):
            raise ValueError(f"a policy of {initial.architecture} cannot be trained")  # noqa: TRY004
        return initial.to_train(device, lora)

    def tune(self, *, bfloat16: bool, compiled: bool) -> None:
        """As in `Algorithm.tune`: only the networks change, losses are computed as before."""
        nets = self.modules.values()
        eyes = [net.eyes for net in nets if isinstance(net, VelocityNet) and net.eyes is not None]
        for module in (*nets, *eyes):  # eyes are looked through before the net itself is called
            if bfloat16:
                in_bfloat16(module, self.device.type)
            if compiled:
                module.compile()

    def join(self, ranks: Ranks, seed: int | None = None) -> None:
        """As in `Algorithm.join`."""
        self.ranks = ranks
        if seed is not None:
            self.noise.manual_seed(seed)

    @staticmethod
    def adam(module: nn.Module, learning_rate: float) -> Adam:
        """The optimiser of this house, on what learns."""
        return Adam(learning(module), lr=learning_rate, fused=True)

    def tensor(self, array: object) -> torch.Tensor:
        """A batch's array, where the networks are."""
        return torch.as_tensor(array).to(self.device)

    def imitation_loss(self, batch: Batch, policy: Trainable, **more: torch.Tensor) -> torch.Tensor:
        """The policy's own loss per row (B,) on the executed chunks."""
        return policy.loss(
            self.tensor(batch.observation),
            self.tensor(batch.task),
            self.tensor(batch.action),
            self.tensor(batch.valid),
            self.noise,
            images={
                name: shifted(self.tensor(frames), self.config.shift, self.noise)
                for name, frames in batch.images.items()
            },
            **more,
        )

    def step(self, name: str, loss: torch.Tensor, *, clip: float | None = None) -> None:
        """One step of a named optimiser; `clip` bounds the norm of its gradient.

        `loss` is a mean over this rank's rows, the gradient the mean over all ranks'.
        """
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        weights = [w for group in optimiser.param_groups for w in group["params"]]
        self.ranks.average([w.grad for w in weights if w.grad is not None])
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        optimiser.step()

    def improve(self, loss: torch.Tensor, by: str = "policy", *, clip: float | None = None) -> None:
        """One step of the policy by a named optimiser, of its average, of the count of updates."""
        self.step(by, loss, clip=clip)
        self.updates += 1
        # The average must not remember the random start, so it begins as a plain mean.
        decay = min(self.config.ema, self.updates / (self.updates + 10.0))
        follow(self.average.net, self.trained.net, 1.0 - decay)

    def policy(self) -> P:
        """A copy of the averaged policy."""
        return self.average.copy()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, averages, Adam's moments, statistics, noise and counter."""
        out = {"updates": torch.tensor(self.updates), "noise": self.noise.get_state().cpu()}
        for name, tensor in self.trained.statistics().items():
            out[f"normalization.{name}"] = tensor
        for part, module in self.modules.items():
            for name, tensor in module.state_dict().items():
                out[f"{part}.{name}"] = tensor.detach().cpu().clone()
        for part, optimiser in self.optimisers.items():
            for number, moments in optimiser.state_dict()["state"].items():
                for name, tensor in moments.items():
                    out[f"adam.{part}.{number}.{name}"] = tensor.detach().cpu().clone()
        return out

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """As in `Algorithm.load`."""

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        for name, module in self.modules.items():
            fill(module, part(f"{name}."))
        for policy in self.policies:
            policy.calibrate(part("normalization."))
        for name, optimiser in self.optimisers.items():
            moments: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in part(f"adam.{name}.").items():
                number, _, moment = key.partition(".")
                moments.setdefault(int(number), {})[moment] = tensor
            groups = optimiser.state_dict()["param_groups"]
            demand_fit(name, optimiser, moments)
            optimiser.load_state_dict({"state": moments, "param_groups": groups})
        if state["noise"].shape == self.noise.get_state().shape:  # else of another kind of device
            self.noise.set_state(state["noise"])
        self.updates = int(state["updates"])


class FlowLearner(Learner[C, FlowPolicy]):
    """A flow policy in training, with what critics ask of it."""

    architectures = frozenset({FlowPolicy.architecture})

    @classmethod
    def begin(
        cls, initial: Policy, settings: FlowLearnerConfig, device: str, lora: LoRA | None
    ) -> Trainable:
        """The initial policy with this algorithm's guidance."""
        if not isinstance(initial, FlowPolicy):
            raise ValueError(f"it trains a flow policy, not {initial.architecture}")  # noqa: TRY004
        return initial.to_train(device, lora, getattr(settings, "guidance", None))

    def chunks(self, batch: Batch) -> torch.Tensor:
        """Executed chunks as a critic sees them: normalised, within bounds, (B, H·A)."""
        return self.bounded(self.trained.normalization.action(self.tensor(batch.action)).flatten(1))

    def bounded(self, chunk: torch.Tensor) -> torch.Tensor:
        """Normalised chunks (B, H·A) cut to what the robot can do."""
        return chunk.clamp(*self.trained.limits())

    @property
    def context_size(self) -> int:
        """C: numbers of what a critic sees."""
        spaces, eyes = self.trained.spaces, self.trained.net.eyes
        return spaces.observation_size + (eyes.size if eyes else 0) + len(spaces.tasks)

    def context(self, batch: Batch) -> torch.Tensor:
        """What a critic sees of each row besides the action: (B, C)."""
        return self._seen(batch.observation, batch.images, batch)

    def later(self, batch: Batch, window: int) -> torch.Tensor:
        """The same at the end of a window: (B, C)."""
        frames = {name: seen[:, window] for name, seen in batch.later_images.items()}
        return self._seen(batch.later[:, window], frames, batch)

    def _seen(self, observation: object, images: Images, batch: Batch) -> torch.Tensor:
        tasks = torch.nn.functional.one_hot(self.tensor(batch.task), len(self.trained.spaces.tasks))
        normal = self.trained.normalization.observation(self.tensor(observation))
        parts = [normal, tasks.to(normal.dtype)]
        if images:
            frames = {name: self.tensor(seen) for name, seen in images.items()}
            parts.insert(1, self.look(frames))
        return torch.cat(parts, dim=1)

    def look(self, images: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What critics make of frames (B, Y, X, 3): the averaged policy's (B, F), as it stands."""
        assert self.average.net.eyes is not None  # noqa: S101 - there are cameras
        with torch.no_grad():
            features: torch.Tensor = self.average.net.eyes(images)
        return features


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, share: float) -> None:
    """Move the slow weights by a share of the way to the fast ones; what is frozen stands."""
    pairs = zip(slow.parameters(), fast.parameters(), strict=True)
    moving = [(late, early) for late, early in pairs if early.requires_grad]
    torch._foreach_lerp_([late for late, _ in moving], [early for _, early in moving], share)
    for late, early in zip(slow.buffers(), fast.buffers(), strict=True):
        late.copy_(early)


def in_bfloat16(module: nn.Module, device: str) -> None:
    """Have a network's matrix products computed in bfloat16; what it returns is float32 again."""
    plain = module.forward

    @functools.wraps(plain)
    def forward(*inputs: Any, **named: Any) -> Any:
        with torch.autocast(device, torch.bfloat16):
            out = plain(*inputs, **named)
        return out.float() if isinstance(out, torch.Tensor) else out

    module.forward = forward


def share_frozen(copy: nn.Module, original: nn.Module) -> None:
    """Let a copy use the original's memory for what never changes: of a large model, most."""
    for ours, theirs in zip(copy.parameters(), original.parameters(), strict=True):
        if not theirs.requires_grad:
            ours.data = theirs.data


def demand_fit(
    name: str, optimiser: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, torch.Tensor]]
) -> None:
    """ValueError unless Adam's moments are those of the weights that learn now."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    found = {number: tuple(one["exp_avg"].shape) for number, one in moments.items()}
    wanted = {number: tuple(weight.shape) for number, weight in enumerate(weights)}
    # A weight that no gradient reached has none.
    if any(wanted.get(number) != shape for number, shape in found.items()):
        raise ValueError(
            f"moments of {name} are of {len(found)} weights, wanted {len(wanted)}: "
            "what learns has changed"
        )
