"""Every name that README and docs say: of a metric, variable, field, reason, file, target, kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet_contract import alerts, metrics, names
from fleet_contract.errors import RejectCode
from fleet_contract.names import ConditionType, Env, Kind, Label, Reason
from fleet_contract.schema import described
from fleet_operator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")} - {ROOT / "CHANGELOG.md"})
BELOW = ("", "crds", "operator", "runtime", "cli", "manifests", "runtime/fleet_runtime")
FOLDERS = [ROOT / one for one in (*BELOW, "operator/fleet_operator", "cli/fleet_cli")]
PACKAGES = "fleet_(?:contract|operator|runtime|cli)"
OURS = "benchmarks|cli|crds|docs|manifests|operator|requirements|runtime|tests"
FREE = "x-kubernetes-preserve-unknown-fields"

SCHEMAS = [described(kind)["properties"] for kind in Kind]
METRICS = {one.name for one in metrics.FAMILIES}
VARIABLES = {*Env, *(f"FLEET_{one.upper()}" for one in Settings.model_fields)}
VARIABLES |= {"FLEET_CHAOS_KILLS"}  # the tests' own
LABELS = {*Label, *(f"{names.GROUP}/{one}" for one in ("store", "broker"))}  # of people's own pods
TARGETS = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
MADE = "out"  # what programs write
ELSEWHERE = {"datasets/demo", "datasets/demos", "policies/parts"}
"""Folders of a store or of a robot's disk that are called like rooms of ours."""
CLASSES = {"SampleSpec", "FlowPolicy"}


def values(schema: dict[str, Any]) -> Iterator[str]:
    """What enumerated fields may say."""
    yield from schema.get("enum", ())
    for field in (*schema.get("properties", {}).values(), *filter(None, [schema.get("items")])):
        yield from values(field)


WORDS = {*Reason, *ConditionType, *RejectCode, *Kind, *(one.name for one in alerts.ALERTS)}
WORDS |= {word for schema in SCHEMAS for part in schema.values() for word in values(part)}


def there(schema: dict[str, Any], path: list[str]) -> bool:
    """Whether an object has such a field; below a free one, whatever is said."""
    if not path or schema.get(FREE) or "additionalProperties" in schema:
        return True
    if "items" in schema:
        return there(schema["items"], path[path[0] in {"", "N"} :])
    field = schema.get("properties", {}).get(path[0])
    return field is not None and there(field, path[1:])


def is_field(path: str) -> bool:
    parts = path.replace("[]", "").split(".")
    return any(parts[0] in one and there(one[parts[0]], parts[1:]) for one in SCHEMAS)


def is_file(path: str) -> bool:
    """One of ours, as far as its first folder is; a module may go without its ending."""
    first = path.split("/", maxsplit=1)[0]
    near = [one for one in FOLDERS if first != MADE and (one / first).is_dir()]
    return not near or any(any(one.glob(name)) for one in near for name in (path, f"{path}.py"))


def strangers(text: str) -> Iterator[str]:
    """What a page names and we do not know."""
    for name in set(re.findall(rf"\b(?!{PACKAGES}\b)fleet_[a-z_]+\b(?!/)", text)):
        if not {name, re.sub("_(bucket|sum|count)$", "", name)} & METRICS:
            yield name
    yield from set(re.findall(r"\bFLEET_[A-Z_]*[A-Z]\b", text)) - VARIABLES
    yield from set(re.findall(rf"{names.GROUP}/(?!v1)[a-z-]*[a-z]", text)) - LABELS
    for kind, short in re.findall(rf"({'|'.join(Kind)}) \(`(\w+)`\)", text):
        if names.SHORT_NAMES[Kind(kind)] != short:
            yield f"{kind} ({short})"
    paths = set(re.findall(rf"\b(?:{OURS})/[\w./*-]+\.\w+\b", text))
    yield from (one for one in paths if not is_file(one))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (said for said in set(re.findall(r"`([^`\n]+)`", prose)) if strange(said))


def strange(said: str) -> bool:
    """Whether a page means something of ours by this, and it is not there."""
    if field := re.match(r"(?:spec|status)\.[A-Za-z.\[\]]*[A-Za-z]", said):
        return not is_field(field[0])
    if target := re.fullmatch(r"make ([a-z][a-z0-9]+)", said):
        return target[1] not in TARGETS
    if module := re.match(r"python -m ([\w.]+)", said):
        return not is_file(module[1].replace(".", "/"))
    if re.fullmatch(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+", said):
        return said not in WORDS | CLASSES
    path = re.fullmatch(r"\w[\w.-]*(?:/[\w.*-]+)+", said)
    return path is not None and said not in ELSEWHERE and not is_file(said)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_known(page: Path) -> None:
    assert sorted(strangers(page.read_text())) == []


@pytest.mark.parametrize(
    "said",
    [
        *("PolicyVersion (`pv`)", "fleet_robot_speed", "FLEET_NAT_URL", "`spec.rollout.gate`"),
        *("`LearnerBroken`", "`decide/rollouts`", "`docs/trusts.md`", "fleetloop.dev/freze"),
        *(
            "`make instal`",
            "`status.gates.phases`",
            "`python -m benchmarks.non`",
            "see tests/no.py",
        ),
    ],
)
def test_what_nobody_knows_is_found(said: str) -> None:
    assert list(strangers(said))
