"""A policy of LeRobot (ACT, Diffusion, SmolVLA, π0, π0.5 …) in this fleet.

It is LeRobot's own network, trained by its own loss: for flow policies such as SmolVLA, π0 and π0.5
the flow-matching loss that SOP (arXiv 2601.03044) trains by HG-DAgger. `bc` and `hg-dagger` train
it; the algorithms with critics train the policy `flow` alone. It needs the extra `lerobot`
(Python 3.12, torch below 2.12) where the learner runs and on the robots.

| Here | in LeRobot's batch |
|---|---|
| observation | `observation.state`; without cameras `observation.environment_state` too |
| image of a camera | `observation.images.<camera>`, float 0 to 1, (B, 3, Y, X) |
| task | `task`: the task's `instruction`, else its name |
| chunk of actions | `action`, with `action_is_pad` where the validity mask ends |

A bundle holds LeRobot's configuration and its pre- and post-processors as JSON, the weights and the
processors' statistics as safetensors. What a network reads besides (SmolVLA: the tokenizer and
configuration that `vlm_model_name` names; π0: PaliGemma's tokenizer) must lie on learner and
robots: nothing is downloaded unless HF_HUB_OFFLINE=0 says so.
"""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fleet_runtime.experience.spaces import Spaces  # noqa: TC001 (pydantic reads it)
from fleet_runtime.policies.lora import LoRA, adapt, inner, merged, named
from fleet_runtime.policies.networks import fill

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from fleet_runtime.experience.types import Float, Images
    from fleet_runtime.policies.lerobot_library import Library
    from fleet_runtime.policies.normalization import Normalization


class LeRobotParameters(BaseModel):
    """Parameters of a job's `policy` field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    type: str = ""
    """LeRobot's name of the policy, such as `act`, `diffusion` or `smolvla`; with `pretrained` it
    is told there."""
    pretrained: str = ""
    """Folder of a policy saved by LeRobot (config.json, model.safetensors, processors), a path or
    an fsspec URL. Its statistics stay; where it has none, the demonstrations' are taken."""
    config: dict[str, JsonValue] = {}
    """Fields of LeRobot's configuration of that policy, in its spelling: `chunk_size`,
    `n_action_steps`, `train_expert_only` …"""
    heads: tuple[str, ...] = ()
    """Modules of the network that learn where the algorithm's `trainable` is `heads`."""


class LeRobotConfig(BaseModel):
    """All that such a policy is made from, but for tensors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spaces: Spaces
    instructions: tuple[str, ...]  # by task id
    policy: dict[str, Any]  # LeRobot's configuration, its type included
    preprocessor: dict[str, Any]
    postprocessor: dict[str, Any]
    heads: tuple[str, ...] = ()
    lora: LoRA | None = Field(default=None)


@contextlib.contextmanager
def seeded(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """LeRobot draws from torch's global generators: seed them, and give them back as found."""
    if generator is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        where = generator.device
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator, device=where)))
        yield


