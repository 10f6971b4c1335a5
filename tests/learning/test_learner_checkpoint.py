"""Checkpoints: whole or not there, and a resumed run does what the first would have done."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fleet_contract import names
from fleet_contract.errors import Fenced
from fleet_runtime.algorithms.hg_dagger import HGDagger
from fleet_runtime.artifacts import Store
from fleet_runtime.experience.batch import Side
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.learner.checkpoint import Checkpoints, Saved, Tensors, pack, unpack
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from helpers.learner import ACTION, JOB_UID, OBSERVATION, TASKS, episode

SPACES = Spaces(
    tasks=TASKS,
    observation_size=OBSERVATION,
    action_low=(-1.0,) * ACTION,
    action_high=(1.0,) * ACTION,
)


class Run:
    """An algorithm, its sampler and its data: a loop without the network."""

    def __init__(self) -> None:
        parameters = {"hidden": 8, "layers": 1, "batch_size": 8}
        self.algorithm = HGDagger.create(SPACES, parameters)
        episodes = {
            f"{task}-{side.name}": (side, episode(f"{task}-{side.name}", task=task, seed=side))
            for task in TASKS
            for side in Side
        }
        index = ReplayIndex(SPACES, self.algorithm.sample_spec, lambda name: episodes[name][1])
        for side, made in episodes.values():
            index.add(made, side)
        self.sampler = AdaptiveSampler(len(TASKS))
        self.feed = Feed(index, self.sampler)

    def update(self, times: int) -> list[float]:
        losses = []
        for _ in range(times):
            found = self.algorithm.update(self.feed)
            self.sampler.observe(found.losses)
            losses.append(found.metrics["bc_flow"])
        return losses

    def saved(self, learner_epoch: int = 1) -> tuple[Saved, Tensors]:
        document = Saved(
            learner_epoch=learner_epoch,
            algorithm="hg-dagger",
            step=self.algorithm.updates,
            sequence=3,
            journal_position=7,
            spaces=SPACES,
            sampler=dict(self.sampler.state()),
        )
        return document, self.algorithm.state()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}")


def test_a_resumed_run_makes_the_very_updates_the_first_would_have_made(store: Store) -> None:
    first, second = Run(), Run()
    first.update(7)
    Checkpoints(store, JOB_UID, 1, keep=2).save(*first.saved())

    def use(saved: Saved, tensors: Tensors) -> Saved:
        second.algorithm.load(tensors)
        second.sampler.load(saved.sampler)  # type: ignore[arg-type]
        return saved

    found = Checkpoints(store, JOB_UID, 2, keep=2).newest(use)
    assert found is not None
    assert (found.step, found.sequence, found.journal_position) == (7, 3, 7)
    assert first.update(5) == second.update(5)
    np.testing.assert_array_equal(first.sampler.means(), second.sampler.means())
    one, other = first.algorithm.state(), second.algorithm.state()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_that_does_not_load_gives_way_to_the_one_before(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    checkpoints = Checkpoints(store, JOB_UID, 1, keep=3)
    positions = []
    for _ in range(3):
        run.update(1)
        positions.append(checkpoints.save(*run.saved()))
    newest = tmp_path / names.checkpoint_key(JOB_UID, positions[2])
    newest.write_bytes(newest.read_bytes()[:100])

    def use(saved: Saved, _: Tensors) -> int:
        if saved.step == 2:
            raise ValueError("not the network of this job")
        return saved.step

    assert checkpoints.newest(use) == 1
    assert "not the network of this job" in caplog.text


def test_only_the_newest_checkpoints_are_kept_and_their_positions_grow(store: Store) -> None:
    saved = Run().saved()
    checkpoints = Checkpoints(store, JOB_UID, 1, keep=2)
    assert [checkpoints.save(*saved) for _ in range(4)] == [0, 1, 2, 3]
    folder = names.checkpoint_key(JOB_UID, 0).rsplit("/", 1)[0]
    assert store.list(folder) == [names.checkpoint_key(JOB_UID, n) for n in (2, 3)]


def test_an_older_learner_does_not_save_over_a_newer_ones_checkpoint(store: Store) -> None:
    run = Run()
    Checkpoints(store, JOB_UID, 2, keep=2).save(*run.saved(learner_epoch=2))
    with pytest.raises(Fenced, match="epoch 2"):
        Checkpoints(store, JOB_UID, 1, keep=2).save(*run.saved())


def test_weights_that_are_not_finite_are_never_saved(store: Store) -> None:
    saved, tensors = Run().saved()
    next(t for t in tensors.values() if t.is_floating_point()).fill_(float("inf"))
    with pytest.raises(ValueError, match="nothing was saved"):
        Checkpoints(store, JOB_UID, 1, keep=2).save(saved, tensors)


WHOLE = pack(*Run().saved())


@given(st.integers(0, len(WHOLE) - 1))
def test_a_checkpoint_cut_anywhere_is_refused_with_a_reason(cut: int) -> None:
    with pytest.raises(ValueError, match=r"checkpoint|document"):
        unpack(WHOLE[:cut])
