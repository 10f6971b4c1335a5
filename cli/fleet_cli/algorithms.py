"""``fleet algorithms``: what a job's ``spec.algorithm`` may name, from the installed classes."""

from __future__ import annotations

import inspect
import json
from importlib.metadata import entry_points
from typing import Any

from fleet_cli.plugins import ALGORITHMS
from fleet_contract.parameters import camel, unknown

INTRODUCTION = """\
<!-- Made by `make generate` from runtime/fleet_runtime/algorithms; edit those. -->
# Algorithms

`spec.algorithm.name` names one of these, `spec.algorithm.parameters` sets what its table lists, in
camelCase. A package of your own adds an algorithm by an entry point in the group
`fleetloop.algorithms`; what it must offer is in `fleet_runtime/algorithms/base.py`.

## What a batch is made of

Whatever the algorithm, each row of a batch is drawn in three steps (`spec.sampler`): a task by its
weight, a side (online: what the fleet lives through; offline: the datasets) by `w_on`, and then any
step of that pool, all alike. With `l` the mean of a side's last `window` = 200 policy losses,

    w_on = exp(α l_on) / (exp(α l_on) + exp(l_off)),   clipped to [minOnline, maxOnline]

as in SOP (arXiv 2601.03044), which does not disclose α; ours is 2. What it leaves open:

| Case | What is drawn |
|---|---|
| `mode: Balanced` (LWD, arXiv 2605.00416) | `w_on` = 0.5, whatever the losses |
| a side of the task has no loss yet | `w_on` = 0.5, clipped as ever |
| equal losses l | `w_on` = 1 / (1 + exp((1 − α) l)): above one half, as α > 1 |
| one side of the task is empty | all of the task's rows from the other side, past the clip |
| the task has no data at all | nothing; the other tasks share its weight in proportion |
| no task that has weight has data | nothing: the learner waits |
"""


def render(group: str = ALGORITHMS, introduction: str = INTRODUCTION) -> str:
    """The page of all that is installed under a group, as Markdown."""
    names = sorted(found.name for found in entry_points(group=group))
    return "\n".join([introduction, *(section(name, group) for name in names)])


def section(name: str, group: str = ALGORITHMS) -> str:
    """One of them: its module's words and its parameters. ValueError for an unknown name."""
    kind = _find(name, group)
    words = inspect.getdoc(inspect.getmodule(kind)) or ""
    fields = kind.parameters.model_json_schema()["properties"]
    lines = [
        f"## {name}",
        "",
        words,
        "",
        "| Parameter | Type | Default | Description |",
        "|---|---|---|---|",
        *(_row(key, field) for key, field in fields.items()),
        "",
    ]
    return "\n".join(lines)


def _find(name: str, group: str) -> Any:
    """The class. It is loaded by name: this program itself depends on no torch."""
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        raise ValueError(unknown(name, found))
    return found[name].load()


def _row(key: str, field: dict[str, Any]) -> str:
    text = " ".join(field["description"].split()).replace("|", "\\|")
    return f"| `{camel(key)}` | {_type(field)} | `{json.dumps(field.get('default'))}` | {text} |"


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    words = ["list of sources" if field.get("type") == "array" else str(field["type"])]
    limits = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"))
    words += [
        f"{sign} {field[k]}" for k, sign in (*limits, ("exclusiveMaximum", "<")) if k in field
    ]
    return ", ".join(words)
