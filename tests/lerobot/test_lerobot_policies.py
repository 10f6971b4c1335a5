"""LeRobot's own networks behind our interface: `make lerobot` runs this where lerobot is."""

from __future__ import annotations

import importlib.util
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
import torch

if importlib.util.find_spec("draccus") is None:  # "lerobot" would find this very folder
    pytest.skip("lerobot is not in this environment: `make lerobot`", allow_module_level=True)

from fleet_contract.agents import LearnerConfig
from fleet_contract.errors import Misconfigured, Untrusted
from fleet_contract.resources.learning import AlgorithmSpec, PolicySpec, Task
from fleet_runtime import algorithms
from fleet_runtime.experience.batch import Side
from fleet_runtime.learner import build
from fleet_runtime.policies import bundle
from fleet_runtime.policies.lerobot import LeRobotPolicy
from fleet_runtime.policies.lerobot_library import Library
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.evaluate import evaluate, mean_rate
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from learning.makers import SPACES, TASKS, Line, batch
from lerobot_tiny import INSTRUCTIONS, policy, save_backbone

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_runtime.policies.base import Policy

KINDS = ("act", "diffusion", "smolvla")
STATISTICS = Normalization(
    torch.tensor([0.1, -0.2]), torch.tensor([0.5, 2.0]), torch.tensor([0.2]), torch.tensor([0.4])
)
SEEN = np.array([[0.3, -0.5], [0.0, 0.5]], np.float32)
LORA: dict[str, Any] = {"trainable": "lora", "lora_rank": 2}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smolvlm")
    save_backbone(folder)
    return folder


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, backbone: Path) -> LeRobotPolicy:
    spaces, config = policy(request.param, backbone)
    return LeRobotPolicy.create(spaces, config, normalization=STATISTICS, instructions=INSTRUCTIONS)


