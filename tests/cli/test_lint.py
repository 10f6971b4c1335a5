"""`fleet lint`: each fault by its line, with what is allowed instead."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet_cli.lint import faults
from fleet_cli.main import app

ROOT = Path(__file__).parents[2]
HEAD = "apiVersion: fleetloop.dev/v1alpha1\nkind: FleetTrainingJob\n"
JOB = f"{HEAD}metadata: {{name: job}}\nspec:\n  tasks: [{{name: reach}}]\n"  # five lines

FAULTS: dict[str, tuple[str, list[str]]] = {
    "a misspelled field": (
        f"{JOB}  rolout: {{}}\n",
        ["6: spec.rolout: no such field; did you mean rollout?"],
    ),
    "a field in Python's spelling": (
        f"{JOB}  rollout:\n    steps:\n    - robots: 1\n      min_episodes: 3\n",
        ["9: spec.rollout.steps.0.min_episodes: no such field; did you mean minEpisodes?"],
    ),
    "a field like no other": (
        f"{JOB}  publish: {{xyz: 1}}\n",
        ["6: spec.publish.xyz: no such field; there are everySteps, minInterval"],
    ),
    "a word that is none of the allowed": (
        f"{JOB}  rollout: {{mode: Maybe}}\n",
        ["6: spec.rollout.mode: Input should be 'Auto', 'Manual' or 'Pinned'; found \"Maybe\""],
    ),
    "a number in quotes": (
        f'{JOB}  history: {{versions: "3"}}\n',
        ['6: spec.history.versions: Input should be a valid integer; found "3"'],
    ),
    "an amount in nobody's unit, told once": (
        f"{JOB}  learner:\n    resources:\n      limits: {{memory: 1 gig}}\n",
        ["8: spec.learner.resources.limits.memory: String should match pattern"],
    ),
    "a required field that is not there, at the line of what lacks it": (
        f"{HEAD}metadata: {{name: job}}\nspec:\n  suspend: true\n",
        ["4: spec.tasks: missing; it has no default"],
    ),
    "a name with a dot": (
        JOB.replace("name: job", "name: a.b"),
        ["3: metadata.name: 'a.b' is no DNS label"],
    ),
    "a name too long": (
        JOB.replace("name: job", f"name: {'a' * 31}"),
        ["3: metadata.name: 31 characters; a FleetTrainingJob has at most 30"],
    ),
    "no name at all": (f"{HEAD}spec: {{tasks: [{{name: x}}]}}\n", ["1: metadata.name: missing"]),
    "a field beside spec that belongs below it": (
        f"{JOB}tasks: []\n",
        ["6: tasks: no such field; did you mean to put it below spec?"],
    ),
    "a kind of ours that is none": (
        "apiVersion: fleetloop.dev/v1alpha1\nkind: Fleet\n",
        ["2: kind: unknown kind 'Fleet'; there are FleetTrainingJob, RobotActor, PolicyVersion"],
    ),
    "a version of tomorrow": (
        "apiVersion: fleetloop.dev/v9\nkind: RobotActor\n",
        ["1: apiVersion: unknown version 'v9'; write fleetloop.dev/v1alpha1"],
    ),
    "the second document of a stream": (
        f"{JOB}---\n{JOB}  rolout: {{}}\n",
        ["12: spec.rolout: no such field; did you mean rollout?"],
    ),
    "two faults, both told": (
        f"{JOB}  goal: {{successRate: 2}}\n  suspend: maybe\n",
        ["6: spec.goal.successRate: Input should be less", "7: spec.suspend: Input should be"],
    ),
    "what is no YAML": ("a: [1\nb: 2", ["2: document: this is no YAML: "]),
    "a spec that is a list": (f"{HEAD}metadata: {{name: job}}\nspec: []\n", ["4: spec: Input"]),
}


@pytest.mark.parametrize("sentence", FAULTS)
def test_lint_tells_of(sentence: str) -> None:
    text, expected = FAULTS[sentence]
    found = [str(fault) for fault in faults(text)]
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    "text",
    ["", "---\n", JOB, "kind: ConfigMap\napiVersion: v1\ndata: {anything: goes}\n", "- a list\n"],
    ids=["nothing", "an empty document", "a good job", "a kind of others", "no object"],
)
def test_lint_lets_through(text: str) -> None:
    assert list(faults(text)) == []


def test_lint_takes_many_files_and_fails_if_one_is_bad(tmp_path: Path) -> None:
    good = sorted(str(path) for path in (ROOT / "manifests" / "samples").glob("*.yaml"))
    assert CliRunner().invoke(app, ["lint", *good]).exit_code == 0
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"{JOB}  rolout: {{}}\n")
    result = CliRunner().invoke(app, ["lint", *good, str(bad)])
    assert result.exit_code == 1
    assert result.output.strip() == f"{bad}:6: spec.rolout: no such field; did you mean rollout?"


def test_lint_reads_standard_input() -> None:
    assert CliRunner().invoke(app, ["lint", "-"], input=JOB).exit_code == 0


def test_lint_says_which_file_is_missing() -> None:
    result = CliRunner().invoke(app, ["lint", "nowhere.yaml"])
    assert result.exit_code == 1
    assert "nowhere.yaml" in result.output
