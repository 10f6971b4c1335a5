"""What Argo CD shows of our objects and what its buttons write, by the Lua that we ship."""

import json
from typing import Any

import pytest

from fleet_contract.names import Label, Verb
from fleet_contract.resources import GatePhase
from fleet_operator.decide import requests
from gitops.states import JOBS, MANUAL, STATES, TRIAL, Shown, gate, rolling
from helpers.gitops import Object, argocd_actions, argocd_health, argocd_press, lua

HEALTH = {"Healthy", "Progressing", "Degraded", "Suspended"}


def enabled(item: Object) -> set[str]:
    actions = argocd_actions()
    found = lua(actions["discovery.lua"], item)
    assert found.keys() == {one["name"] for one in actions["definitions"]}
    return {name for name, button in found.items() if not button["disabled"]}


@pytest.mark.parametrize("shown", STATES.values(), ids=STATES.keys())
def test_the_health_of(shown: Shown) -> None:
    health = argocd_health(shown.item)
    assert health["status"] == shown.health
    assert health["status"] in HEALTH
    assert shown.words in health["message"]
    assert health["message"]


def test_there_is_a_button_for_each_verb() -> None:
    assert {one["name"] for one in argocd_actions()["definitions"]} == set(Verb)


RUNNING = rolling(TRIAL)
WAITING = rolling(MANUAL)
BACK = rolling(TRIAL, "abort@2#1")
BLOCKED = rolling(TRIAL, gates=gate(GatePhase.BLOCKED))
BUTTONS: dict[str, tuple[Object, set[str]]] = {
    "before the operator saw the job": (JOBS["fresh"].item, {"pause"}),
    "while nothing is tried": (JOBS["at work"].item, {"pause"}),
    "while a version waits for a person": (WAITING, {"promote", "abort", "pause"}),
    "while a version waits for approval": (
        rolling({**TRIAL, "approval": "Always"}),
        {"approve", "abort", "pause"},
    ),
    "while a version is at its gate": (
        rolling(TRIAL, gates=gate(GatePhase.RUNNING)),
        {"abort", "skip", "pause"},
    ),
    "while its gate cannot be run": (BLOCKED, {"abort", "skip", "retry", "pause"}),
    "while a version is on trial": (RUNNING, {"abort", "skip", "pause"}),
    "after a promotion was asked for": (
        rolling(MANUAL, "promote@2#1"),
        {"promote", "abort", "skip", "pause"},
    ),
    "while a button pauses": (rolling(TRIAL, "pause@2#1"), {"abort", "skip", "resume"}),
    "after a second promotion": (rolling({"strategy": "Broadcast"}), {"pause", "rollback"}),
    "after a version was taken back": (BACK, {"retry", "pause"}),
}


@pytest.mark.parametrize("case", BUTTONS.values(), ids=BUTTONS.keys())
def test_which_buttons_can_be_pressed(case: tuple[Object, set[str]]) -> None:
    item, verbs = case
    assert enabled(item) == verbs


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
        ("retry", BLOCKED, 2),
        ("rollback", RUNNING, 1),
    ],
)
def test_a_button_writes_its_request_and_nothing_else(
    verb: str, item: Object, sequence: int
) -> None:
    pressed = argocd_press(verb, item)
    written = requests.parse(pressed["metadata"]["annotations"][Label.REQUEST])
    assert written == requests.Request(Verb(verb), sequence, "1007")
    assert _without_request(pressed) == _without_request(item)
    noted = item | {"metadata": item["metadata"] | {"annotations": {"team": "arms"}}}
    assert argocd_press(verb, noted)["metadata"]["annotations"]["team"] == "arms"
