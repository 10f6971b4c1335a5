"""`fleet lint`: each fault by its line, with what is allowed instead."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from contract.test_apiserver_refuses import REFUSED
from fleet_cli.lint import faults
from fleet_cli.main import app
from fleet_cli.rules import HOLDS
from fleet_contract.resources import KINDS
from fleet_contract.schema import described

ROOT = Path(__file__).parents[2]
HEAD = "apiVersion: fleetloop.dev/v1alpha1\nkind: FleetTrainingJob\n"
JOB = f"{HEAD}metadata: {{name: job}}\nspec:\n  tasks: [{{name: reach}}]\n"  # five lines
GATE = f"{JOB}  rollout:\n    gates:\n      simulation:\n"  # eight lines

SIMULATED = (
    f"{HEAD}metadata: {{name: job}}\nspec:\n  robots:\n    simulated: {{replicas: 1}}\n"
    "  tasks:\n  - name: reach\n"
)  # eight lines
NIGHTLY = "schedule: 0 22 * * *, duration: 6h"
TWO_FAMILIES = """\
    environment: {name: ogbench, task: scene-task1}
  - name: cube
    environment: {name: ogbench, task: cube-single-task1}
"""
ROBOT = (
    "apiVersion: fleetloop.dev/v1alpha1\nkind: RobotActor\n"
    "metadata: {name: arm}\nspec: {job: job}\n"
)

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
    "no name at all": (
        f"{HEAD}spec: {{tasks: [{{name: reach}}]}}\n",
        ["1: metadata.name: missing"],
    ),
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
    "two tasks of one name, both told": (
        JOB.replace("{name: reach}", "{name: reach}, {name: reach}"),
        [
            "5: spec.tasks.0.name: 'reach' is the name of two tasks; rename one",
            "5: spec.tasks.1.name: 'reach' is the name of two tasks; rename one",
        ],
    ),
    "a negative weight": (
        JOB.replace("{name: reach}", "{name: reach, weight: -1}"),
        ["5: spec.tasks.0.weight: Input should be greater than or equal to 0; found -1"],
    ),
    "tasks that all weigh nothing": (
        JOB.replace("{name: reach}", "{name: reach, weight: 0}"),
        ["4: spec: at least one task needs a weight above 0"],
    ),
    "a rule of CEL's": (
        f"{JOB}  rollout:\n    steps:\n    - {{robots: 1, percent: 50}}\n",
        ["8: spec.rollout.steps.0: a step takes exactly one of robots and percent"],
    ),
    "an algorithm that is not installed": (
        f"{JOB}  algorithm:\n    name: hg-daggr\n",
        ["7: spec.algorithm.name: there is no 'hg-daggr'; did you mean hg-dagger?"],
    ),
    "an architecture that is not installed": (
        f"{JOB}  policy:\n    architecture: flwo\n",
        ["7: spec.policy.architecture: there is no 'flwo'; did you mean flow?"],
    ),
    "an algorithm that cannot train the policy": (
        f"{JOB}  algorithm: {{name: recap}}\n  policy:\n    architecture: lerobot\n",
        ["8: spec.policy.architecture: recap trains flow; bc and hg-dagger any"],
    ),
    "a size that only another network has": (
        f"{JOB}  policy:\n    architecture: lerobot\n    parameters: {{hidden: 8}}\n",
        ["8: spec.policy.parameters.hidden: there is no 'hidden'; "],
    ),
    "a parameter that the algorithm does not know": (
        f"{JOB}  algorithm:\n    parameters:\n      learningRat: 0.1\n",
        [
            "8: spec.algorithm.parameters.learningRat: there is no 'learningRat'; did you mean",
        ],
    ),
    "a parameter of the wrong type": (
        f"{JOB}  algorithm:\n    parameters:\n      horizon: long\n",
        ["8: spec.algorithm.parameters.horizon: Input should be a valid integer"],
    ),
    "a parameter of the network": (
        f"{JOB}  policy:\n    parameters:\n      hidden: -1\n",
        ["8: spec.policy.parameters.hidden: Input should be greater than or equal to 1; found -1"],
    ),
    "a gate's environment that is not installed": (
        f"{GATE}        environment: {{name: metawrld}}\n",
        ["9: spec.rollout.gates.simulation.environment.name: there is no 'metawrld'; did you mean"],
    ),
    "a gate's environment that does not take its parameters": (
        f"{GATE}        environment: {{name: metaworld, parameters: {{gravity: 2}}}}\n",
        ["9: spec.rollout.gates.simulation.environment: MetaWorld.__init__() got an unexpected"],
    ),
    "a gate's task that the job does not have": (
        f"{GATE}        tasks: [push]\n",
        ["9: spec.rollout.gates.simulation.tasks: each must be the name of one of the job's tasks"],
    ),
    "a gate's task that stands there twice": (
        f"{GATE}        tasks: [reach, reach]\n",
        ["9: spec.rollout.gates.simulation.tasks.1: 'reach' stands here twice"],
    ),
    "a gate of no episodes": (
        f"{GATE}        episodes: 0\n",
        ["9: spec.rollout.gates.simulation.episodes: Input should be greater than or equal to 1"],
    ),
    "a gate in a world that no robot of the job lives in": (
        JOB.replace("{name: reach}", "{name: reach, environment: {name: metawrld}}").replace(
            "spec:", "spec:\n  rollout: {gates: {simulation: {}}}"
        ),
        ["6: spec.tasks.0.environment.name: there is no 'metawrld'; did you mean metaworld?"],
    ),
    "an environment that is not installed": (
        f"{SIMULATED}    environment:\n      name: metawrld\n",
        ["10: spec.tasks.0.environment.name: there is no 'metawrld'; did you mean metaworld?"],
    ),
    "a task that the environment does not know": (
        f"{SIMULATED}    environment:\n      task: pusch\n",
        [
            "10: spec.tasks.0.environment.task: among Meta-World's tasks there is no 'pusch'; did",
        ],
    ),
    "tasks in different worlds": (
        f"{SIMULATED}  - name: fold\n    environment: {{name: laundry}}\n",
        [
            "7: spec.tasks: tasks name the environments laundry, metaworld: one robot lives in one",
            "10: spec.tasks.1.environment.name: there is no 'laundry'; there are metaworld",
        ],
    ),
    "an arm's task that OGBench does not have": (
        f"{SIMULATED}    environment: {{name: ogbench, task: cube-singl-task1}}\n",
        ["9: spec.tasks.0.environment.task: among OGBench's tasks there is no 'cube-singl-task1'"],
    ),
    "tasks that no one robot does": (
        f"{SIMULATED}{TWO_FAMILIES}",
        ["7: spec.tasks: the families ['cube-single', 'scene'] show a robot different things"],
    ),
    "a window that never opens": (
        JOB + "  rollout:\n    windows:\n    - {schedule: 0 25 * * *, duration: 6h}\n",
        ["8: spec.rollout.windows.0: ('0 25 * * *' in 'UTC') never opens: Bad hour; correct it"],
    ),
    "a window on a day that no year has": (
        f"{JOB}  rollout:\n    windows: [{{schedule: 0 0 30 2 *, duration: 6h}}]\n",
        ["7: spec.rollout.windows.0: ('0 0 30 2 *' in 'UTC') never opens: Bad day-of-month; "],
    ),
    "a window in a time zone that is none": (
        f"{JOB}  rollout:\n    windows: [{{{NIGHTLY}, timeZone: Europe/Berlim}}]\n",
        ["7: spec.rollout.windows.0: ('0 22 * * *' in 'Europe/Berlim') never opens: "],
    ),
    "a window of no duration": (
        f"{JOB}  rollout:\n    windows: [{{schedule: 0 22 * * *, duration: long}}]\n",
        ["7: spec.rollout.windows.0.duration: String should match pattern"],
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


def test_a_hint_is_told_and_fails_nothing(tmp_path: Path) -> None:
    folder = f"file://{tmp_path}"
    hints = {
        ROBOT: "4: hint: spec.job: no FleetTrainingJob 'job' in these files",
        f"{JOB}  offline: {{datasets: [{{uri: {folder}/no}}]}}\n": f"is no folder {tmp_path}/no",
        JOB.replace("reach", "fold"): "hint: spec.tasks.0.name: among Meta-World's tasks there is",
    }
    for text, said in hints.items():
        result = CliRunner().invoke(app, ["lint", "-"], input=text)
        assert result.exit_code == 0, result.output
        assert said in result.output
    assert list(faults(f"{JOB}  offline: {{datasets: [{{uri: {folder}}}]}}\n")) == []


def test_a_robot_may_name_a_job_of_the_same_stream_or_of_another_file() -> None:
    assert list(faults(f"{JOB}---\n{ROBOT}")) == []
    assert list(faults(ROBOT, {"job"})) == []


def test_every_rule_of_the_kinds_that_needs_no_cluster_has_its_counterpart() -> None:
    def texts(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from (one["rule"] for one in schema.get("x-kubernetes-validations", []))
        for part in schema.values() if isinstance(schema, dict) else schema:
            if isinstance(part, dict | list):
                yield from texts(part)

    found = {rule for kind in KINDS for rule in texts(described(kind.kind_name)["properties"])}
    assert {rule for rule in found if "oldSelf" not in rule and "self.all(" not in rule} == set(
        HOLDS
    )


@pytest.mark.parametrize("sentence", REFUSED)
def test_lint_refuses_what_the_apiserver_refuses(sentence: str) -> None:
    item, _ = REFUSED[sentence]
    assert [fault for fault in faults(yaml.safe_dump(item)) if not fault.hint]


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


def test_programs_are_told_faults_as_json(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"{JOB}  rolout: {{}}\n")
    result = CliRunner().invoke(app, ["lint", str(file), "--output", "json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"]) == (1, False)
    assert told["items"] == [
        {
            "file": str(file),
            "line": 6,
            "where": "spec.rolout",
            "what": "no such field; did you mean rollout?",
            "hint": False,
        }
    ]


DATED = f"{JOB}  2026-01-01: x\n"
NOT_READ = {
    "a date that is none, of another kind": ("when: 2026-13-45\n", ""),
    "a date for a field's name": (DATED, "spec.2026-01-01: no such field"),
    "a document that contains itself": ("spec: &a {tasks: *a}\n", "this is no YAML: Circular"),
    "a document without a bottom": ("[" * 5000, "this is no YAML"),
}


@pytest.mark.parametrize(("stream", "words"), NOT_READ.values(), ids=NOT_READ)
def test_odd_yaml_is_a_fault_at_most(stream: str, words: str) -> None:
    found = [str(one) for one in faults(stream) if not one.hint]
    assert any(words in one for one in found) if words else not found


def test_programs_are_told_how_many_robots_send(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(f"{JOB}  robots: {{simulated: {{replicas: 3}}}}\n")
    result = CliRunner().invoke(app, ["lint", str(file), "--output", "json"])
    (told,) = json.loads(result.stdout)["robots"]
    assert told["robots"] == 3
