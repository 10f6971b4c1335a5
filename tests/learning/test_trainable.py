"""What learns and what stands still: frozen weights, heads and adapters."""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch

from fleet_runtime import algorithms
from fleet_runtime.policies import bundle
from fleet_runtime.policies.flow import FlowPolicy
from fleet_runtime.policies.lora import LoRA
from fleet_runtime.policies.normalization import Normalization
from learning.makers import SPACES, batch

if TYPE_CHECKING:
    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.policies.base import Policy

SMALL: dict[str, Any] = {"hidden": 16, "layers": 2, "batch_size": 8}
EARLY: dict[str, dict[str, Any]] = {"divl-qam": {"bc_steps": 2}, "recap": {"value_steps": 1}}
PART: dict[str, dict[str, Any]] = {
    "heads": {"trainable": "heads"},
    "lora": {"trainable": "lora", "lora_rank": 2},
}
LEARNS = {"heads": {"body.4.weight", "body.4.bias"}}
LEARNS["lora"] = {f"body.{n}.lora_{x}" for n, x in itertools.product((0, 2, 4), "ab")}
SEEN = np.array([[0.3, -0.5], [0.0, 0.5]], np.float32)


@pytest.fixture(params=sorted(algorithms.available()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PART)
def part(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(name: str, initial: Policy | None = None, **more: Any) -> Algorithm:
    config = SMALL | EARLY.get(name, {}) | more
    return algorithms.find(name).create(SPACES, config, initial=initial)


def train(algorithm: Algorithm, first: int = 0, updates: int = 4) -> None:
    for seed in range(first, first + updates):
        rows = batch(8, windows=algorithm.sample_spec.windows, seed=seed)
        algorithm.update(itertools.repeat(rows))


def acts(policy: Policy) -> Any:
    policy.seed(1)
    return policy.act(SEEN, np.arange(2))


def digests(policy: Policy) -> dict[str, str]:
    weights = safetensors.torch.load(bundle.to_files(policy)[bundle.MODEL])
    return {k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in weights.items()}


def test_with_fresh_adapters_it_acts_exactly_as_the_policy_it_began_from(name: str) -> None:
    initial = make(name).policy()
    began = make(name, initial, trainable="lora")
    assert np.array_equal(acts(began.policy()), acts(initial))


def test_what_is_frozen_has_the_same_bytes_in_every_version(name: str, part: str) -> None:
    algorithm = make(name, make(name).policy(), **PART[part])
    first = digests(algorithm.policy())
    train(algorithm)
    later = digests(algorithm.policy())
    assert {key for key in first if first[key] != later[key]} == LEARNS[part]


def test_a_bundle_holds_the_weights_it_adapts_under_their_own_names(name: str) -> None:
    initial = make(name).policy()
    adapted = digests(make(name, initial, trainable="lora").policy())
    assert adapted.items() >= digests(initial).items()


def test_the_optimiser_holds_only_what_learns(name: str, part: str) -> None:
    algorithm: Any = make(name, **PART[part])
    held = [len(group["params"]) for group in algorithm.optimisers["policy"].param_groups]
    assert held == [len(LEARNS[part])]


def test_adapters_are_merged_where_a_bundle_is_read(name: str) -> None:
    algorithm = make(name, trainable="lora")
    train(algorithm)
    published = algorithm.policy()
    robots = bundle.from_files(bundle.to_files(published))
    assert np.array_equal(acts(robots), acts(published))
    assert digests(robots).keys() == digests(make(name).policy()).keys()


def test_it_goes_on_from_its_state_bit_for_bit(name: str, part: str) -> None:
    first = make(name, **PART[part])
    train(first)
    second = make(name, **PART[part])
    second.load(safetensors.torch.load(safetensors.torch.save(first.state())))
    for algorithm in (first, second):
        train(algorithm, first=4)
    assert bundle.to_files(first.policy()) == bundle.to_files(second.policy())


@pytest.mark.parametrize(
    ("before", "after"), [("all", "heads"), ("heads", "all"), ("all", "lora"), ("lora", "heads")]
)
def test_a_state_in_which_something_else_learned_is_refused(
    name: str, before: str, after: str
) -> None:
    saved = make(name, trainable=before)
    train(saved)
    with pytest.raises(ValueError, match="wanted"):
        make(name, trainable=after).load(saved.state())


def test_a_new_job_may_begin_from_an_adapted_version(name: str, part: str) -> None:
    adapted = make(name, trainable="lora")
    train(adapted)
    again = make(name, adapted.policy(), **PART[part])
    assert np.array_equal(acts(again.policy()), acts(adapted.policy()))


def test_an_adapter_adds_alpha_over_rank_times_its_product() -> None:
    policy = FlowPolicy.create(SPACES, {"hidden": 8, "layers": 1})
    adapted = policy.to_train("cpu", LoRA(rank=2, alpha=6.0))
    weights = dict(adapted.net.named_parameters())
    a, b = (weights[f"body.0.parametrizations.weight.0.{x}"] for x in "ab")
    with torch.no_grad():
        b.normal_()
    plain = policy.tensors()["body.0.weight"]
    torch.testing.assert_close(adapted.merged().tensors()["body.0.weight"], plain + 3 * b @ a)


def test_a_policy_that_holds_everything_frozen_cannot_be_trained() -> None:
    policy = FlowPolicy.create(SPACES, {}, normalization=Normalization.identity(2, 1))
    policy.heads = ("nowhere",)  # as if it named none of its modules
    kind: Any = algorithms.find("bc")
    with pytest.raises(ValueError, match="leaves nothing to learn"):
        kind(kind.parameters(trainable="heads"), policy)