def images(one: Policy, rows: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = one.spaces.images.items()
    return {name: rng.integers(0, 255, (rows, *shape), np.uint8) for name, shape in shapes}


def acts(one: Policy, task: tuple[int, int] = (0, 1)) -> Any:
    one.seed(1)
    return one.act(SEEN, np.array(task), images(one))


def train(initial: LeRobotPolicy, updates: int = 3, first: int = 0, **config: Any) -> Any:
    kind = algorithms.find("hg-dagger")
    algorithm: Any = kind.create(initial.spaces, {"batch_size": 8} | config, initial=initial)
    go_on(algorithm, updates, first)
    return algorithm


def go_on(algorithm: Any, updates: int, first: int) -> None:
    for seed in range(first, first + updates):
        rows = batch(8, seed=seed)
        object.__setattr__(rows, "images", images(algorithm.trained, 8))
        algorithm.update(itertools.repeat(rows))


def weights(one: Policy) -> dict[str, bytes]:
    found = safetensors.torch.load(bundle.to_files(one)[bundle.MODEL])
    return {name: tensor.numpy().tobytes() for name, tensor in found.items()}


def test_a_bundle_carries_network_processors_and_statistics(made: LeRobotPolicy) -> None:
    files = bundle.to_files(made)
    again = bundle.from_files(files)
    assert np.array_equal(acts(again), acts(made))
    assert bundle.to_files(again) == files
    told = safetensors.torch.load(files[bundle.NORMALIZATION])
    assert {0.1, -0.2} <= {
        round(float(x), 3) for name, tensor in told.items() if "state.mean" in name for x in tensor
    }


def test_chunks_have_our_shape_and_stay_within_bounds(made: LeRobotPolicy) -> None:
    chunk = acts(made)
    assert chunk.shape == (2, made.horizon, 1) == (2, 8, 1)
    assert made.execute == 4
    assert np.abs(chunk).max() <= 1
    assert chunk.dtype == np.float32


def test_its_normalisation_is_in_the_robots_units(made: LeRobotPolicy) -> None:
    """The same network with actions measured 100 times as wide plans beyond what bounds let by."""
    wide = made.copy()
    far = {
        name: tensor * (100 if "action" in name.rsplit("/", 1)[1] else 1)
        for name, tensor in made.statistics().items()
    }
    wide.calibrate(far)
    assert not np.array_equal(acts(wide), np.zeros_like(acts(wide)))
    assert np.abs(acts(wide)).mean() > np.abs(acts(bundle.from_files(bundle.to_files(made)))).mean()


def test_imitation_trains_it_and_goes_on_from_its_state_bit_for_bit(made: LeRobotPolicy) -> None:
    first = train(made)
    assert weights(first.policy()) != weights(made)
    second = train(made, updates=0)
    second.load(safetensors.torch.load(safetensors.torch.save(first.state())))
    for one in (first, second):
        go_on(one, 2, first=3)
    assert weights(first.policy()) == weights(second.policy())


def test_adapters_begin_as_nothing_and_leave_every_frozen_byte(made: LeRobotPolicy) -> None:
    algorithm = train(made, updates=0, **LORA)
    np.testing.assert_allclose(
        acts(algorithm.policy()), acts(made), atol=1e-6
    )  # torch has two kernels for attention
    before = weights(algorithm.policy())
    assert before.items() >= weights(made).items()
    go_on(algorithm, 2, first=0)
    after = weights(algorithm.policy())
    changed = {name for name in after if after[name] != before[name]}
    assert changed
    assert all(name.endswith((".lora_a", ".lora_b")) for name in changed)
    published = algorithm.policy()
    assert np.allclose(acts(bundle.from_files(bundle.to_files(published))), acts(published))


def test_heads_alone_may_learn(made: LeRobotPolicy) -> None:
    before = weights(made)
    after = weights(train(made, trainable="heads").policy())
    changed = {name for name in after if after[name] != before[name]}
    assert changed
    assert all(name.startswith(made.heads) for name in changed)


def test_smolvla_trains_its_action_expert_and_leaves_the_language_model(backbone: Path) -> None:
    spaces, config = policy("smolvla", backbone)
    one = LeRobotPolicy.create(spaces, config, instructions=INSTRUCTIONS)
    before, after = weights(one), weights(train(one, learning_rate=1e-2).policy())
    changed = {name for name in after if after[name] != before[name]}
    assert any("lm_expert" in name for name in changed)
    assert not any(".vlm." in name for name in changed)


def test_the_instruction_reaches_the_policy(backbone: Path) -> None:
    spaces, config = policy("smolvla", backbone)
    one = LeRobotPolicy.create(spaces, config, instructions=INSTRUCTIONS)
    mute = LeRobotPolicy.create(spaces, config, instructions=("go", "go"))
    assert not np.array_equal(acts(one, (0, 0)), acts(one, (1, 1)))
    assert np.array_equal(acts(mute, (0, 0)), acts(mute, (1, 1)))


def test_a_job_names_it_and_its_tasks_tell_what_to_do() -> None:
    _, config = policy("act", None)  # type: ignore[arg-type]
    job = LearnerConfig(
        tasks=[Task(name="left", instruction="to the left!"), Task(name="right")],
        policy=PolicySpec(architecture="lerobot", parameters=config),
        algorithm=AlgorithmSpec(name="bc", parameters={"learningRate": 0.01}),
    )
    build.demand_known(job)
    published: Any = build.create(job, SPACES, normalization=STATISTICS).policy()
    assert published.settings.instructions == ("to the left!", "right")
    assert published.settings.policy["type"] == "act"


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_it_learns_to_do_what_it_was_shown(kind: str, backbone: Path) -> None:
    robot = Line()
    shown = record(robot, ScriptedHuman(robot.expert, GateSettings(noise=0.1)), TASKS, 3)
    _, config = policy(kind, backbone)
    normalization = Normalization.measure(shown)
    initial = LeRobotPolicy.create(SPACES, config, normalization=normalization)
    algorithm: Any = algorithms.find("bc").create(
        SPACES, {"batch_size": 64, "learning_rate": 3e-3}, initial=initial
    )
    kept = {one.id: one for one in shown}
    index = ReplayIndex(SPACES, algorithm.sample_spec, kept.__getitem__)
    for one in shown:
        index.add(one, Side.OFFLINE)
    feed = Feed(index, AdaptiveSampler(len(TASKS)))
    for _ in range(200):
        algorithm.update(feed)
    assert mean_rate(evaluate(algorithm.policy(), [Line(), Line()], TASKS, 10, seed=1000)) > 0.8


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_what_lerobot_saved_acts_here_as_it_does_there(
    kind: str, backbone: Path, tmp_path: Path
) -> None:
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    spaces, config = policy(kind, backbone)
    made = LeRobotPolicy.create(spaces, config, normalization=STATISTICS)
    parts = made.library
    parts.net.save_pretrained(tmp_path)  # type: ignore[operator]
    parts.before.save_pretrained(tmp_path)
    parts.after.save_pretrained(tmp_path)

    theirs: Any = get_policy_class(kind).from_pretrained(tmp_path)
    before, after = make_pre_post_processors(theirs.config, pretrained_path=str(tmp_path))
    state = torch.tensor([[0.3, -0.5]])
    seen = before({"observation.state": state, "observation.environment_state": state})
    if kind == "diffusion":  # select_action keeps a window of one and adds its axis
        seen = {name: value for name, value in seen.items() if name.startswith("observation")}
    ours = LeRobotPolicy.create(spaces, {"pretrained": f"file://{tmp_path}"})
    assert ours.settings.policy["type"] == kind
    torch.manual_seed(3)
    there = after(theirs.select_action(seen)).clamp(-1, 1)
    torch.manual_seed(3)
    with torch.no_grad():
        told = {
            "observation.state": state,
            "observation.environment_state": state,
            "task": ["left"],
        }
        here = ours.library.act(told)[:, 0].clamp(-1, 1)
    torch.testing.assert_close(here, there)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"type": "acd"}, "lerobot has no policy 'acd'; there are act"),
        ({"type": "act", "config": {"chunk": 3}}, "chunk"),
        ({"type": "diffusion", "config": {"n_obs_steps": 2}}, "robots show one at a time"),
        (
            {"type": "smolvla", "config": {"vlm_model_name": "nobody/nothing"}},
            "cannot build smolvla",
        ),
        ({"pretrained": "file:///nowhere/at/all"}, "is no policy saved by lerobot"),
    ],
    ids=["no such type", "no such field", "a history", "no backbone here", "no such folder"],
)
def test_a_policy_is_refused_that_has(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LeRobotPolicy.create(SPACES, config)


def test_an_algorithm_with_critics_says_what_it_trains() -> None:
    _, config = policy("act", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it trains a policy of flow, not of lerobot"):
        algorithms.find("recap").create(SPACES, {}, initial=LeRobotPolicy.create(SPACES, config))


def test_a_job_whose_network_cannot_be_built_is_told_so() -> None:
    job = LearnerConfig(
        tasks=[Task(name="left"), Task(name="right")],
        policy=PolicySpec(architecture="lerobot", parameters={"type": "acd"}),
        algorithm=AlgorithmSpec(name="bc"),
    )
    with pytest.raises(Misconfigured, match="lerobot has no policy 'acd'"):
        build.create(job, SPACES)


@pytest.mark.parametrize(
    "step",
    [
        {"class": "subprocess.Popen", "config": {"args": "true"}},
        {"registry_name": "no_such_step", "config": {}},
    ],
)
def test_a_bundle_cannot_run_code_as_a_processor(step: dict[str, Any]) -> None:
    _, config = policy("act", None)  # type: ignore[arg-type]
    files = bundle.to_files(LeRobotPolicy.create(SPACES, config, normalization=STATISTICS))
    hostile = json.loads(files[bundle.CONFIG])
    hostile["preprocessor"]["steps"].append(step)
    with pytest.raises(Untrusted, match="policy_preprocessor"):
        bundle.from_files(files | {bundle.CONFIG: json.dumps(hostile).encode()})


def test_a_statistic_that_is_missing_is_refused() -> None:
    _, config = policy("act", None)  # type: ignore[arg-type]
    files = bundle.to_files(LeRobotPolicy.create(SPACES, config, normalization=STATISTICS))
    assert isinstance(bundle.from_files(files), LeRobotPolicy)
    with pytest.raises(Untrusted, match="statistics"):
        bundle.from_files(files | {bundle.NORMALIZATION: safetensors.torch.save({})})


def test_one_room_knows_the_library() -> None:
    assert Library.__module__ == "fleet_runtime.policies.lerobot_library"
