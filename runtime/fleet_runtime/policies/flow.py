"""A flow-matching policy over action chunks, the action expert of SOP's pi0.5 in small.

A chunk x¹ and noise x⁰ ~ N(0, I) are joined by the line x^w = (1 − w) x⁰ + w x¹; the network learns
its velocity x¹ − x⁰ (Lipman et al., arXiv 2210.02747, the optimal-transport path), and acting
integrates it from noise with Euler steps. SOP (arXiv 2601.03044) and LWD (2605.00416) train this
kind of policy; sizes here are ours.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import torch
from pydantic import Field

from fleet_runtime.experience.spaces import Spaces  # noqa: TC001 (pydantic reads it)
from fleet_runtime.policies.lora import LoRA, adapt, inner, merged, named
from fleet_runtime.policies.networks import Unfilled, VelocityNet, fill
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.policies.parameters import FlowParameters
from fleet_runtime.policies.vision import Eyes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from pydantic import BaseModel

    from fleet_runtime.experience.types import Float, Images

    Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of (x, w), as the net's


class FlowPolicy:
    """Chunks by integrating a learned velocity field. Shapes as in `policies.base.Policy`."""

    architecture = "flow"
    parameters: ClassVar[type[BaseModel]] = FlowParameters

    def __init__(
        self, config: FlowConfig, normalization: Normalization, device: str = "cpu"
    ) -> None:
        self.settings = config
        self.spaces = config.spaces
        self.horizon = config.horizon
        self.execute = config.execute
        self.device = torch.device(device)
        self.normalization = normalization.to(self.device)
        self.net = VelocityNet(
            chunk=config.horizon * config.spaces.action_size,
            observation=config.spaces.observation_size,
            tasks=len(config.spaces.tasks),
            hidden=config.hidden,
            layers=config.layers,
            conditioned=config.guidance is not None,
            eyes=_eyes(config),
        )
        self.heads = self.net.heads
        if config.lora is not None:
            adapt(self.net, config.lora)
        self.net.to(self.device)
        self._low = torch.tensor(config.spaces.action_low, device=self.device)
        self._high = torch.tensor(config.spaces.action_high, device=self.device)
        self._noise = torch.Generator(self.device)
        self._noise.manual_seed(0)

    @torch.no_grad()
    def act(
        self,
        observation: Float,
        task: NDArray[np.integer],
        images: Images | None = None,
    ) -> Float:
        """(B, O) and task ids (B,) → chunks (B, H, A), clipped to the action bounds.

        `images` as in `policies.base.Policy`; ValueError where the policy has eyes and none are
        given.
        """
        seen = torch.from_numpy(np.ascontiguousarray(observation, np.float32)).to(self.device)
        ids = torch.from_numpy(np.asarray(task, np.int64)).to(self.device)
        frames = None
        if images is not None:
            shown = {name: np.ascontiguousarray(images[name]) for name in self.spaces.images}
            frames = {name: torch.from_numpy(one).to(self.device) for name, one in shown.items()}
        field = self._field(self.net.see(self.normalization.observation(seen), frames), ids)
        shape = (len(seen), self.horizon * self.spaces.action_size)
        x = torch.randn(shape, generator=self._noise, device=self.device)
        x = self._integrate(field, x * self.settings.noise)
        chunk = x.view(len(x), self.horizon, self.spaces.action_size)
        action = self.normalization.action_back(chunk).clamp(self._low, self._high)
        out: Float = action.cpu().numpy()
        return out

    def flow(self, context: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Normalised chunks (B, H·A) that noise of that shape flows to, in a context (B, C)."""
        return self._integrate(lambda x, w: self.net(x, w, context), noise)

    def _integrate(self, field: Velocity, x: torch.Tensor) -> torch.Tensor:
        step = 1.0 / self.settings.euler_steps
        for i in range(self.settings.euler_steps):
            x = x + step * field(x, torch.full((len(x), 1), i * step, device=self.device))
        return x

    def _field(self, seen: torch.Tensor, task: torch.Tensor) -> Velocity:
        """The velocity to act by: with guidance β, v_u + β (v_c − v_u) towards the better."""
        context = self.net.context(seen, task)
        beta = self.settings.guidance
        if beta is None:
            return lambda x, w: self.net(x, w, context)
        better = self.net.context(seen, task, torch.ones_like(task))
        if beta == 1.0:  # v_c alone
            return lambda x, w: self.net(x, w, better)
        both = torch.cat([context, better])

        def guided(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            plain, led = self.net(x.repeat(2, 1), w.repeat(2, 1), both).chunk(2)
            return torch.lerp(plain, led, beta)

        return guided

    def loss(
        self,
        observation: torch.Tensor,
        task: torch.Tensor,
        action: torch.Tensor,
        valid: torch.Tensor,
        generator: torch.Generator | None = None,
        advantage: torch.Tensor | None = None,
        images: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Flow-matching loss per row (B,): mean over valid actions of |v − (x¹ − x⁰)|² / A.

        Observation (B, O), task ids (B,), action (B, H, A) in their own units, valid (B, H),
        advantage (B,) as in `VelocityNet.context`, images by camera (B, Y, X, 3).
        """
        rows = len(observation)
        x1 = self.normalization.action(action).reshape(rows, -1)
        x0 = torch.randn(x1.shape, generator=generator, device=self.device)
        w = torch.rand((rows, 1), generator=generator, device=self.device)
        seen = self.net.see(self.normalization.observation(observation), images)
        context = self.net.context(seen, task, advantage)
        target = x1 - x0
        error = self.net(x0 + w * target, w, context) - target
        per_action = error.square().view(rows, self.horizon, -1).mean(dim=2)
        weight = valid.to(per_action.dtype)
        loss: torch.Tensor = (per_action * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return loss

    def seed(self, seed: int) -> None:
        """Restart the noise that chunks are integrated from."""
        self._noise.manual_seed(seed)

    def copy(self) -> Self:
        """A policy of its own with the same weights, for acting while this one trains on."""
        twin = type(self)(self.settings, self.normalization, str(self.device))
        twin.net.load_state_dict(copy.deepcopy(self.net.state_dict()))
        return twin

    def to_train(
        self, device: str, lora: LoRA | None = None, guidance: float | None = None
    ) -> Self:
        """The same skill with fresh adapters and another β.

        Old adapters are merged; weights for the advantage come in as zeros, or go.
        """
        settings = self.settings.model_copy(update={"guidance": guidance, "lora": None})
        twin = type(self)(settings, self.normalization, device)
        weights = merged(self.net)
        first = next(iter(twin.net.state_dict()))
        width = twin.net.state_dict()[first].shape[1]  # what tells the advantage stands last
        padded = torch.nn.functional.pad(weights[first], (0, twin.net.conditions))
        weights[first] = padded[:, :width].contiguous()
        twin.net.load_state_dict(weights)
        if lora is not None:
            adapt(twin.net, lora)
            twin.settings = settings.model_copy(update={"lora": lora})
        return twin

    def merged(self) -> Self:
        """The same skill in plain weights: itself, where it has no adapters."""
        if self.settings.lora is None:
            return self
        plain = self.settings.model_copy(update={"lora": None})
        twin = type(self)(plain, self.normalization, str(self.device))
        twin.net.load_state_dict(merged(self.net))
        return twin

    def with_steps(self, euler_steps: int) -> FlowPolicy:
        """The same weights, integrated in so many steps."""
        settings = self.settings.model_copy(update={"euler_steps": euler_steps})
        twin = FlowPolicy(settings, self.normalization, str(self.device))
        twin.net.load_state_dict(self.net.state_dict())
        return twin

    def limits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lowest and highest normalised chunk, each (H·A,)."""
        low, high = (self.normalization.action(x) for x in (self._low, self._high))
        return low.repeat(self.horizon), high.repeat(self.horizon)

    def config(self) -> dict[str, object]:
        """The settings as JSON."""
        # What means nothing here is left out, as robots of before read it.
        idle = set() if self.spaces.images else set(CAMERA_FIELDS)
        idle |= set() if self.settings.lora else {"lora"}
        settings = self.settings.model_dump(mode="json", exclude=idle)
        return {"architecture": self.architecture, **settings}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights by name, on the CPU."""
        return named(self.net)

    def statistics(self) -> dict[str, torch.Tensor]:
        """Normalisation statistics by name, on the CPU."""
        return self.normalization.tensors()

    def calibrate(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Take other statistics; ValueError for what does not fit."""
        sizes = self.spaces.observation_size, self.spaces.action_size
        self.normalization = Normalization.from_tensors(statistics, *sizes).to(self.device)

    @classmethod
    def create(
        cls,
        spaces: Spaces,
        config: Mapping[str, object],
        *,
        normalization: Normalization | None = None,
        instructions: Sequence[str] = (),  # noqa: ARG003 - its tasks are numbers to it
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """As in `Trainable.create`."""
        settings = FlowConfig.model_validate({**config, "spaces": spaces})
        identity = Normalization.identity(spaces.observation_size, spaces.action_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(settings, normalization or identity, device)

    @classmethod
    def build(
        cls,
        config: Mapping[str, object],
        tensors: Mapping[str, torch.Tensor],
        statistics: Mapping[str, torch.Tensor],
    ) -> Self:
        """The policy from its parts, adapters merged; ValueError names what does not fit."""
        settings = FlowConfig.model_validate(
            {k: v for k, v in config.items() if k != "architecture"}
        )
        spaces = settings.spaces
        normalization = Normalization.from_tensors(
            statistics, spaces.observation_size, spaces.action_size
        )
        with Unfilled():
            policy = cls(settings, normalization)
        fill(policy.net, inner(policy.net, tensors))
        return policy.merged()


def _eyes(config: FlowConfig) -> Eyes | None:
    if not config.spaces.images:
        return None
    return Eyes(
        config.spaces.images,
        width=config.camera_width,
        features=config.camera_features,
        mean=config.camera_mean,
        std=config.camera_std,
    )


class FlowConfig(FlowParameters):
    """All that a flow policy is made from."""

    spaces: Spaces
    """The embodiment's interface and its tasks."""
    euler_steps: Annotated[int, Field(ge=1, le=100)] = 10
    """Integration steps when acting (QAM's study: 10 suffice, 1 and 3 collapse)."""
    guidance: Annotated[float | None, Field(ge=0, le=10)] = None
    """β of classifier-free guidance towards better actions; without it the network has no input
    for the advantage."""
    camera_mean: Annotated[float, Field(ge=0, le=1)] = 0.5
    """What is taken off each pixel of 0 to 1, a constant."""
    camera_std: Annotated[float, Field(ge=0.01, le=1)] = 0.25
    """What the rest is divided by."""
    lora: LoRA | None = None
    """Adapters beside frozen weights."""


CAMERA_FIELDS = frozenset(name for name in FlowConfig.model_fields if name.startswith("camera_"))
"""Settings that mean nothing to a policy without cameras."""
