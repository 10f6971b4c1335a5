"""What Argo CD shows of our objects and what its buttons write, by the Lua that we ship."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from fleet_cli.local import binaries
from fleet_contract.names import GROUP, PLURALS, Kind, Label
from fleet_operator.decide import requests
from gitops.states import JOBS, MANUAL, STATES, TRIAL, Shown, rolling
from helpers.gitops import ARGOCD, Object, lua

HEALTH = {"Healthy", "Progressing", "Degraded", "Suspended"}


@pytest.fixture(scope="module")
def customizations() -> dict[str, str]:
    """What argocd-cm gets, as kustomize renders it."""
    kubectl = binaries.resolve("kubectl")["kubectl"]
    shown = subprocess.check_output([kubectl, "kustomize", ARGOCD / "customizations"], text=True)
    found: dict[str, str] = yaml.safe_load(shown)["data"]
    return found


@pytest.fixture(scope="module")
def actions(customizations: dict[str, str]) -> Object:
    key = f"resource.customizations.actions.{GROUP}_{Kind.TRAINING_JOB}"
    found: Object = yaml.safe_load(customizations[key])
    return found


def enabled(actions: Object, item: Object) -> set[str]:
    found = lua(actions["discovery.lua"], item)
    assert found.keys() == {one["name"] for one in actions["definitions"]}
    return {name for name, button in found.items() if not button["disabled"]}


def press(actions: Object, verb: str, item: Object) -> Object:
    """The object as the button leaves it."""
    script = next(one["action.lua"] for one in actions["definitions"] if one["name"] == verb)
    found: Object = lua(script, item)
    return found


def test_there_is_a_script_for_each_kind(customizations: dict[str, str]) -> None:
    for kind in PLURALS:
        assert f"resource.customizations.health.{GROUP}_{kind}" in customizations


@pytest.mark.parametrize("shown", STATES.values(), ids=STATES.keys())
def test_the_health_of(customizations: dict[str, str], shown: Shown) -> None:
    key = f"resource.customizations.health.{GROUP}_{shown.item['kind']}"
    health = lua(customizations[key], shown.item)
    assert health["status"] == shown.health
    assert health["status"] in HEALTH
    assert shown.words in health["message"]
    assert health["message"]


def test_there_is_a_button_for_each_verb(actions: Object) -> None:
    assert {one["name"] for one in actions["definitions"]} == set(requests.Verb)


RUNNING = rolling(TRIAL)
WAITING = rolling(MANUAL)
BACK = rolling(TRIAL, "abort@2#1")
BUTTONS: dict[str, tuple[Object, set[str]]] = {
    "before the operator saw the job": (JOBS["fresh"].item, {"pause"}),
    "while nothing is tried": (JOBS["at work"].item, {"pause"}),
    "while a version waits for a person": (WAITING, {"promote", "abort", "pause"}),
    "while a version waits for approval": (
        rolling({**MANUAL, "approval": "Always"}),
        {"promote", "approve", "abort", "pause"},
    ),
    "while a version is on trial": (RUNNING, {"abort", "skip", "pause"}),
    "after a version was taken back": (BACK, {"retry", "pause"}),
}


@pytest.mark.parametrize("case", BUTTONS.values(), ids=BUTTONS.keys())
def test_which_buttons_can_be_pressed(actions: Object, case: tuple[Object, set[str]]) -> None:
    item, verbs = case
    assert enabled(actions, item) == verbs


def _without_request(item: Object) -> Any:
    """The object but for the request, and for what Lua cannot tell apart: {} and []."""
    copy = json.loads(json.dumps(item))
    annotations = copy["metadata"].get("annotations", {})
    annotations.pop(Label.REQUEST, None)
    copy["metadata"]["annotations"] = annotations
    return json.loads(json.dumps(copy).replace("{}", "[]"))


@pytest.mark.parametrize(
    ("verb", "item", "sequence"),
    [
        ("promote", WAITING, 2),
        ("approve", WAITING, 2),
        ("abort", RUNNING, 2),
        ("skip", RUNNING, 2),
        ("pause", RUNNING, 2),
        ("resume", RUNNING, 2),
        ("retry", BACK, 2),
        ("rollback", RUNNING, 1),
    ],
)
def test_a_button_writes_its_request_and_nothing_else(
    actions: Object, verb: str, item: Object, sequence: int
) -> None:
    pressed = press(actions, verb, item)
    written = requests.parse(pressed["metadata"]["annotations"][Label.REQUEST])
    assert written == requests.Request(requests.Verb(verb), sequence, "1007")
    assert _without_request(pressed) == _without_request(item)
    noted = item | {"metadata": item["metadata"] | {"annotations": {"team": "arms"}}}
    assert press(actions, verb, noted)["metadata"]["annotations"]["team"] == "arms"
