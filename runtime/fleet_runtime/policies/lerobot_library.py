"""The one room for the library lerobot: its networks and processors, from files and as parts."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from fleet_contract.errors import FleetError
from fleet_runtime.artifacts import Missing, Store

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before its imports: a robot downloads nothing

import draccus
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import (
    batch_to_transition,
    policy_action_to_transition,
    transition_to_batch,
    transition_to_policy_action,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.policies.normalization import Normalization

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PRE, POST = "policy_preprocessor", "policy_postprocessor"
MAX_BYTES = 2**36
"""Of a saved policy's weights."""
SPREAD = 3.0
"""Deviations from the mean that stand for least and most where only these were measured."""
QUANTILES = {"q01": -2.326, "q10": -1.282, "q50": 0.0, "q90": 1.282, "q99": 2.326}
"""Of a standard normal law, which stands for what was measured."""
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@dataclasses.dataclass(frozen=True)
class Library:
    """A network of LeRobot's and what stands before and behind it."""

    config: Any
    net: nn.Module
    before: Any
    after: Any

    @classmethod
    def begin(
        cls,
        kind: str,
        fields: dict[str, Any],
        spaces: Spaces,
        *,
        pretrained: str,
        normalization: Normalization | None,
        device: str,
    ) -> Self:
        """A policy at its start; ValueError says what LeRobot has against it."""
        with tempfile.TemporaryDirectory(prefix="fleet-lerobot-") as folder:
            saved: Path | None = None
            if pretrained:
                saved = Path(folder)
                fetch(pretrained, saved)
                fields = json.loads((saved / CONFIG).read_text()) | fields
                if kind and kind != fields["type"]:
                    raise ValueError(f"{pretrained} is of type {fields['type']}, not {kind}")
            else:
                # One frame and no download, whatever the type's own defaults are.
                fields = {"n_obs_steps": 1, "type": kind} | fields
            config = configured(fields, spaces, device)
            net = made(config)
            if saved is not None:
                from safetensors.torch import load_model

                load_model(net, saved / WEIGHTS, strict=True)
            statistics = measured(normalization, spaces) if normalization else {}
            before, after = make_pre_post_processors(config, dataset_stats=statistics)
            before, after = open_to_others(before, after, device)
            if saved is not None and (saved / f"{PRE}.json").exists():
                before, after = (
                    pipeline(part, json.loads((saved / f"{part}.json").read_text()), device)
                    for part in (PRE, POST)
                )
                restore(before, after, states(saved))
        return cls(config, net.to(device), before, after)

    @classmethod
    def rebuild(
        cls,
        fields: dict[str, Any],
        before: dict[str, Any],
        after: dict[str, Any],
        spaces: Spaces,
        device: str,
    ) -> Self:
        """The same policy anew, without its tensors; ValueError for what cannot be built."""
        config = configured(fields, spaces, device)
        parts = pipeline(PRE, before, device), pipeline(POST, after, device)
        return cls(config, made(config).to(device), *parts)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return torch.device(self.config.device)

    @property
    def horizon(self) -> int:
        """H: actions in a chunk that it trains on."""
        return len(self.config.action_delta_indices)

    @property
    def execute(self) -> int:
        """How many of them its authors execute."""
        return min(self.horizon, int(self.config.n_action_steps))

    def with_net(self, net: nn.Module) -> Library:
        """Another network between processors of its own."""
        before, after = copy.deepcopy((self.before, self.after))
        return dataclasses.replace(self, net=net, before=before, after=after)

    def act(self, batch: dict[str, Any]) -> torch.Tensor:
        """Rows in their own units → chunks (B, ≤ H, A) in theirs, on the CPU."""
        reset: Any = self.net.reset
        reset()
        plan: Any = self.net.predict_action_chunk
        chunk: torch.Tensor = self.after(plan(self._seen(batch)))
        return chunk

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        """Rows in their own units → its loss: (B,) where it tells rows apart, else ()."""
        self.net.train()
        apart = "reduction" in inspect.signature(self.net.forward).parameters
        found: torch.Tensor = self.net(
            self._seen(batch), **({"reduction": "none"} if apart else {})
        )[0]
        return found

    def _seen(self, batch: dict[str, Any]) -> dict[str, Any]:
        seen: dict[str, Any] = self.before(batch)
        if self.config.observation_delta_indices is not None:  # it wants an axis of time, of one
            for key in self.config.input_features:
                seen[key] = seen[key].unsqueeze(1)
        return seen

    def described(self) -> dict[str, Any]:
        """Configuration and processors as JSON."""
        policy = draccus.encode(self.config, PreTrainedConfig)
        parts = {"policy": policy, "preprocessor": self.before.get_config()}
        described: dict[str, Any] = json.loads(
            json.dumps(parts | {"postprocessor": self.after.get_config()})
        )
        return described

    def statistics(self) -> dict[str, torch.Tensor]:
        """The processors' statistics, `step/name`."""
        both = {**self.before.state_dict(), **self.after.state_dict()}
        return {
            f"{step}/{name}": tensor.detach().cpu().contiguous()
            for step, state in both.items()
            for name, tensor in state.items()
        }

    def calibrate(self, statistics: Mapping[str, torch.Tensor]) -> None:
        """Take other statistics; ValueError for what does not fit."""
        by_step: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in statistics.items():
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"{key} holds a number that is not finite")
            step, _, name = key.partition("/")
            by_step.setdefault(step, {})[name] = tensor.clone()
        restore(self.before, self.after, by_step)


