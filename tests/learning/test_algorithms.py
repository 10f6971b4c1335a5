"""One behaviour for every registered algorithm; the loop knows no names, so neither do these."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import safetensors.torch
from pydantic import ValidationError

from fleet_runtime import algorithms
from fleet_runtime.algorithms.base import Algorithm, losses_by_pool
from fleet_runtime.experience.batch import Batch, Side
from fleet_runtime.policies import bundle
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.sampler import AdaptiveSampler
from fleet_runtime.robot.demonstrations import record
from fleet_runtime.robot.evaluate import evaluate, mean_rate
from fleet_runtime.robot.human import GateSettings, ScriptedHuman
from learning.makers import SPACES, TASKS, Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_runtime.experience.types import Episode

SMALL = {"hidden": 32, "layers": 2, "batch_size": 64}
SHORT: dict[str, dict[str, object]] = {  # so that every stage has its turn
    "DIVLQAM": {"bc_steps": 200, "n_step": 2},
    "RECAP": {"value_steps": 100, "longest": 40, "lookahead": 5},
}
SEEN = np.array([[0.3, -0.5], [0.0, 0.5]], np.float32)


@pytest.fixture(params=sorted(algorithms.available()))
def kind(request: pytest.FixtureRequest) -> type[Algorithm]:
    return algorithms.find(str(request.param))


@pytest.fixture(scope="module")
def demonstrations() -> list[Episode]:
    robot = Line()
    return record(robot, ScriptedHuman(robot.expert, GateSettings(noise=0.1)), TASKS, 3)


EARLY: dict[str, dict[str, object]] = {  # so that six updates see every stage
    "DIVLQAM": {"bc_steps": 2},
    "RECAP": {"value_steps": 2},
}


TRAINABLE: dict[str, dict[str, Any]] = {
    "all": {},
    # Adapters see a few directions, heads a fixed view: both learn slower, so they step further.
    "heads": {"trainable": "heads", "learning_rate": 2e-2, "hidden": 256},
    "lora": {"trainable": "lora", "learning_rate": 1e-2, "lora_rank": 4},
}


def small(kind: type[Algorithm]) -> dict[str, object]:
    return SMALL | SHORT.get(kind.__name__, {})


def learner(
    kind: type[Algorithm], demonstrations: list[Episode], seed: int = 0, **more: Any
) -> Algorithm:
    return kind.create(
        SPACES, small(kind) | more, normalization=Normalization.measure(demonstrations), seed=seed
    )


def feed(algorithm: Algorithm, demonstrations: list[Episode]) -> Iterator[Batch]:
    kept = {one.id: one for one in demonstrations}
    index = ReplayIndex(SPACES, algorithm.sample_spec, kept.__getitem__)
    for one in demonstrations:
        index.add(one, Side.OFFLINE)
    return Feed(index, AdaptiveSampler(len(TASKS)))


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_it_learns_to_do_what_it_was_shown(
    kind: type[Algorithm], demonstrations: list[Episode], trainable: str
) -> None:
    algorithm = learner(kind, demonstrations, **TRAINABLE[trainable])
    robots = [Line(), Line()]
    before = mean_rate(evaluate(algorithm.policy(), robots, TASKS, 10, seed=1000))
    batches = feed(algorithm, demonstrations)
    for _ in range(300):
        algorithm.update(batches)
    after = mean_rate(evaluate(algorithm.policy(), robots, TASKS, 10, seed=1000))
    assert before < 0.8 < after


def test_an_update_reports_losses_of_the_pools_it_drew_from(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    algorithm = learner(kind, demonstrations)
    report = algorithm.update(feed(algorithm, demonstrations))
    assert algorithm.updates == 1
    assert report.losses.shape == (len(TASKS), len(Side))
    assert np.isfinite(report.losses[:, Side.OFFLINE]).all()
    assert np.isnan(report.losses[:, Side.ONLINE]).all()
    assert all(np.isfinite(value) for value in report.metrics.values())


def test_a_published_policy_does_not_change_with_later_updates(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    algorithm = learner(kind, demonstrations)
    published = algorithm.policy()
    before = bundle.to_files(published)
    algorithm.update(feed(algorithm, demonstrations))
    assert bundle.to_files(published) == before
    assert bundle.to_files(algorithm.policy()) != before


def test_a_published_policy_survives_its_bundle(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    published = learner(kind, demonstrations).policy()
    again = bundle.from_files(bundle.to_files(published))
    published.seed(1)
    again.seed(1)
    assert np.array_equal(published.act(SEEN, np.arange(2)), again.act(SEEN, np.arange(2)))


def test_it_goes_on_from_its_state_bit_for_bit(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    config = small(kind) | EARLY.get(kind.__name__, {})
    first = kind.create(SPACES, config, normalization=Normalization.measure(demonstrations))
    batches = list(itertools.islice(feed(first, demonstrations), 6))
    for batch in batches[:3]:
        first.update(iter([batch]))
    second = kind.create(SPACES, config, seed=9)
    second.load(safetensors.torch.load(safetensors.torch.save(first.state())))
    assert second.updates == first.updates
    for batch in batches[3:]:
        left, right = first.update(iter([batch])), second.update(iter([batch]))
        assert left.metrics == right.metrics
    assert bundle.to_files(first.policy()) == bundle.to_files(second.policy())


def test_the_same_seed_gives_the_same_policy(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    made = [bundle.to_files(learner(kind, demonstrations, seed).policy()) for seed in (1, 1, 2)]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_it_can_start_from_a_published_policy(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    published = learner(kind, demonstrations).policy()
    algorithm = kind.create(SPACES, small(kind), initial=published, seed=5)
    assert bundle.to_files(algorithm.policy()) == bundle.to_files(published)
    with pytest.raises(ValueError, match="spaces"):
        kind.create(SPACES.model_copy(update={"tasks": ("other",)}), {}, initial=published)


@pytest.mark.parametrize("wrong", [{"surprise": 1}, {"batch_size": 0}, {"learning_rate": "fast"}])
def test_a_parameter_it_does_not_have_is_refused(
    kind: type[Algorithm], wrong: dict[str, object]
) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        kind.create(SPACES, wrong)


def test_a_state_of_another_size_is_refused(
    kind: type[Algorithm], demonstrations: list[Episode]
) -> None:
    state = learner(kind, demonstrations).state()
    with pytest.raises(ValueError, match="wanted"):
        kind.create(SPACES, small(kind) | {"hidden": 8}).load(state)


def test_every_parameter_is_described(kind: type[Algorithm]) -> None:
    fields = kind.parameters.model_json_schema()["properties"]
    assert fields
    assert [name for name, field in fields.items() if not field.get("description")] == []


def test_an_algorithm_nobody_registered_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"there is no 'guess'; there are .*hg-dagger"):
        algorithms.find("guess")


def test_losses_are_averaged_by_task_and_side() -> None:
    zeros = np.zeros((4, 1), np.float32)
    batch = Batch(
        observation=zeros,
        action=zeros[:, None],
        valid=np.ones((4, 1), bool),
        task=np.array([0, 0, 1, 1]),
        side=np.array([0, 0, 1, 0]),
        source=np.zeros(4, np.int64),
        success=np.ones(4, bool),
        remaining=np.ones(4, np.int64),
        ahead=np.zeros((4, 0), np.int64),
        later=np.zeros((4, 0, 1), np.float32),
    )
    found = losses_by_pool(np.array([1.0, 3.0, 5.0, 7.0]), batch, 2)
    np.testing.assert_array_equal(found, [[2.0, np.nan], [7.0, 5.0]])