class LeRobotPolicy:
    """A network of LeRobot's behind our interface. Shapes as in `policies.base.Policy`."""

    architecture = "lerobot"
    parameters: ClassVar[type[BaseModel]] = LeRobotParameters

    def __init__(self, config: LeRobotConfig, library: Library) -> None:
        self.settings = config
        self.spaces = config.spaces
        self.heads = config.heads
        self.library = library
        self.net = library.net
        self.device = library.device
        self.horizon = library.horizon
        self.execute = library.execute
        self._low = torch.tensor(config.spaces.action_low)
        self._high = torch.tensor(config.spaces.action_high)
        self._noise = torch.Generator()
        self._noise.manual_seed(0)

    @torch.no_grad()
    def act(
        self, observation: Float, task: NDArray[np.integer], images: Images | None = None
    ) -> Float:
        """(B, O) and task ids (B,) → chunks (B, H, A), clipped to the action bounds.

        What a network does not plan to the end of H (diffusion) repeats its last action.
        """
        seen = torch.from_numpy(np.ascontiguousarray(observation, np.float32))
        batch = self._batch(seen, task, images or {})
        with seeded(self._noise, self.device):
            chunk = self.library.act(batch)
        short = self.horizon - chunk.shape[1]
        chunk = torch.cat([chunk, chunk[:, -1:].expand(-1, short, -1)], dim=1)
        out: Float = chunk.clamp(self._low, self._high).numpy()
        return out

    def loss(
        self,
        observation: torch.Tensor,
        task: torch.Tensor,
        action: torch.Tensor,
        valid: torch.Tensor,
        generator: torch.Generator | None = None,
        images: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """LeRobot's loss per row (B,), in float32.

        ACT and Diffusion tell one number for a batch, which then stands in every row: the sampler
        cannot tell tasks and sides apart by it, and `spec.sampler.mode: Even` suits them.
        """
        batch = self._batch(observation, task.cpu().numpy(), images or {})
        batch |= {"action": action, "action_is_pad": ~valid}
        with seeded(generator, self.device):
            loss = self.library.loss(batch).float()
        return loss.expand(len(observation))

    def _batch(
        self, observation: torch.Tensor, task: NDArray[np.integer], images: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Rows as LeRobot names them, in their own units."""
        batch: dict[str, Any] = {"observation.state": observation}
        if not self.spaces.images:
            batch["observation.environment_state"] = observation
        for camera in self.spaces.images:
            pixels = torch.as_tensor(images[camera]).to(self.device)
            batch[f"observation.images.{camera}"] = pixels.permute(0, 3, 1, 2).float() / 255
        return batch | {"task": [self.settings.instructions[int(one)] for one in task]}

    def seed(self, seed: int) -> None:
        """Restart the noise that chunks are made from."""
        self._noise.manual_seed(seed)

    def copy(self) -> Self:
        """A policy of its own with the same weights."""
        net = copy.deepcopy(self.net)
        net.__dict__.pop("forward", None)  # one that was tuned would still run the original's
        return type(self)(self.settings, self.library.with_net(net))

    def to_train(self, device: str, lora: LoRA | None) -> Self:
        """A copy to train there, with fresh adapters or none; those it had are merged."""
        config = self.settings.model_copy(update={"lora": None})
        twin = self.made(config, self.statistics(), device)
        fill(twin.net, merged(self.net))
        if lora is not None:
            adapt(twin.net, lora)
            twin.settings = config.model_copy(update={"lora": lora})
        return twin

    def config(self) -> dict[str, object]:
        """The settings as JSON."""
        return {"architecture": self.architecture, **self.settings.model_dump(mode="json")}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights by name, on the CPU; tied ones each on its own, as safetensors wants them."""
        found, held = named(self.net), set()
        for name, weight in found.items():
            place = weight.data_ptr()
            found[name] = weight.clone() if place in held else weight
            held.add(place)
        return found

    def statistics(self) -> dict[str, torch.Tensor]:
        """The processors' statistics by name, on the CPU."""
        return self.library.statistics()

    def calibrate(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Take other statistics; ValueError for what does not fit."""
        self.library.calibrate(statistics)

    @classmethod
    def create(
        cls,
        spaces: Spaces,
        config: Mapping[str, object],
        *,
        normalization: Normalization | None = None,
        instructions: Sequence[str] = (),
        device: str = "cpu",
        seed: int = 0,
    ) -> Self:
        """As in `Trainable.create`: random weights, or those of `pretrained`."""
        from fleet_runtime.policies.lerobot_library import Library

        given = LeRobotParameters.model_validate(dict(config))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            library = Library.begin(
                given.type,
                dict(given.config),
                spaces,
                pretrained=given.pretrained,
                normalization=normalization,
                device=device,
            )
        settings = LeRobotConfig(
            spaces=spaces,
            instructions=tuple(instructions) or spaces.tasks,
            heads=given.heads,
            **library.described(),
        )
        return cls(settings, library)

    @classmethod
    def build(
        cls,
        config: Mapping[str, object],
        tensors: Mapping[str, torch.Tensor],
        statistics: Mapping[str, torch.Tensor],
    ) -> Self:
        """The policy from its parts, adapters merged; ValueError names what does not fit."""
        given = {key: value for key, value in config.items() if key != "architecture"}
        settings = LeRobotConfig.model_validate(given)
        if len(settings.instructions) != len(settings.spaces.tasks):
            raise ValueError("instructions and tasks differ in number")
        policy = cls.made(settings, statistics, "cpu")
        if settings.lora is not None:
            adapt(policy.net, settings.lora)
        fill(policy.net, inner(policy.net, tensors))
        return policy if settings.lora is None else policy.to_train("cpu", None)

    @classmethod
    def made(
        cls, settings: LeRobotConfig, statistics: Mapping[str, torch.Tensor], device: str
    ) -> Self:
        """The policy with these statistics and random weights; ValueError as in `build`."""
        from fleet_runtime.policies.lerobot_library import Library

        library = Library.rebuild(
            settings.policy, settings.preprocessor, settings.postprocessor, settings.spaces, device
        )
        library.calibrate(statistics)
        return cls(settings, library)
