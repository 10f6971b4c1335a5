"""What Flux and Argo CD make of an object: kstatus itself, and Lua as Argo CD runs it."""

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fleet_cli.local import binaries
from fleet_contract.names import GROUP, Kind

Object = dict[str, Any]
MANIFESTS = Path(__file__).parents[2] / "manifests" / "gitops"
ARGOCD = MANIFESTS / "argocd"
FLUX = MANIFESTS / "flux"
CUSTOMIZATIONS = "resource.customizations"


def judge(questions: Sequence[Object]) -> list[Object]:
    """An answer each; a question is an ``object`` and, for what a script returns, its ``lua``."""
    program = binaries.resolve("gitops-judge")["gitops-judge"]
    asked = "\n".join(map(json.dumps, questions))
    result = subprocess.run([program], input=asked, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def kstatus(item: Object) -> str:
    """Current, InProgress, Failed, Terminating."""
    return str(judge([{"object": item}])[0]["status"])


def lua(script: str, item: Object) -> Any:
    """What the script returns of an object; it must not fail."""
    answer = judge([{"object": item, "lua": script}])[0]
    assert "error" not in answer, answer["error"]
    return answer["value"]


@cache
def argocd_cm() -> dict[str, str]:
    """What argocd-cm gets, as kustomize renders it."""
    kubectl = binaries.resolve("kubectl")["kubectl"]
    shown = subprocess.check_output([kubectl, "kustomize", ARGOCD / "customizations"], text=True)
    found: dict[str, str] = yaml.safe_load(shown)["data"]
    return found


def argocd_health(item: Object) -> Object:
    """The health that Argo CD shows: ``status`` and ``message``."""
    found: Object = lua(argocd_cm()[f"{CUSTOMIZATIONS}.health.{GROUP}_{item['kind']}"], item)
    return found


def argocd_actions() -> Object:
    """The buttons of a job: what says which can be pressed, and their definitions."""
    text = argocd_cm()[f"{CUSTOMIZATIONS}.actions.{GROUP}_{Kind.TRAINING_JOB}"]
    found: Object = yaml.safe_load(text)
    return found


def argocd_press(verb: str, item: Object) -> Object:
    """The object as the button leaves it."""
    defined = argocd_actions()["definitions"]
    script = next(one["action.lua"] for one in defined if one["name"] == verb)
    found: Object = lua(script, item)
    return found
