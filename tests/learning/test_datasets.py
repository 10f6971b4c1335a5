"""Demonstrations in and out: ours, LeRobot's, and what is wrong with either.

`tests/foreign/dataset` was written by lerobot 0.4.4 itself, through `tests/foreign/write.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleet_runtime.datasets import program
from fleet_runtime.datasets.statistics import describe, merge
from fleet_runtime.experience import codec
from helpers.s3 import running_object_server
from learning.makers import episode, frames

if TYPE_CHECKING:
    from fleet_runtime.experience.types import Episode

FOREIGN = Path(__file__).parents[1] / "foreign" / "dataset"
FILMED = FOREIGN.with_name("filmed")
VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
STEPS = (4, 6, 5)  # as in tests/foreign/write.py


def save(folder: Path, *episodes: Episode) -> Path:
    folder.mkdir()
    for one in episodes:
        (folder / f"{one.id}.episode").write_bytes(codec.encode(one))
    return folder


def loaded(folder: Path) -> list[Episode]:
    return [codec.decode(path.read_bytes()) for path in sorted(folder.glob("*.episode"))]


def lived_through() -> list[Episode]:
    """Everything an episode may say, said by at least one of them."""
    rng = np.random.default_rng(0)
    wide: dict[str, Any] = {
        "observation": rng.normal(size=(8, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, (7, 2)).astype(np.float32),
        "policy_action": rng.uniform(-1, 1, (7, 2)).astype(np.float32),
        "reward": rng.normal(size=7).astype(np.float32),
        "observation_age": rng.uniform(0, 0.1, 7).astype(np.float32),
        "chunk_index": np.array([0, 1, -1, -1, -1, 0, 1], np.int32),
        "time": 1e6 + np.arange(7) / 20 + rng.uniform(0, 0.01, 7),
    }
    return [
        episode("plain", **wide, steps=7),
        episode("helped", **wide | frames("..hhs.."), outcome="failure", outcome_source="label"),
        episode("ended", **wide | frames("sssssss"), outcome="aborted", truncated=True),
        episode("späte Ü/1", **wide, steps=7, task="right", mode="eval", policy_sequence=41),
    ]


def run(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> Any:
    code = program.main([str(word) for word in words])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def refused(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert program.main([str(word) for word in words]) == 1
    return capsys.readouterr().err


def test_what_robots_lived_through_comes_back_from_lerobots_format_byte_for_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {one.id: codec.encode(one) for one in lived_through()}
    ours = tmp_path / "ours"
    ours.mkdir()
    for number, data in enumerate(made.values()):
        (ours / f"{number}.episode").write_bytes(data)
    told = run("export", ours, tmp_path / "lerobot", capsys=capsys)
    assert told == {"episodes": 4, "frames": 28, "fps": 20}
    run("import", tmp_path / "lerobot", tmp_path / "back", capsys=capsys)
    assert {one.id: codec.encode(one) for one in loaded(tmp_path / "back")} == made


def test_one_number_wide_arrays_come_back_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thin = episode("thin", observation=np.arange(7, dtype=np.float32)[:, None])
    run("export", save(tmp_path / "ours", thin), tmp_path / "lerobot", capsys=capsys)
    run("import", tmp_path / "lerobot", tmp_path / "back", capsys=capsys)
    (back,) = loaded(tmp_path / "back")
    assert codec.encode(back) == codec.encode(thin)


def test_a_dataset_written_by_lerobot_is_read_frame_by_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renamed = ("--task", "Pick up the cube.=pick")
    told = run("import", FOREIGN, tmp_path / "ours", *renamed, capsys=capsys)
    assert told == {"episodes": 3, "ignored": ["observation.effort"]}
    found = loaded(tmp_path / "ours")
    assert [one.task for one in found] == ["pick", "pick", "Push the cube."]
    for number, (one, steps) in enumerate(zip(found, STEPS, strict=True)):
        frame = np.arange(steps, dtype=np.float32)
        state = np.stack([np.full(steps, number), frame, frame / 10], axis=1).astype(np.float32)
        assert np.array_equal(one.observation[:-1], state)
        assert np.array_equal(one.observation[-1], state[-1])  # LeRobot has none after the last
        action = np.stack([frame / 10, np.full(steps, -number / 10)], axis=1)
        assert np.array_equal(one.action, action.astype(np.float32))
        assert np.array_equal(one.policy_action, one.action)
        assert one.reward.tolist() == [0.0] * (steps - 1) + [1.0]
        assert np.allclose(one.time, frame / 10)
        assert one.intervention.all()
        assert one.scheduled.all()
        assert (one.chunk_index == -1).all()
        assert (one.outcome, one.robot, one.mode) == ("success", "so101", "live")
        assert (one.terminated, one.truncated, one.duration_s) == (True, False, steps / 10)
        assert (one.policy_digest, one.policy_sequence) == ("", -1)


def test_camera_frames_come_back_from_lerobots_format_pixel_by_pixel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    seen = {
        "top": rng.integers(0, 256, (7, 12, 16, 3), np.uint8),
        "hand_2": rng.integers(0, 256, (7, 8, 8, 3), np.uint8),
    }
    made = codec.encode(episode("seen", images=seen), quality=None)
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "seen.episode").write_bytes(made)
    run("export", ours, tmp_path / "lerobot", capsys=capsys)
    run("import", tmp_path / "lerobot", tmp_path / "back", "--lossless", capsys=capsys)
    assert (tmp_path / "back" / "seen.episode").read_bytes() == made
    stats = json.loads((tmp_path / "lerobot" / "meta" / "stats.json").read_text())
    mean = np.array(stats["observation.images.top"]["mean"])
    assert np.allclose(mean, seen["top"][:6].mean(axis=(0, 1, 2)).reshape(3, 1, 1) / 255)
    report = run("inspect", tmp_path / "back", capsys=capsys)
    assert report["shapes"] == {"observation 2, action 1, hand_2 8x8, top 16x12": 1}


def test_cameras_of_a_dataset_written_by_lerobot_are_read_from_video_and_from_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("import", FILMED, tmp_path / "ours", "--lossless", capsys=capsys)
    found = loaded(tmp_path / "ours")
    for number, (one, steps) in enumerate(zip(found, STEPS, strict=True)):
        frame = np.minimum(np.arange(steps + 1), steps - 1)  # the last one is there twice
        colour = np.stack(
            [np.full(steps + 1, 40 + 60 * number), 30 * frame, np.full(steps + 1, 128)], axis=1
        )
        wanted = np.broadcast_to(colour[:, None, None], (steps + 1, 64, 64, 3))
        assert np.array_equal(one.images["hand"], wanted)
        assert np.abs(one.images["top"].astype(int) - wanted).max() < 12  # video loses a little
    run("import", FILMED, tmp_path / "blind", "--drop-images", capsys=capsys)
    assert all(one.images == {} for one in loaded(tmp_path / "blind"))


def test_flags_say_of_a_foreign_dataset_what_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--outcome", "timeout", "--by", "policy")
    run("import", FOREIGN, tmp_path / "ours", *words, capsys=capsys)
    first = loaded(tmp_path / "ours")[0]
    assert (first.outcome, first.terminated, first.truncated) == ("timeout", False, True)
    assert first.autonomous
    assert (first.chunk_index == 0).all()


def test_ids_do_not_depend_on_where_a_foreign_dataset_lies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(FOREIGN, tmp_path / "elsewhere" / "dataset")
    run("import", FOREIGN, tmp_path / "a", capsys=capsys)
    run("import", tmp_path / "elsewhere" / "dataset", tmp_path / "b", capsys=capsys)
    assert [one.id for one in loaded(tmp_path / "a")] == [one.id for one in loaded(tmp_path / "b")]


def test_statistics_of_parts_merge_into_those_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(steps, 3)) for steps in (2, 50, 7)]
    merged, whole = merge([describe(part) for part in parts]), describe(np.concatenate(parts))
    for name in ("min", "max", "mean", "std", "count"):
        assert np.allclose(merged[name], whole[name]), name
    assert np.allclose(whole["q50"], np.median(np.concatenate(parts), axis=0))


def test_an_export_carries_the_statistics_that_lerobot_trains_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = lived_through()
    run("export", save(tmp_path / "ours", *made[:3]), tmp_path / "lerobot", capsys=capsys)
    found = json.loads((tmp_path / "lerobot" / "meta" / "stats.json").read_text())
    action = np.concatenate([one.action for one in made[:3]])
    assert np.allclose(found["action"]["mean"], action.mean(axis=0), atol=1e-6)
    assert np.allclose(found["action"]["std"], action.std(axis=0), atol=1e-6)
    assert found["action"]["count"] == [21]


def test_an_object_store_is_as_good_as_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_object_server(tmp_path / "objects") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        run("import", FOREIGN, f"{server.url}/ours", capsys=capsys)
        run("export", f"{server.url}/ours", f"{server.url}/lerobot", capsys=capsys)
        report = run("inspect", f"{server.url}/lerobot", capsys=capsys)
    assert (report["kind"], report["episodes"], report["faults"]) == ("lerobot", 3, [])


Spoil = Callable[[Path], None]


def info(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "meta" / "info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def features(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "meta" / "info.json").read_text())["features"]
        kept = {name: one for name, one in (told | changes).items() if one}
        info(features=kept)(folder)

    return spoil


def column(name: str, change: Callable[[list[Any]], Sequence[Any]], path: str = DATA) -> Spoil:
    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / path)
        at, cells = table.schema.get_field_index(name), table.column(name).to_pylist()
        kind = pa.array([change(cells)[0]]).type if cells else None
        table = table.set_column(at, name, pa.array(change(cells), kind))
        pq.write_table(table, folder / path)

    return spoil


def frame(number: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda cells: [value if at == number else cell for at, cell in enumerate(cells)]


def cut(path: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / path).write_bytes((folder / path).read_bytes()[:-20])

    return spoil


def gone(path: str) -> Spoil:
    return lambda folder: (folder / path).unlink()


def outcome(word: str) -> Spoil:
    def spoil(folder: Path) -> None:
        table = pq.read_table(folder / EPISODES)
        words = pa.array([word] * table.num_rows)
        pq.write_table(table.append_column("fleet/outcome", words), folder / EPISODES)

    return spoil


FOREIGN_FAULTS: dict[str, tuple[Spoil, str]] = {
    "an older version": (
        info(codebase_version="v2.1"),
        "meta/info.json: codebase_version is 'v2.1', wanted v3.0",
    ),
    "no rate": (info(fps=0), "meta/info.json: fps: Input should be greater than 0"),
    "another rate than it says": (
        info(fps=30),
        "file-000.parquet: episode 0: timestamp advances by 0.1 s, meta/info.json says fps 30",
    ),
    "a path that leads out": (
        info(data_path="../../etc/{chunk_index}-{file_index}"),
        "meta/info.json names the file '../../etc/0-0'",
    ),
    "a path that is none": (
        info(data_path="data/{episode}"),
        "meta/info.json: data_path is 'data/{episode}', wanted the like of 'data/chunk-",
    ),
    "no state": (features(**{"observation.state": None}), "lack observation.state; there are"),
    "a state of words": (
        features(**{"observation.state": {"dtype": "string", "shape": [1]}}),
        "features.observation.state is string [1], wanted floats along one axis",
    ),
    "another shape than it says": (
        features(action={"dtype": "float32", "shape": [4]}),
        "file-000.parquet: action is [2], meta/info.json says [4]",
    ),
    "fewer episodes than it says": (info(total_episodes=9), "tells of 3 episodes, meta/info.json"),
    "no number in a frame": (
        column("observation.state", frame(5, [1.0, float("nan"), 2.0])),
        "episode 1: observation.state is [1.0, nan, 2.0] in frame 1, wanted finite numbers",
    ),
    "an empty cell": (
        column("next.reward", frame(3, None)),
        "file-000.parquet: next.reward has 1 empty cells, wanted none",
    ),
    "episodes shorter than it says": (
        column("episode_index", frame(0, 7)),
        "file-000.parquet: episode 0 has 3 frames, meta/episodes says 4",
    ),
    "a task nobody knows": (
        column("task_index", frame(0, 5)),
        "episode 0: task_index is [0, 5], wanted one of [0, 1]",
    ),
    "a column that is no number": (
        column("next.reward", lambda cells: ["much"] * len(cells)),
        "file-000.parquet: next.reward is not there as numbers",
    ),
    "a truncated data file": (cut(DATA), f"{DATA} is no whole Parquet file"),
    "a truncated table of episodes": (cut(EPISODES), f"{EPISODES} is no whole Parquet file"),
    "a truncated info": (cut("meta/info.json"), "meta/info.json is no JSON"),
    "no statistics": (gone("meta/stats.json"), "meta/stats.json is missing"),
    "no tasks": (gone("meta/tasks.parquet"), "meta/tasks.parquet is missing"),
    "no data": (gone(DATA), f"{DATA} is missing"),
    "no table of episodes": (gone(EPISODES), "meta/episodes tells of 0 episodes"),
    "an outcome that is none": (outcome("won"), "fleet/outcome: Input should be 'success'"),
}


FILM_FAULTS: dict[str, tuple[Spoil, str]] = {
    "no video": (gone(VIDEO), f"{VIDEO} is missing"),
    "a truncated video": (cut(VIDEO), f"{VIDEO}: episode 2 has 4 frames at 10 a second from "),
    "another video than it says": (
        column("videos/observation.images.top/from_timestamp", frame(2, 9.0), EPISODES),
        f"{VIDEO}: episode 2 has 0 frames at 10 a second from second 9 on, wanted 5",
    ),
    "an image that is none": (
        column("observation.images.hand", frame(1, {"bytes": b"GIF89a", "path": None})),
        "episode 0: observation.images.hand: frame 1 is neither PNG nor JPEG",
    ),
    "a truncated image": (
        column("observation.images.hand", frame(1, {"bytes": b"\x89PNG\r\n", "path": None})),
        "episode 0: observation.images.hand: frame 1 is no whole png image",
    ),
    "other sizes than it says": (
        features(
            **{"observation.images.hand": {"dtype": "image", "shape": [48, 64, 3], "names": None}}
        ),
        "observation.images.hand is [64, 64, 3], meta/info.json says [48, 64, 3]",
    ),
}
ALL_FAULTS = {name: (FOREIGN, *fault) for name, fault in FOREIGN_FAULTS.items()} | {
    name: (FILMED, *fault) for name, fault in FILM_FAULTS.items()
}


@pytest.mark.parametrize("fault", ALL_FAULTS)
def test_a_lerobot_dataset_is_refused_that_has(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """… and nothing of it is left behind."""
    source, spoil, words = ALL_FAULTS[fault]
    spoilt = shutil.copytree(source, tmp_path / "spoilt")
    spoil(spoilt)
    assert words in refused("import", spoilt, tmp_path / "ours", capsys=capsys)
    assert not list((tmp_path / "ours").rglob("*.episode"))


OUR_FAULTS: dict[str, tuple[Sequence[Episode], str]] = {
    "episodes of two shapes": (
        [episode("a"), episode("b", observation=np.zeros((7, 3), np.float32))],
        "b.episode: observation.state is [3], in file://",
    ),
    "episodes of two rates": (
        [episode("a"), episode("b", time=np.arange(6) / 20)],
        "b.episode: time advances at 20 steps a second, in file://",
    ),
    "a clock that stands still": (
        [episode("a", time=np.zeros(6))],
        "a.episode: time stands still, so its rate is unknown: give --fps",
    ),
}


@pytest.mark.parametrize("fault", OUR_FAULTS)
def test_a_folder_of_ours_is_not_exported_with(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episodes, words = OUR_FAULTS[fault]
    ours = save(tmp_path / "ours", *episodes)
    assert words in refused("export", ours, tmp_path / "out", capsys=capsys)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_rate_that_is_given_settles_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = save(tmp_path / "ours", *OUR_FAULTS["episodes of two rates"][0])
    told = run("export", ours, tmp_path / "out", "--fps", "50", capsys=capsys)
    assert told["fps"] == 50


def test_nothing_is_written_where_something_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = save(tmp_path / "ours", episode())
    assert "e.episode is there already" in refused("import", FOREIGN, ours, capsys=capsys)
    assert "is a LeRobotDataset already" in refused("export", FOREIGN, "x", capsys=capsys)
    assert "episode files already" in refused("import", ours, "x", capsys=capsys)
    assert "holds neither" in refused("inspect", tmp_path / "nowhere", capsys=capsys)


def test_an_inspection_counts_what_is_sound_and_names_every_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = save(tmp_path / "ours", *lived_through()[:3])
    (ours / "junk.episode").write_bytes(b"junk")
    shutil.copy(ours / "plain.episode", ours / "plain-again.episode")
    odd = episode("odd")
    (ours / "odd.episode").write_bytes(codec.encode(odd))
    report = run("inspect", ours, capsys=capsys)
    assert (report["episodes"], report["frames"]) == (4, 27)
    assert report["tasks"] == {"left": {"episodes": 4, "frames": 27}}
    assert report["outcomes"] == {"success": 2, "failure": 1, "aborted": 1}
    assert report["interventions"] == {"episodes": 2, "frames": 10}
    assert len(report["statistics"]["observation"]["mean"]) == 3
    junk, again, shapes = report["faults"]
    assert "junk.episode: Malformed: not an episode" in junk
    assert "plain.episode repeats episode plain of" in again
    assert "observation 3, action 2 in 3, observation 2, action 1 in 1" in shapes


def test_without_pyarrow_it_is_said_what_to_install() -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from fleet_runtime.datasets.program import main\n"
        f"sys.exit(main(['inspect', {str(FOREIGN)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pyarrow is not installed here: install fleetloop[datasets]" in done.stderr
