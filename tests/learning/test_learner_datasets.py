"""What a learner takes of its datasets, what it refuses, and in which words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fleet_contract import names
from fleet_contract.errors import Misconfigured
from fleet_contract.names import Env
from fleet_contract.resources.learning import Task
from fleet_runtime.datasets import program
from fleet_runtime.datasets.items import Absent
from fleet_runtime.experience import codec
from fleet_runtime.learner.offline import demonstrations
from helpers.learner import JOB, NAMESPACE, LearnerProcess, learner_process, listening, spec
from helpers.nats import Broker, make_streams, running_broker
from learning.makers import SPACES, episode

if TYPE_CHECKING:
    from fleet_runtime.experience.spaces import Spaces

FOREIGN = Path(__file__).parents[1] / "foreign" / "dataset"
ANNOUNCE = names.announce_subject(NAMESPACE, JOB)
EXIT_REFUSED = 78
LEFT_RIGHT = [Task(name="left"), Task(name="right")]
CUBE = [Task(name="pick", instruction="Pick up the cube."), Task(name="place")]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running_broker(tmp_path / "nats") as running:
        yield running


def put(folder: Path, name: str, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.episode").write_bytes(codec.encode(episode(name, **changes)))
    return folder


def read(*folders: Path, tasks: list[Task] = LEFT_RIGHT, spaces: Spaces | None = None) -> list[str]:
    urls = [f"file://{folder}" for folder in folders]
    return [found.id for found in demonstrations(urls, tasks, spaces)]


WIDE = np.zeros((7, 3), np.float32)
Make = Callable[[Path], list[Path]]


def junk(folder: Path) -> list[Path]:
    (put(folder, "a") / "junk.episode").write_bytes(b"FLEP\x01 not at all")
    return [folder]


def not_finite(folder: Path) -> list[Path]:
    sound = codec.encode(episode("b"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fleet_runtime.experience.types.Episode.validate", lambda self, **_: self)
        wrong = np.full((7, 2), np.nan, np.float32)
        sound = codec.encode(episode("b", observation=wrong))
    (put(folder, "a") / "b.episode").write_bytes(sound)
    return [folder]


def two_rates(folder: Path) -> list[Path]:
    slow = shutil.copytree(FOREIGN, folder)
    put(folder.with_name("ours"), "a")
    source, target = str(folder.with_name("ours")), str(folder.with_name("fast"))
    assert program.main(["export", source, target, "--fps", "50"]) == 0
    return [slow, Path(target)]


FAULTS: dict[str, tuple[Make, str]] = {
    "an episode of another shape than its neighbours": (
        lambda folder: [put(folder, "a"), put(folder.with_name("more"), "b", observation=WIDE)],
        (
            "spec.offline.datasets.1.uri: file://{}/more/b.episode: observation is [3], "
            "spec.offline.datasets.0.uri: file://{}/demos/a.episode has [2]: a job is for one"
        ),
    ),
    "bytes that are no episode": (
        junk,
        "spec.offline.datasets.0.uri: file://{}/demos/junk.episode: Malformed: ",
    ),
    "a number that is not finite": (
        not_finite,
        "file://{}/demos/b.episode: NonFinite: observation holds a number that is not finite",
    ),
    "tasks nobody asked for": (
        lambda folder: [put(folder, "a", task="lift")],
        (
            "file://{}/demos: none of its episodes is of a task of this job; name the task in "
            "spec.tasks, or give its words as spec.tasks[].instruction: there is no 'lift'; did "
            "you mean left?"
        ),
    ),
    "two rates": (
        two_rates,
        (
            "spec.offline.datasets.1.uri: file://{}/fast has 50 frames a second, file://{}/demos "
            "has 10: a policy acts at one rate"
        ),
    ),
    "cameras that only some of them have": (
        lambda folder: [
            put(folder, "a", images={"top": np.zeros((7, 8, 8, 3), np.uint8)}),
            put(folder.with_name("more"), "b"),
        ],
        (
            "spec.offline.datasets.1.uri: file://{}/more/b.episode: camera 'top' is missing, "
            "spec.offline.datasets.0.uri: file://{}/demos/a.episode has [8, 8, 3]"
        ),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_datasets_are_refused_that_hold(fault: str, tmp_path: Path) -> None:
    make, words = FAULTS[fault]
    folders = make(tmp_path / "demos")
    with pytest.raises(Misconfigured) as raised:
        read(*folders)
    assert words.replace("{}", str(tmp_path)) in str(raised.value)


def test_what_the_job_says_of_its_robot_counts_before_the_first_episode(tmp_path: Path) -> None:
    demos = put(tmp_path / "demos", "a", observation=WIDE)
    assert read(demos) == ["a"]
    with pytest.raises(Misconfigured, match=r"observation is \[3\], the job's policy has \[2\]"):
        read(demos, spaces=SPACES)


@pytest.mark.parametrize("missing", ["meta/stats.json", "data/chunk-000/file-000.parquet"])
def test_a_copy_that_is_not_whole_is_waited_for(missing: str, tmp_path: Path) -> None:
    part = shutil.copytree(FOREIGN, tmp_path / "part")
    (part / missing).unlink()
    with pytest.raises(Absent, match=f"{missing} is missing") as raised:
        read(part, tasks=CUBE)
    assert not isinstance(raised.value, Misconfigured)


def test_a_folder_with_nothing_in_it_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(Absent, match="holds neither a file that ends in"):
        read(put(tmp_path / "demos", "a"), tmp_path / "nowhere")


def test_other_tasks_and_repeated_episodes_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    demos = put(tmp_path / "demos", "a")
    put(demos, "b", task="juggle")
    again = put(tmp_path / "again", "a")
    put(again, "c")
    assert read(demos, again) == ["a", "c"]
    assert "demos: left out, of other tasks: {'juggle': 1}" in caplog.text
    assert "again: left out, read before: 1" in caplog.text
    assert "no demonstration of right: robots alone will show them" in caplog.text


def test_a_task_may_be_called_by_its_instruction(tmp_path: Path) -> None:
    assert len(read(FOREIGN, tasks=CUBE)) == 2
    ours = put(tmp_path / "demos", "a", task="Pick up the cube.")
    found = list(demonstrations([f"file://{ours}"], CUBE))
    assert [one.episode.task for one in found if one.episode] == ["pick"]
    assert [one.item.load().task for one in found] == ["pick"]


async def test_a_learner_imitates_a_lerobot_dataset_as_it_lies(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    small = spec([f"file://{FOREIGN}"], steps=5) | {
        "tasks": [{"name": "pick", "instruction": "Pick up the cube."}]
    }
    async with listening(broker.url, ANNOUNCE) as (_, (versions,)):
        with learner_process(tmp_path, broker.url, small) as learner:
            await versions.more(0)
    assert "dataset (lerobot): 3 episodes" in learner.log
    assert "left out, of other tasks: {'Push the cube.': 1}" in learner.log


async def test_nothing_is_published_from_datasets_half_of_which_is_sound(
    broker: Broker, tmp_path: Path
) -> None:
    await make_streams(broker.url)
    demos = put(tmp_path / "demos", "a", task="push")
    junk(demos)
    words = tmp_path / "last-words"
    learner = LearnerProcess(tmp_path, broker.url, spec([f"file://{demos}"], steps=5))
    learner.environment[Env.LAST_WORDS] = str(words)
    async with listening(broker.url, ANNOUNCE) as (_, (versions,)):
        learner.start()
        assert await learner.exit() == EXIT_REFUSED
        assert versions.heard == []
    assert "demos/junk.episode: Malformed" in words.read_text()


async def test_demonstrations_that_teach_nothing_are_refused(
    broker: Broker, tmp_path: Path
) -> None:
    demos = put(tmp_path / "demos", "a", task="push", outcome="failure")
    with learner_process(tmp_path, broker.url, spec([f"file://{demos}"])) as learner:
        assert await learner.exit() == EXIT_REFUSED
    assert "nothing can be learned from 1 demonstrations (outcomes {'failure': 1})" in learner.log
    assert "the algorithm takes human, policy-alone-success" in learner.log
