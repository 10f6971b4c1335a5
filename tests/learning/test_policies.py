"""Policies: the flow fits what it is shown, and a bundle carries exactly one policy."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_contract.errors import Untrusted
from fleet_runtime.policies import bundle
from fleet_runtime.policies.base import Policy
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.networks import finite
from fleet_runtime.policies.normalization import (
    ACTION_FLOOR,
    CLIP,
    OBSERVATION_FLOOR,
    Normalization,
)
from learning.makers import SPACES, episode

SEEN = np.array([[0.3, -0.2], [0.0, 0.1], [2.0, 9.0]], np.float32)
IDS = np.array([0, 1, 1])


def small(seed: int = 0, **changes: Any) -> FlowPolicy:
    torch.manual_seed(seed)
    sizes = {"hidden": 16, "layers": 2, "horizon": 3, "execute": 2} | changes
    return FlowPolicy(FlowConfig(spaces=SPACES, **sizes), Normalization.identity(2, 1))


def test_a_flow_learns_the_mean_and_spread_of_a_gaussian() -> None:
    policy = small(hidden=32, horizon=1, execute=1)
    optimiser = torch.optim.Adam(policy.net.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    rows = 512
    seen, ids = torch.zeros(rows, 2), torch.zeros(rows, dtype=torch.int64)
    valid = torch.ones(rows, 1, dtype=torch.bool)
    for _ in range(400):
        action = 0.3 + 0.1 * torch.randn(rows, 1, 1, generator=generator)
        loss = policy.loss(seen, ids, action, valid, generator).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    drawn = policy.act(np.zeros((4000, 2), np.float32), np.zeros(4000, int))
    assert drawn.mean() == pytest.approx(0.3, abs=0.03)
    assert drawn.std() == pytest.approx(0.1, abs=0.04)


def test_the_loss_of_a_flow_that_says_zero_is_two_per_standard_normal_number() -> None:
    """E|x¹ − x⁰|² = 1 + 1 for independent standard normal ends."""
    policy = small()
    with torch.no_grad():
        for weight in policy.net.parameters():
            weight.zero_()
    rows = 20_000
    generator = torch.Generator().manual_seed(1)
    action = torch.randn(rows, 3, 1, generator=generator)
    valid = torch.ones(rows, 3, dtype=torch.bool)
    ids = torch.zeros(rows, dtype=torch.int64)
    loss = policy.loss(torch.zeros(rows, 2), ids, action, valid, generator)
    assert float(loss.detach().mean()) == pytest.approx(2.0, abs=0.05)


def test_actions_past_the_mask_do_not_count() -> None:
    policy = small()
    valid = torch.tensor([[True, False, False]])
    found = []
    for garbage in (0.0, 1e3):
        action = torch.tensor([[[0.1], [0.2], [0.3]]])
        shown = policy.net.body
        with torch.no_grad():  # blind to the chunk itself, so that only the target could leak
            shown[0].weight[:, :3] = 0  # type: ignore[operator]
        action[0, 1:] = garbage
        generator = torch.Generator().manual_seed(2)
        loss = policy.loss(
            torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), action, valid, generator
        )
        found.append(float(loss.detach()))
    assert found[0] == found[1]


def test_actions_stay_within_the_bounds() -> None:
    policy = small()
    with torch.no_grad():
        for weight in policy.net.parameters():
            weight.mul_(50)
    chunk = policy.act(SEEN, IDS)
    assert chunk.shape == (3, 3, 1)
    assert np.abs(chunk).max() <= 1.0


def test_the_same_seed_gives_the_same_actions() -> None:
    policy = small()
    policy.seed(5)
    first = policy.act(SEEN, IDS)
    assert not np.array_equal(first, policy.act(SEEN, IDS))
    policy.seed(5)
    assert np.array_equal(first, policy.act(SEEN, IDS))


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_guidance_goes_from_the_plain_velocity_beyond_the_better_one(beta: float) -> None:
    """RECAP's v_u + β (v_c − v_u); u is what it learned where the label was left out."""
    policy = small(guidance=beta)
    seen, ids = torch.from_numpy(SEEN), torch.from_numpy(IDS)
    x, w = torch.randn((3, 3), generator=torch.Generator().manual_seed(3)), torch.full((3, 1), 0.4)
    plain, better, worse = (
        policy.net(x, w, policy.net.context(seen, ids, torch.full((3,), label)))
        for label in (0, 1, -1)
    )
    assert not torch.allclose(plain, better)
    assert not torch.allclose(worse, better)
    found = policy._field(seen, ids)(x, w)
    torch.testing.assert_close(found, plain + beta * (better - plain))


def test_a_copy_keeps_its_weights_while_the_original_trains_on() -> None:
    policy = small()
    twin = policy.copy()
    with torch.no_grad():
        for weight in policy.net.parameters():
            weight.add_(1.0)
    assert not np.array_equal(policy.act(SEEN, IDS), twin.act(SEEN, IDS))


