"""How the networks compute here: what the spec asks for against what this machine has."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import torch

from fleet_contract.errors import Misconfigured
from fleet_contract.resources.learning import Compile, Device, Precision

if TYPE_CHECKING:
    from fleet_contract.resources.learning import Compute


class Machine(NamedTuple):
    """What to do."""

    device: str
    bfloat16: bool
    compiled: bool

    @classmethod
    def here(cls, asked: Compute) -> Machine:
        """On this machine. Raises `Misconfigured` where it lacks a GPU that is demanded."""
        cuda = torch.cuda.is_available()
        return cls.decide(
            asked,
            cuda=cuda,
            bfloat16=cuda and torch.cuda.is_bf16_supported(),
            compiler=shutil.which(os.environ.get("CC", "cc")) is not None,
        )

    @classmethod
    def decide(cls, asked: Compute, *, cuda: bool, bfloat16: bool, compiler: bool) -> Machine:
        """Pure: `cuda` there is a GPU, `bfloat16` it has that, `compiler` there is one for C.

        On a CPU neither pays by itself: compiling gained 2 % there, and few have bfloat16 units.
        """
        if asked.device is Device.CUDA and not cuda:
            raise Misconfigured(
                "spec.learner.compute.device is CUDA, and this pod sees no GPU: ask for one in "
                "spec.learner.resources.limits, or leave the device to Auto"
            )
        gpu = cuda and asked.device is not Device.CPU
        return cls(
            device="cuda" if gpu else "cpu",
            bfloat16=_chosen(asked.precision, Precision.BFLOAT16, gpu and bfloat16),
            compiled=_chosen(asked.compile, Compile.ALWAYS, gpu and compiler),
        )


def _chosen(asked: str, wanted: str, by_itself: bool) -> bool:
    return by_itself if asked == "Auto" else asked == wanted