def configured(fields: dict[str, Any], spaces: Spaces, device: str) -> Any:
    """LeRobot's configuration for this robot; ValueError for what it does not take."""
    fields = {key: value for key, value in fields.items() if not key.endswith("_features")}
    kind = fields.pop("type", "")
    quiet = {"device": device, "push_to_hub": False, "pretrained_path": None}
    if "pretrained_backbone_weights" in fields or kind in {"act", "diffusion", "vqbet"}:
        quiet["pretrained_backbone_weights"] = None
    if "load_vlm_weights" in fields or kind == "smolvla":
        quiet["load_vlm_weights"] = False
    try:
        known = PreTrainedConfig.get_known_choices()
        if kind not in known:
            raise ValueError(
                f"lerobot has no policy {kind!r}; there are {', '.join(sorted(known))}"
            )
        given = {**fields, **quiet}
        config = draccus.decode(type(make_policy_config(kind, device=device)), given)
        config.input_features, config.output_features = features(spaces)
        config.validate_features()
    except (draccus.ParsingError, TypeError, AttributeError, NotImplementedError) as fault:
        raise ValueError(f"lerobot's {kind}: {fault}") from fault
    if config.n_obs_steps != 1:
        raise ValueError(
            f"{kind} wants {config.n_obs_steps} observations; robots show one at a time"
        )
    return config


def made(config: Any) -> nn.Module:
    """The network with random weights; ValueError where lerobot cannot make it."""
    try:
        net: nn.Module = get_policy_class(config.type)(config)
    except (OSError, ImportError, AssertionError, NotImplementedError, AttributeError) as fault:
        raise ValueError(f"lerobot cannot build {config.type} here: {fault}") from fault
    return net


def features(spaces: Spaces) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes in and out, as LeRobot says it. Without cameras the state is also the world's."""
    state = (spaces.observation_size,)
    seen = {"observation.state": PolicyFeature(FeatureType.STATE, state)}
    if not spaces.images:
        seen["observation.environment_state"] = PolicyFeature(FeatureType.ENV, state)
    for camera, (rows, columns, colours) in spaces.images.items():
        shape = (colours, rows, columns)
        seen[f"observation.images.{camera}"] = PolicyFeature(FeatureType.VISUAL, shape)
    return seen, {"action": PolicyFeature(FeatureType.ACTION, (spaces.action_size,))}