def test_statistics_weigh_tasks_alike_and_are_floored() -> None:
    still = episode("a", steps=4, observation=np.zeros((5, 2), np.float32))
    far = episode("b", steps=400, task="right", observation=np.full((401, 2), 2.0, np.float32))
    found = Normalization.measure([still, far])
    assert found.observation_mean.tolist() == [1.0, 1.0]
    assert found.observation_std.tolist() == [1.0, 1.0]
    alone = Normalization.measure([still])
    assert alone.observation_std.tolist() == pytest.approx([OBSERVATION_FLOOR] * 2)
    assert float(alone.action_std) == pytest.approx(ACTION_FLOOR)
    assert alone.observation(torch.full((1, 2), 99.0)).tolist() == [[CLIP, CLIP]]


def test_a_bundle_gives_back_a_policy_that_acts_identically() -> None:
    policy = small()
    files = bundle.to_files(policy)
    again = bundle.from_files(files)
    assert isinstance(again, Policy)
    policy.seed(3)
    again.seed(3)
    assert np.array_equal(policy.act(SEEN, IDS), again.act(SEEN, IDS))
    assert bundle.to_files(again) == files


def _config(**changes: object) -> dict[str, bytes]:
    files = bundle.to_files(small())
    config = json.loads(files[bundle.CONFIG]) | changes
    return files | {bundle.CONFIG: json.dumps(config).encode()}


def _model(change: Any) -> dict[str, bytes]:
    files = bundle.to_files(small())
    tensors = safetensors.torch.load(files[bundle.MODEL])
    change(tensors)
    return files | {bundle.MODEL: safetensors.torch.save(tensors)}


def _statistics(name: str, value: torch.Tensor) -> dict[str, bytes]:
    files = bundle.to_files(small())
    tensors = safetensors.torch.load(files[bundle.NORMALIZATION]) | {name: value}
    return files | {bundle.NORMALIZATION: safetensors.torch.save(tensors)}


WRONG = {
    "an architecture nobody knows": (_config(architecture="oracle"), "oracle"),
    "no architecture": (_config(architecture=["flow"]), "architecture"),
    "another format": (_config(format=2), "format"),
    "a setting nobody knows": (_config(surprise=1), "surprise"),
    "more executed than planned": (_config(execute=9), "exceeds"),
    "an endless network": (_config(layers=10**9), "layers"),
    "other sizes than the weights": (_config(hidden=17), "wanted"),
    "config that is not JSON": (bundle.to_files(small()) | {bundle.CONFIG: b"{"}, "config.json"),
    "config nested without end": (
        bundle.to_files(small()) | {bundle.CONFIG: b"[" * 200_000},
        "config.json",
    ),
    "a missing file": ({bundle.CONFIG: b"{}"}, "lacks"),
    "weights that are not safetensors": (
        bundle.to_files(small()) | {bundle.MODEL: b"\x80\x04pickle"},
        "model.safetensors",
    ),
    "a missing weight": (_model(lambda t: t.pop("body.0.bias")), "weights hold"),
    "a weight that is not finite": (
        _model(lambda t: t["body.0.bias"].fill_(float("nan"))),
        "not finite",
    ),
    "a weight of another type": (
        _model(lambda t: t.update({"body.0.bias": t["body.0.bias"].double()})),
        "float64",
    ),
    "a deviation of zero": (_statistics("action_std", torch.zeros(1)), "not positive"),
    "statistics of another robot": (_statistics("observation_mean", torch.zeros(3)), "wanted"),
    "statistics nobody knows": (_statistics("extra", torch.zeros(3)), "extra"),
}


@pytest.mark.parametrize(("files", "words"), WRONG.values(), ids=list(WRONG))
def test_a_wrong_bundle_is_untrusted_and_says_why(files: dict[str, bytes], words: str) -> None:
    with pytest.raises(Untrusted, match=words):
        bundle.from_files(files)


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_bundle_is_untrusted_or_still_a_policy(data: st.DataObject) -> None:
    files = bundle.to_files(small())
    name = data.draw(st.sampled_from(bundle.FILES))
    damaged = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        # The first bytes hold the structure; most of the rest are weights.
        damaged[data.draw(st.integers(0, min(len(damaged), 600) - 1))] = data.draw(
            st.integers(0, 255)
        )
    try:
        policy = bundle.from_files(files | {name: bytes(damaged)})
    except Untrusted:
        return
    assert policy.act(SEEN, np.zeros(3, int)).shape[0] == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(dtype: torch.dtype) -> None:
    numbers = torch.arange(-50, 50).to(dtype)
    assert finite(numbers)
    assert finite(numbers[:0])
    for wrong in ("nan", "inf", "-inf") if dtype.is_floating_point else ():
        for place in (0, 50, 99):
            spoiled = numbers.clone()
            spoiled[place] = float(wrong)
            assert not finite(spoiled)


def test_what_is_built_from_files_draws_no_weights_of_its_own() -> None:
    files = bundle.to_files(small())
    before = torch.random.get_rng_state()
    built = bundle.from_files(files)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert bundle.to_files(built) == files
