"""How networks compute: what a spec asks for, and that learning stays the same."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import pytest
import torch

from fleet_contract.errors import Misconfigured
from fleet_contract.resources.learning import Compute
from fleet_runtime import algorithms
from fleet_runtime.learner.machine import Machine
from learning.makers import SPACES, batch

SMALL = {"hidden": 32, "layers": 2, "learning_rate": 0.01}
PARAMETERS: dict[str, dict[str, object]] = {"divl-qam": {"bc_steps": 20}}
GPU = {"cuda": True, "bfloat16": True, "compiler": True}
BARE = {"cuda": False, "bfloat16": False, "compiler": True}
CASES: dict[str, tuple[dict[str, str], dict[str, bool], tuple[str, bool, bool]]] = {
    "a CPU computes plainly": ({}, BARE, ("cpu", False, False)),
    "a GPU in bfloat16 and compiled": ({}, GPU, ("cuda", True, True)),
    "an old GPU in float32": ({}, GPU | {"bfloat16": False}, ("cuda", False, True)),
    "without a C compiler nothing is compiled": (
        {},
        GPU | {"compiler": False},
        ("cuda", True, False),
    ),
    "a GPU may be left idle": ({"device": "CPU"}, GPU, ("cpu", False, False)),
    "what is asked for is done": (
        {"precision": "BFloat16", "compile": "Always"},
        BARE,
        ("cpu", True, True),
    ),
    "and what is refused is not": (
        {"precision": "Float32", "compile": "Never"},
        GPU,
        ("cuda", False, False),
    ),
}


@pytest.mark.parametrize(("asked", "has", "wanted"), CASES.values(), ids=CASES.keys())
def test_how_a_machine_computes(
    asked: dict[str, str], has: dict[str, bool], wanted: tuple[str, bool, bool]
) -> None:
    assert Machine.decide(Compute.model_validate(asked), **has) == wanted


def test_a_gpu_that_is_demanded_and_not_there_is_refused() -> None:
    with pytest.raises(Misconfigured, match="sees no GPU: ask for one"):
        Machine.decide(Compute.model_validate({"device": "CUDA"}), **BARE)


def losses(name: str, *, updates: int = 60, **tuned: Any) -> list[float]:
    """The policy's loss, update by update, on rows that all hold the same action."""
    kind = algorithms.find(name)
    algorithm = kind.create(SPACES, SMALL | PARAMETERS.get(name, {}))
    algorithm.tune(**{"bfloat16": False, "compiled": False} | tuned)
    found = []
    for _ in range(updates):
        rows = batch(64, windows=algorithm.sample_spec.windows)
        rows = dataclasses.replace(rows, action=np.full_like(rows.action, 0.3))
        found.append(float(np.nanmean(algorithm.update(iter([rows])).losses)))
    return found


@pytest.mark.parametrize("name", ["bc", "recap"])
def test_in_bfloat16_the_loss_falls_as_it_does_in_float32(name: str) -> None:
    plain, rounded = losses(name), losses(name, bfloat16=True)
    assert plain != rounded
    assert np.mean(rounded[-10:]) < 0.7 * np.mean(rounded[:5])
    assert np.mean(rounded[-10:]) == pytest.approx(np.mean(plain[-10:]), rel=0.1)


def test_in_bfloat16_every_algorithm_passes_its_stages_and_keeps_float32_weights() -> None:
    for name in algorithms.available():
        kind = algorithms.find(name)
        algorithm = kind.create(SPACES, SMALL | ({"bc_steps": 1} if name == "divl-qam" else {}))
        algorithm.tune(bfloat16=True, compiled=False)
        for online in (False, False, True):
            algorithm.online = online
            rows = batch(8, windows=algorithm.sample_spec.windows)
            assert np.isfinite(algorithm.update(iter([rows])).losses).any(), name
        held = [t for t in algorithm.state().values() if t.is_floating_point()]
        assert {tensor.dtype for tensor in held} == {torch.float32}, name
        assert {t.dtype for t in algorithm.policy().tensors().values()} == {torch.float32}


# Torch's compiler itself looks at the gradient of a network's input, and its tensors warn of that.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.skipif(
    "FLEET_COMPILE" not in os.environ, reason="compiles for a minute: FLEET_COMPILE=1"
)
@pytest.mark.parametrize("name", sorted(algorithms.available()))
def test_compiled_the_updates_are_the_same(name: str) -> None:
    torch.compiler.reset()
    np.testing.assert_allclose(
        losses(name, updates=25, compiled=True), losses(name, updates=25), rtol=1e-3
    )
