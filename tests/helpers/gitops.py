"""What Flux and Argo CD make of an object: kstatus itself, and Lua as Argo CD runs it."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet_cli.local import binaries

Object = dict[str, Any]
MANIFESTS = Path(__file__).parents[2] / "manifests" / "gitops"
ARGOCD = MANIFESTS / "argocd"
FLUX = MANIFESTS / "flux"


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
