"""Policies with eyes: what they see reaches what they do, and travels in their bundle."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from fleet_contract.errors import Untrusted
from fleet_runtime.algorithms import find
from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import Side
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.policies import bundle
from fleet_runtime.policies.flow import FlowConfig, FlowPolicy
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.policies.vision import Eye, shifted
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.episode import EpisodeRun, Stamp
from fleet_runtime.robot.evaluate import evaluate, mean_rate
from fleet_runtime.robot.gym import described
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from learning.dot import DotRobot, Dots
from learning.makers import SPACES, batch, smooth

if TYPE_CHECKING:
    from fleet_runtime.experience.batch import Batch
    from fleet_runtime.robot.env import Observation

CAMERAS = {"wrist": (20, 30, 3), "top": (9, 7, 3)}
SIGHTED = Spaces(**SPACES.model_dump() | {"images": CAMERAS})
SEEN, IDS = np.zeros((2, 2), np.float32), np.array([0, 1])
FRAMES = {name: np.stack([smooth(shape, n) for n in (0, 1)]) for name, shape in CAMERAS.items()}


def small(spaces: Spaces = SIGHTED, **changes: Any) -> FlowPolicy:
    torch.manual_seed(0)
    sizes = {"hidden": 16, "layers": 1, "horizon": 3, "execute": 2, "camera_width": 4}
    config = FlowConfig(spaces=spaces, camera_features=5, **sizes | changes)
    return FlowPolicy(config, Normalization.identity(2, 1))


def test_a_policy_learns_from_pixels_what_its_state_does_not_tell() -> None:
    """Demonstrations through the codec, batches, a bundle: the way round the ring, in one room."""
    robot = DotRobot(seed=1)
    human = ScriptedHuman(robot.expert, GateSettings(noise=0.2), seed=1)
    kept = {one.id: codec.encode(one) for one in record(robot, human, ("meet",), 40, seed=1)}
    shown = [codec.decode(data) for data in kept.values()]
    rates = {}
    for sighted in (True, False):
        spaces = robot.spec.spaces()
        if not sighted:
            spaces = spaces.model_copy(update={"images": {}})
        algorithm = find("bc").create(
            spaces,
            {
                "batch_size": 64,
                "horizon": 2,
                "execute": 2,
                "hidden": 64,
                "layers": 2,
                "camera_width": 8,
                "camera_features": 16,
                "learning_rate": 2e-3,
                "ema": 0.98,
            },
            normalization=Normalization.measure(shown),
        )
        index = ReplayIndex(
            spaces, algorithm.sample_spec, lambda key: codec.decode(kept[key]), cache_steps=5000
        )
        for one in shown:
            index.add(one, Side.OFFLINE)
        feed = Feed(index, AdaptiveSampler(1))
        for _ in range(100):
            algorithm.update(feed)
        policy = bundle.from_files(bundle.to_files(algorithm.policy()))
        rates[sighted] = mean_rate(
            evaluate(policy, [DotRobot() for _ in range(8)], ("meet",), 32, seed=2**31)
        )
    assert rates[True] >= 0.7
    assert rates[False] <= 0.4


def test_a_bundle_with_eyes_acts_identically() -> None:
    policy = small()
    files = bundle.to_files(policy)
    again = bundle.from_files(files)
    for one in (policy, again):
        one.seed(3)
    assert np.array_equal(policy.act(SEEN, IDS, FRAMES), again.act(SEEN, IDS, FRAMES))
    assert bundle.to_files(again) == files
    assert again.spaces == SIGHTED


@pytest.mark.parametrize("camera", sorted(CAMERAS))
def test_every_camera_counts(camera: str) -> None:
    policy = small(noise=0.0)
    dark = FRAMES | {camera: np.zeros_like(FRAMES[camera])}
    assert not np.array_equal(policy.act(SEEN, IDS, FRAMES), policy.act(SEEN, IDS, dark))


def test_a_row_of_a_batch_is_seen_alike_alone() -> None:
    """What a batch norm would not do."""
    policy = small(noise=0.0)
    alone = policy.act(SEEN[1:], IDS[1:], {name: frames[1:] for name, frames in FRAMES.items()})
    assert policy.act(SEEN, IDS, FRAMES)[1] == pytest.approx(alone[0], abs=1e-5)


def test_frames_are_looked_at_once_an_act_however_many_steps_the_flow_takes() -> None:
    policy = small(euler_steps=7, guidance=1.5)
    looks = []
    policy.net.eyes.register_forward_hook(lambda *_: looks.append(1))  # type: ignore[union-attr]
    policy.act(SEEN, IDS, FRAMES)
    assert len(looks) == 1


def test_a_policy_with_eyes_that_is_shown_nothing_says_so() -> None:
    with pytest.raises(ValueError, match=r"no frames.*top.*wrist"):
        small().act(SEEN, IDS)


def test_a_policy_without_cameras_writes_what_robots_of_before_read() -> None:
    assert b"camera" not in bundle.to_files(small(SPACES))[bundle.CONFIG]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"camera_width": 10**6}, "camera_width"),
        ({"camera_features": 10**6}, "camera_features"),
        ({"camera_std": 0.0}, "camera_std"),
        ({"spaces": {"images": {"top": [10**6, 10**6, 3]}}}, "images"),
        ({"spaces": {"images": {"top": [9, 9, 10**6]}}}, "images"),
        ({"spaces": {"images": {f"c{n}": [9, 9, 3] for n in range(99)}}}, "images"),
        ({"spaces": {"images": {"top": [9, 7, 3]}}}, "weights hold"),
        ({"spaces": {"images": {}}}, "weights hold"),
    ],
    ids=json.dumps,
)
def test_a_hostile_bundle_with_eyes_is_untrusted(change: dict[str, Any], words: str) -> None:
    files = bundle.to_files(small())
    config = json.loads(files[bundle.CONFIG])
    spaces = config["spaces"] | change.pop("spaces", {})
    told = json.dumps(config | change | {"spaces": spaces}).encode()
    with pytest.raises(Untrusted, match=words):
        bundle.from_files(files | {bundle.CONFIG: told})


@pytest.mark.parametrize("shape", [(1, 1, 3), (24, 24, 3), (25, 7, 3), (480, 640, 3)])
def test_an_eye_takes_frames_of_any_size(shape: tuple[int, int, int]) -> None:
    eye = Eye(shape, width=4, features=5, mean=0.5, std=0.25)
    out = eye(torch.from_numpy(smooth(shape)[None]))
    assert out.shape == (1, 5)
    assert bool(torch.isfinite(out).all())


def test_a_shift_moves_each_frame_as_a_whole_and_draws_out_its_edge() -> None:
    frames = torch.from_numpy(np.stack([smooth((9, 7, 3), n) for n in range(40)]))
    moved = shifted(frames, 2, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(frames.numpy(), moved.numpy(), strict=True):
        drawn = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode="edge")
        fits = {
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(drawn[y : y + 9, x : x + 7], after)
        }
        assert fits
        seen |= fits
    assert len(seen) > 10
    assert shifted(frames, 0, torch.Generator()) is frames


def shown_batch(windows: tuple[int, ...] = (), **changes: Any) -> Batch:
    """Four rows that see something, and something else at the end of each window."""
    rows = batch(4, windows=windows, **changes)
    now = {name: np.stack([smooth(shape, n) for n in range(4)]) for name, shape in CAMERAS.items()}
    ahead = {name: np.repeat(seen[::-1, None], len(windows), 1) for name, seen in now.items()}
    return dataclasses.replace(rows, images=now, later_images=ahead)


TINY = {"batch_size": 4, "hidden": 16, "layers": 1, "camera_width": 4, "camera_features": 5}


def eyes_of(algorithm: Any, part: str) -> list[torch.Tensor]:
    return [v for k, v in algorithm.state().items() if k.startswith(part) and "eyes" in k]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    assert left
    return all(map(torch.equal, left, right))


def test_divl_qam_fixes_its_eyes_once_it_has_imitated() -> None:
    algorithm = find("divl-qam").create(SIGHTED, TINY | {"bc_steps": 2, "n_step": 1})
    demonstrated = dataclasses.replace(shown_batch((8, 8)), side=np.full(4, Side.OFFLINE))
    rows = itertools.repeat(demonstrated)
    first = eyes_of(algorithm, "trained")
    algorithm.update(rows)
    algorithm.update(rows)
    imitated = eyes_of(algorithm, "reference")
    assert not same(first, imitated)
    for _ in range(3):
        update = algorithm.update(rows)
    for part in ("trained", "average", "reference"):
        assert same(imitated, eyes_of(algorithm, part))
    assert np.isfinite(list(update.metrics.values())).all()


def test_fql_acts_through_the_eyes_that_imitation_teaches() -> None:
    algorithm = find("fql").create(SIGHTED, TINY)
    rows = itertools.repeat(shown_batch((8,)))
    first = eyes_of(algorithm, "imitator")
    algorithm.update(rows)
    learned = eyes_of(algorithm, "imitator")
    assert not same(first, learned)
    assert same(learned, eyes_of(algorithm, "trained"))
    assert not same(first, eyes_of(algorithm, "average"))
    again = find("fql").create(SIGHTED, TINY, seed=1)
    again.load(algorithm.state())
    for one in (algorithm, again):
        one.update(rows)
    assert same(eyes_of(algorithm, "trained"), eyes_of(again, "trained"))


def test_recaps_value_has_eyes_of_its_own_which_rest_when_it_is_frozen() -> None:
    algorithm = find("recap").create(SIGHTED, TINY | {"value_steps": 1, "lookahead": 4})
    rows = itertools.repeat(shown_batch((4,)))
    first = eyes_of(algorithm, "eyes")
    algorithm.update(rows)
    learned = eyes_of(algorithm, "eyes")
    assert not same(first, learned)
    algorithm.online = True
    before = eyes_of(algorithm, "trained")
    algorithm.update(rows)
    assert same(learned, eyes_of(algorithm, "eyes"))
    assert not same(before, eyes_of(algorithm, "trained"))


@pytest.mark.parametrize("name", ["divl-qam", "recap"])
def test_what_a_critic_sees_depends_on_every_camera_now_and_later(name: str) -> None:
    algorithm: Any = find(name).create(SIGHTED, TINY)
    rows = shown_batch((8, 8))
    for camera in CAMERAS:
        blind = dataclasses.replace(
            rows,
            images={**rows.images, camera: np.zeros_like(rows.images[camera])},
            later_images={**rows.later_images, camera: np.zeros_like(rows.later_images[camera])},
        )
        assert not torch.equal(algorithm.context(rows), algorithm.context(blind))
        assert not torch.equal(algorithm.later(rows, 1), algorithm.later(blind, 1))
    assert algorithm.context(rows).shape == (4, algorithm.context_size)


def test_a_checkpoint_goes_on_with_its_eyes() -> None:
    config = {"batch_size": 4, "horizon": 3, "execute": 2, "camera_width": 4, "shift": 1}
    first = find("hg-dagger").create(SIGHTED, config)
    second = find("hg-dagger").create(SIGHTED, config, seed=1)
    second.load(first.state())
    rows = shown_batch()
    rows = dataclasses.replace(rows, action=rows.action[:, :3], valid=rows.valid[:, :3])
    for one in (first, second):
        one.update(itertools.repeat(rows))
    assert all(torch.equal(a, second.state()[name]) for name, a in first.state().items())
    moved = "adam.policy.0.exp_avg"
    assert first.state()[moved].any()


SPEC = DotRobot().spec


def test_a_dictionary_of_boxes_is_a_robot_with_cameras() -> None:
    assert dict(SPEC.images) == {"top": (24, 24, 3)}
    assert SPEC.spaces(("meet",)).images == {"top": (24, 24, 3)}
    assert (SPEC.observation_size, SPEC.action_size) == (1, 2)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ({"top": Box(0, 255, (4, 4, 3), np.uint8)}, "no 'state'"),
        ({"state": Box(0, 1, (2,)), "top": Box(0, 1, (4, 4, 3))}, "'top' is float32"),
        ({"state": Box(0, 1, (2,)), "top": Box(0, 255, (3, 4, 4), np.uint8)}, "a frame is"),
        ({"state": Box(0, 1, (2,)), "top": Box(0, 255, (4, 4), np.uint8)}, "a frame is"),
    ],
)
def test_an_environment_that_observes_something_else_is_refused(
    boxes: dict[str, Any], words: str
) -> None:
    world = Dots()
    world.observation_space = Dict(boxes)
    with pytest.raises(ValueError, match=words):
        described(world, tasks=("meet",), horizon=5, control_hz=1.0)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        ({"top": (24, 24, 3)}, None),
        ({}, None),
        ({"top": (48, 48, 3)}, "camera 'top'"),
        ({"wrist": (24, 24, 3)}, "the robot has None"),
    ],
)
def test_a_policy_may_only_read_cameras_the_robot_has(
    read: dict[str, Any], words: str | None
) -> None:
    found = SPEC.mismatch(SPEC.spaces().model_copy(update={"images": read}))
    assert found is None if words is None else words in str(found)


class Failing(DotRobot):
    """Its camera gives something else from some step on."""

    def __init__(self, after: int, images: dict[str, Any]) -> None:
        super().__init__()
        self._left, self._broken = after, images

    def observe(self) -> Observation:
        self._left -= 1
        seen = super().observe()
        return seen if self._left >= 0 else dataclasses.replace(seen, images=self._broken)


BROKEN = [
    ({}, "gives no frame"),
    ({"top": None}, "gives no frame"),
    ({"top": np.zeros((24, 24, 3), np.float32)}, "gives float32"),
    ({"top": np.zeros((24, 23, 3), np.uint8)}, "wanted uint8"),
]


@pytest.mark.parametrize(("images", "words"), BROKEN)
def test_a_camera_that_fails_ends_the_attempt_and_what_was_seen_is_kept(
    images: dict[str, Any], words: str
) -> None:
    run = EpisodeRun(Failing(3, images), "meet", stamp=Stamp(id="e", robot="r"), execute=1)
    run.give(np.zeros((9, 2), np.float32))
    while not run.done:
        run.give(np.zeros((9, 2), np.float32))
        run.tick()
    made = codec.decode(codec.encode(run.episode()))
    assert (made.outcome, len(made)) == ("aborted", 3)
    assert words in made.outcome_source
    assert made.images["top"].shape == (4, 24, 24, 3)


def test_a_camera_that_never_worked_starts_no_attempt() -> None:
    with pytest.raises(ValueError, match="gives no frame"):
        EpisodeRun(Failing(0, {}), "meet", stamp=Stamp(id="e", robot="r"), execute=1)
