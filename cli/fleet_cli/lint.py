"""``fleet lint``: what the apiserver would refuse or silently drop, and pods would refuse later.

Told by file and line, without a cluster. A hint is what may be well all the same.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import ValidationError

from fleet_cli import plugins, rules
from fleet_cli.uplink import uplink
from fleet_contract import names
from fleet_contract.names import Kind
from fleet_contract.resources import KINDS, FleetTrainingJobSpec
from fleet_contract.schema import described
from fleet_operator.decide import windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_cli.uplink import Uplink
    from fleet_contract.resources import Resource

Path = tuple[str | int, ...]


class Loader(yaml.SafeLoader):
    """As kubectl reads: a date is a string."""


Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
NO_YAML = (yaml.YAMLError, ValueError, TypeError, RecursionError)
"""How a reader ends that was given something else, or more depth than it has."""


class Fault(NamedTuple):
    """One fault; lines count from 1."""

    line: int
    where: str
    what: str
    hint: bool = False

    def __str__(self) -> str:
        return f"{self.line}: {'hint: ' if self.hint else ''}{self.where}: {self.what}"


def jobs(text: str) -> set[str]:
    """Names of the FleetTrainingJobs in a YAML stream; none in what is no YAML."""
    try:
        documents = list(yaml.load_all(text, Loader))
    except NO_YAML:
        return set()
    return {
        str(document["metadata"]["name"])
        for document in documents
        if isinstance(document, dict)
        and document.get("kind") == Kind.TRAINING_JOB
        and isinstance(document.get("metadata"), dict)
        and "name" in document["metadata"]
    }


def sending(text: str) -> Iterator[tuple[str, Uplink | str]]:
    """Of each sound job in a YAML stream: its name and what its robots will send."""
    with contextlib.suppress(*NO_YAML):
        for document in yaml.load_all(text, Loader):
            if isinstance(document, dict) and document.get("kind") == Kind.TRAINING_JOB:
                with contextlib.suppress(ValidationError):
                    job = FleetTrainingJobSpec.model_validate(document.get("spec"))
                    yield str(document.get("metadata", {}).get("name", "")), uplink(job)


def faults(text: str, known: frozenset[str] | set[str] = frozenset()) -> Iterator[Fault]:
    """Every fault of our kinds in a YAML stream; documents of other kinds are let through.

    Args:
        text: the stream.
        known: jobs of other files, which its robots may name.
    """
    try:
        nodes = list(yaml.compose_all(text, Loader))
        documents = list(yaml.load_all(text, Loader))
        json.dumps(documents, default=str)  # as kubectl sends it: nothing may contain itself
    except NO_YAML as fault:
        mark = getattr(fault, "problem_mark", None)
        what = f"this is no YAML: {getattr(fault, 'problem', fault)}"
        yield Fault(mark.line + 1 if mark else 1, "document", what)
        return
    known = known | jobs(text)
    for node, document in zip(nodes, documents, strict=True):
        if isinstance(document, dict):
            for hint, found in ((False, _document(document)), (True, _hints(document, known))):
                for path, what in found:
                    yield Fault(_line(node, path), ".".join(map(str, path)), what, hint)


def _hints(
    document: dict[str, Any], known: frozenset[str] | set[str]
) -> Iterator[tuple[Path, str]]:
    spec = document.get("spec")
    if not isinstance(spec, dict) or document.get("apiVersion") != names.API_VERSION:
        return
    if document.get("kind") == Kind.ROBOT_ACTOR and spec.get("job") not in known:
        what = f"no FleetTrainingJob {spec.get('job')!r} in these files; it must be in the cluster"
        yield ("spec", "job"), what
    if document.get("kind") == Kind.TRAINING_JOB:
        with contextlib.suppress(ValidationError):
            for path, what in plugins.doubtful(FleetTrainingJobSpec.model_validate(spec)):
                yield ("spec", *path), what


def _document(document: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    group, _, version = str(document.get("apiVersion", "")).partition("/")
    if group != names.GROUP:
        return
    if version != names.VERSION:
        yield ("apiVersion",), f"unknown version {version!r}; write {names.API_VERSION}"
        return
    known = {str(resource.kind_name): resource for resource in KINDS}
    resource = known.get(str(document.get("kind")))
    if resource is None:
        yield ("kind",), f"unknown kind {document.get('kind')!r}; there are {', '.join(known)}"
        return
    yield from _name(document.get("metadata"), resource)
    for name in document.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        yield (name,), "no such field; did you mean to put it below spec?"
    yield from _spec(document.get("spec", {}), resource)


def _name(metadata: Any, resource: type[Resource]) -> Iterator[tuple[Path, str]]:
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str):
        yield ("metadata", "name"), "missing, or no string"
        return
    if len(name) > resource.name_max:
        yield (
            ("metadata", "name"),
            f"{len(name)} characters; a {resource.kind_name} has at most {resource.name_max}",
        )
    if not re.fullmatch(names.NAME_PATTERN, name):
        yield (
            ("metadata", "name"),
            f"{name!r} is no DNS label: lower-case letters, digits and '-', no dots",
        )


def _spec(spec: Any, resource: type[Resource]) -> Iterator[tuple[Path, str]]:
    model = resource.model_fields["spec"].annotation
    assert model is not None  # noqa: S101 - every kind has one
    try:
        # As JSON and strictly: the apiserver takes no "5" for a number either, and no snake_case.
        found_spec = model.model_validate_json(
            json.dumps(spec, default=str), strict=True, extra="forbid", by_alias=True, by_name=False
        )
    except ValidationError as fault:
        schema = described(resource.kind_name)["properties"]["spec"]
        found: dict[Path, str] = {}
        for error in fault.errors(include_url=False):
            path = _present(spec, error["loc"])
            if error["type"] == "extra_forbidden":
                found[path] = _unknown(str(path[-1]), _fields(schema, path[:-1]))
            elif error["type"] == "missing":
                found[path] = "missing; it has no default"
            else:  # of a union, each branch complains; the last says it best
                found[path] = f"{error['msg']}; found {_short(error['input'])}"
        for path, what in found.items():
            yield ("spec", *path), what
        return
    for path, what in rules.broken(found_spec):
        yield ("spec", *path), what
    if isinstance(found_spec, FleetTrainingJobSpec):
        for path, what in (*plugins.refused(found_spec), *_windows(found_spec)):
            yield ("spec", *path), what


def _windows(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    """Read as the operator does, which would hold every version back for one that never opens."""
    for index, window in enumerate(job.rollout.windows):
        if wrong := windows.why_never(window, time.time()):
            yield ("rollout", "windows", index), f"{wrong}; correct it"


def _present(spec: Any, path: Path) -> Path:
    """The path without what pydantic adds to tell which branch of a union was tried."""
    for depth, part in enumerate(path):
        if isinstance(spec, dict):
            spec = spec.get(part)
        elif isinstance(spec, list) and isinstance(part, int):
            spec = spec[part]
        else:
            return path[:depth]
    return path


def _fields(schema: dict[str, Any], path: Path) -> list[str]:
    for part in path:
        schema = schema["items"] if isinstance(part, int) else schema["properties"][part]
    return list(schema["properties"])


def _unknown(name: str, allowed: list[str]) -> str:
    if close := get_close_matches(name, allowed, n=1):
        return f"no such field; did you mean {close[0]}?"
    return f"no such field; there are {', '.join(allowed)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits on a line


def _line(node: yaml.Node | None, path: Path) -> int:
    """Of the deepest part of the path that the file has: a missing field has no line."""
    line = node.start_mark.line if node else 0
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line
    return line + 1
