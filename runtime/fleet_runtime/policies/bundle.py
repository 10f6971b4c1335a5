"""A policy as files, and back: what the learner publishes and a robot verifies, then parses.

`config.json` (architecture and settings), `model.safetensors` (weights) and
`normalization.safetensors` (frozen statistics). Weights may be rounded to bfloat16 on the way;
statistics never are. No code, no pickle: a bundle can be wrong, but it cannot run. Anything wrong
is `Untrusted`: the robot keeps the policy it has.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from fleet_contract.errors import Untrusted
from fleet_contract.resources.learning import Weights
from fleet_runtime.aside import in_memory
from fleet_runtime.policies import find

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet_runtime.policies.base import Policy

CONFIG = "config.json"
MODEL = "model.safetensors"
NORMALIZATION = "normalization.safetensors"
FILES = (CONFIG, MODEL, NORMALIZATION)
FORMAT = 1
"""Version of this layout, inside config.json."""
MAX_CONFIG = 2**20


def weights(policy: Policy, precision: Weights) -> dict[str, torch.Tensor]:
    """The policy's weights as they are published: of float32 ones what `precision` leaves."""
    found = policy.tensors()
    if precision is Weights.FLOAT32:
        return found
    return {
        name: tensor.to(torch.bfloat16) if tensor.dtype == torch.float32 else tensor
        for name, tensor in found.items()
    }


def to_files(policy: Policy, tensors: Mapping[str, torch.Tensor] | None = None) -> dict[str, bytes]:
    """The bundle of a policy: file name → bytes, the same bytes for the same policy.

    `tensors` are its weights as they are published, where they are not all of every bit.
    """
    config = {"format": FORMAT, **policy.config()}
    return {
        CONFIG: json.dumps(config, sort_keys=True, indent=1, allow_nan=False).encode(),
        MODEL: safetensors.torch.save(dict(tensors or policy.tensors())),
        NORMALIZATION: safetensors.torch.save(policy.statistics()),
    }


def from_files(files: Mapping[str, bytes]) -> Policy:
    """The policy in a bundle; raises `Untrusted` saying what is wrong with it."""
    missing = set(FILES) - set(files)
    if missing:
        raise Untrusted(f"bundle lacks {sorted(missing)}")
    config = _config(files[CONFIG])
    architecture = config.pop("architecture", None)
    try:
        kind = find(str(architecture))
    except Exception as fault:  # noqa: BLE001 - a plug-in that cannot be imported here is none
        raise Untrusted(f"bundle's architecture: {fault}") from None
    tensors, statistics = _tensors(files, MODEL), _tensors(files, NORMALIZATION)
    try:
        return kind.build(config, tensors, statistics)
    except Exception as error:  # noqa: BLE001 - whatever a plug-in says to it
        said = str(error) if isinstance(error, ValueError) else repr(error)
        raise Untrusted(f"bundle does not fit {architecture}: {said}") from None


def _config(data: bytes) -> dict[str, object]:
    if len(data) > MAX_CONFIG:
        raise Untrusted(f"{CONFIG} has {len(data)} bytes, at most {MAX_CONFIG} are read")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Untrusted(f"{CONFIG}: {error}") from None
    if not isinstance(found, dict) or found.pop("format", None) != FORMAT:
        raise Untrusted(f"{CONFIG} is not bundle format {FORMAT}")
    return found


def _tensors(files: Mapping[str, bytes], name: str) -> dict[str, torch.Tensor]:
    try:
        return _loaded(files[name])
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Untrusted(f"{name}: {error}") from None


def _loaded(data: bytes) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor]
    try:
        with in_memory(data) as path:
            found = safetensors.torch.load_file(path)
    except OSError:
        found = safetensors.torch.load(data)
    return found