def measured(normalization: Normalization, spaces: Spaces) -> dict[str, dict[str, torch.Tensor]]:
    """Our statistics by the names of all modes that LeRobot normalises in."""

    def law(mean: torch.Tensor, std: torch.Tensor) -> dict[str, torch.Tensor]:
        ends = {"min": mean - SPREAD * std, "max": mean + SPREAD * std}
        marks = {name: mean + many * std for name, many in QUANTILES.items()}
        return {"mean": mean, "std": std, **ends, **marks}

    state = law(normalization.observation_mean, normalization.observation_std)
    action = law(normalization.action_mean, normalization.action_std)
    bounds = {"min": torch.tensor(spaces.action_low), "max": torch.tensor(spaces.action_high)}
    image = {name: torch.tensor(value).view(3, 1, 1) for name, value in IMAGENET.items()}
    return {
        "observation.state": state,
        "observation.environment_state": state,
        "action": action | bounds,
        **{f"observation.images.{camera}": image for camera in spaces.images},
    }


def pipeline(part: str, config: dict[str, Any], device: str) -> Any:
    """A processor from its JSON. One that is not in LeRobot's registry is refused: it is code."""
    steps = config.get("steps")
    if not isinstance(steps, list) or any("registry_name" not in step for step in steps):
        raise ValueError(f"{part} has a step that is none of lerobot's own")
    there = {"device_processor": {"device": device}}
    moves = any(step["registry_name"] == "device_processor" for step in steps)
    ways = {
        PRE: (batch_to_transition, transition_to_batch),
        POST: (policy_action_to_transition, transition_to_policy_action),
    }[part]
    try:
        return PolicyProcessorPipeline.from_config(
            config,
            overrides=there if part == PRE and moves else {},
            to_transition=ways[0],
            to_output=ways[1],
        )
    except (ImportError, KeyError, TypeError, OSError, AttributeError) as fault:
        raise ValueError(f"{part}: {fault}") from fault


def open_to_others(before: Any, after: Any, device: str) -> tuple[Any, Any]:
    """The same processors with statistics that can change: those given when made never do."""
    told = {**before.state_dict(), **after.state_dict()}
    parts = ((PRE, before), (POST, after))
    new = [pipeline(name, json.loads(json.dumps(one.get_config())), device) for name, one in parts]
    restore(new[0], new[1], told)
    return new[0], new[1]


def restore(before: Any, after: Any, by_step: Mapping[str, dict[str, torch.Tensor]]) -> None:
    """Give both processors their statistics; ValueError where some lack or nobody wants them."""
    try:
        for part, prefix in ((before, PRE), (after, POST)):
            part.load_state_dict({k: v for k, v in by_step.items() if k.startswith(prefix)})
    except (KeyError, RuntimeError) as fault:
        raise ValueError(f"statistics: {fault}") from fault


def states(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Saved statistics by step."""
    from safetensors.torch import load_file

    files = [*folder.glob(f"{PRE}_*.safetensors"), *folder.glob(f"{POST}_*.safetensors")]
    return {file.stem: load_file(file) for file in files}


def fetch(url: str, folder: Path) -> None:
    """Copy a saved policy here; ValueError where it lacks something."""
    store = Store(url)
    needed = [CONFIG, WEIGHTS]
    try:
        for part in (PRE, POST):
            if store.exists(f"{part}.json"):
                text = store.get(f"{part}.json")
                (folder / f"{part}.json").write_bytes(text)
                needed += [
                    step["state_file"] for step in json.loads(text)["steps"] if "state_file" in step
                ]
        for name in needed:
            data = store.get(name, max_bytes=MAX_BYTES)
            (folder / Path(name).name).write_bytes(data)
    except Missing as fault:
        raise ValueError(f"{url} is no policy saved by lerobot: {fault}") from fault
    except FleetError as fault:
        raise ValueError(f"{url} cannot be read: {fault}") from fault
