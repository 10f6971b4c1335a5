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
"""


def render() -> str:
    """The page of all installed algorithms, as Markdown."""
    names = sorted(found.name for found in entry_points(group=ALGORITHMS))
    return "\n".join([INTRODUCTION, *(section(name) for name in names)])


def section(name: str) -> str:
    """One algorithm: its module's words and its parameters. ValueError for an unknown name."""
    kind = _find(name)
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


def _find(name: str) -> Any:
    """The class. It is loaded by name: this program itself depends on no torch."""
    found = {point.name: point for point in entry_points(group=ALGORITHMS)}
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
