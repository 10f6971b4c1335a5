"""From a version to its episodes and back, on a real journal; the ring does it at work."""

import json
from pathlib import Path

import pytest

from fleet_contract.errors import Reject, RejectCode
from fleet_contract.messages import EpisodeMode, Lineage, Record, digest_of
from fleet_runtime.artifacts import Missing, Store
from fleet_runtime.learner import epoch, retention
from fleet_runtime.learner.journal import Entry, Journal
from fleet_runtime.learner.publish import Versions
from fleet_runtime.lineage import main, of_episode, of_version
from fleet_runtime.metrics import LearnerMetrics
from helpers.learner import JOB, JOB_UID, NAMESPACE, entry, episode, parts
from learning.test_learner_publish import snapshot

MANIFEST = digest_of(b"the manifest that acted")


def acted(n: int, version: int, **over: object) -> Entry:
    told, payload = entry(n)
    told = told.model_copy(update={"sequence": version, "manifest": MANIFEST, **over})
    return Entry(told, payload)


def versions(store: Store, *throughs: int) -> None:
    """A version after so many segments, each."""
    learner = Versions(store, JOB_UID, 1, 20.0)
    for step, through in enumerate(throughs, 1):
        made = snapshot(step)
        lineage = Lineage(first=0, through=through, episodes=through + 1)
        learner.publish(type(made)(made.policy, step, {}, lineage))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four segments: episodes 1 and 2; 3, refused; 2 once more, and 4 that was an evaluation; 5."""
    made = Store(f"file://{tmp_path}")
    epoch.claim(made, JOB_UID, "test")
    journal = Journal(made, JOB_UID, 1)
    refusal = Reject(RejectCode.SHAPE, "a third finger")
    refused: Record = acted(3, 2).record
    journal.append([acted(1, 1), acted(2, 1)])
    journal.append([Entry(refused, refusal=refusal)])
    journal.append([acted(2, 1), acted(4, 2, mode=EpisodeMode.EVAL)])
    journal.append([acted(5, 2)])
    versions(made, 0, 2, 3)
    return made


def ids(store: Store, version: int) -> list[str]:
    return [one["id"] for one in of_version(store, JOB_UID, version)["episodes"]]


def test_a_version_has_the_episodes_that_trained_up_to_its_snapshot_each_once(
    store: Store,
) -> None:
    assert ids(store, 1) == ["ada-1", "ada-2"]
    assert ids(store, 2) == ["ada-1", "ada-2"]
    assert ids(store, 3) == ["ada-1", "ada-2", "ada-5"]
    last = of_version(store, JOB_UID, 3)["episodes"][-1]
    assert (last["version"], last["manifest"], last["segment"]) == (2, MANIFEST, 3)


def test_an_episode_has_the_version_that_acted_and_those_that_learned_from_it(
    store: Store,
) -> None:
    found = of_episode(store, JOB_UID, "ada-2")
    assert (found["robot"], found["number"], found["segment"]) == ("ada", 2, 0)
    assert (found["version"], found["manifest"]) == (1, MANIFEST)
    assert found["learned"] == [1, 2, 3]
    assert of_episode(store, JOB_UID, "ada-5")["learned"] == [3]
    assert of_episode(store, JOB_UID, "ada-4")["learned"] == []
    refused = of_episode(store, JOB_UID, "ada-3")
    assert "a third finger" in refused["refused"]
    assert refused["learned"] == []


def test_an_episode_in_parts_is_behind_versions_from_its_first_part_on(tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}")
    epoch.claim(store, JOB_UID, "test")
    journal = Journal(store, JOB_UID, 1)
    for part in parts(episode("long"), 8, 12):
        journal.append([Entry(*part)])
    journal.append([acted(5, 2)])
    versions(store, 1, 2, 3)
    behind = [of_version(store, JOB_UID, version)["episodes"] for version in (1, 2, 3)]
    assert [[(one["id"], one["outcome"]) for one in told] for told in behind] == [
        [("long", "")],
        [("long", "success")],
        [("long", "success"), ("ada-5", "success")],
    ]
    found = of_episode(store, JOB_UID, "long")
    assert (found["outcome"], found["number"], found["learned"]) == ("success", 3, [1, 2, 3])


def test_what_has_left_the_journal_is_counted_and_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LEAST", 1)
    monkeypatch.setattr(retention, "decided", lambda first, oldest: oldest)
    keeper = retention.Retention(
        store, JOB_UID, 1, retention.Base(), LearnerMetrics(NAMESPACE, JOB)
    )
    from fleet_runtime.learner.library import Library

    keeper.collect(1, Library(Journal(store, JOB_UID, 1)))
    found = of_version(store, JOB_UID, 3)
    assert ([one["id"] for one in found["episodes"]], found["forgotten"]) == (["ada-5"], 2)
    with pytest.raises(Missing, match="the journal begins at segment 1"):
        of_episode(store, JOB_UID, "ada-1")


def test_the_program_answers_in_json_or_with_a_sentence(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--storage", store.url, "--job-uid", JOB_UID]
    assert main([*where, "--version", "3"]) == 0
    assert len(json.loads(capsys.readouterr().out)["episodes"]) == 3
    assert main([*where, "--version", "9"]) == 1
    assert "versions/000000000009.json is not in" in capsys.readouterr().err
    assert main([*where, "--episode", "nobody"]) == 1
    assert "names nobody" in capsys.readouterr().err
