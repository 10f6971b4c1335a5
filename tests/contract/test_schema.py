"""Models become the apiserver's dialect, word by word, or are refused; files do not drift."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import AfterValidator, Field

from fleet_cli import crds as files
from fleet_cli import reference, rollout_page
from fleet_contract import schema
from fleet_contract.names import Kind
from fleet_contract.resources.base import FreeForm, Model, Resource, Status, cel
from fleet_contract.schema import SchemaError

ROOT = Path(__file__).parents[2]
WHAT = {"description": "what"}
LABEL = Annotated[str, Field(pattern="^[a-z]+$")]


class Inner(Model):
    size: int = Field(default=3, description="what")
    label: str | None = Field(default=None, description="what")


class Ruled(Model):
    size: int = Field(default=3, description="what")
    rules = (cel("self.size > 0", "size must be above 0"),)


def spec_of(annotation: Any, field: Any) -> dict[str, Any]:
    """The schema of one field of a kind made for it."""
    model: type[Model] = type(
        "One", (Model,), {"__annotations__": {"one": annotation}, "one": field}
    )
    kind: type[Resource] = type(
        "Probe",
        (Resource,),
        {
            "__annotations__": {"spec": model, "status": Status},
            "kind_name": Kind.ROBOT_ACTOR,
            "spec": Field(description="what"),
            "status": Field(default=Status(), description="what"),
        },
    )
    found: dict[str, Any] = schema._part(kind, "spec")["properties"]["one"]
    return found


REWRITTEN: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "an optional field is absent, not null": (
        int | None,
        Field(default=None, ge=1, description="what"),
        {"type": "integer", "minimum": 1},
    ),
    "a reference is written out": (
        Inner,
        Field(description="what"),
        {
            "type": "object",
            "properties": {
                "size": {"type": "integer", "default": 3, **WHAT},
                "label": {"type": "string", **WHAT},
            },
        },
    ),
    "an object's default leaves its fields their own": (
        Inner,
        Field(default=Inner(size=5), description="what"),
        {
            "type": "object",
            "default": {"size": 5},
            "properties": {
                "size": {"type": "integer", "default": 3, **WHAT},
                "label": {"type": "string", **WHAT},
            },
        },
    ),
    "a default with rules is written whole, since rules are tried on it first": (
        Ruled,
        Field(default=Ruled(), description="what"),
        {
            "type": "object",
            "default": {"size": 3},
            "properties": {"size": {"type": "integer", "default": 3, **WHAT}},
            "x-kubernetes-validations": [
                {"rule": "self.size > 0", "message": "size must be above 0"}
            ],
        },
    ),
    "a constant is an enum of one": (
        Literal["on"],
        Field(description="what"),
        {"type": "string", "enum": ["on"]},
    ),
    "exclusive bounds are marks beside the bound": (
        float,
        Field(gt=0, lt=1, description="what"),
        {
            "type": "number",
            "minimum": 0,
            "exclusiveMinimum": True,
            "maximum": 1,
            "exclusiveMaximum": True,
        },
    ),
    "a free-form object keeps what it is given": (
        FreeForm,
        Field(default={}, description="what"),
        {"type": "object", "default": {}, "x-kubernetes-preserve-unknown-fields": True},
    ),
    "anything at all is kept": (
        Any,
        Field(description="what"),
        {"x-kubernetes-preserve-unknown-fields": True},
    ),
    "a mapping types its values": (
        dict[str, int],
        Field(max_length=4, description="what"),
        {"type": "object", "maxProperties": 4, "additionalProperties": {"type": "integer"}},
    ),
    "a mapping with patterned keys gets a rule": (
        dict[LABEL, int],
        Field(max_length=4, description="what"),
        {
            "type": "object",
            "maxProperties": 4,
            "additionalProperties": {"type": "integer"},
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(key, key.matches('^[a-z]+$'))",
                    "message": "keys must match ^[a-z]+$",
                }
            ],
        },
    ),
    "a number or a string is its own word": (
        int | LABEL,
        Field(description="what"),
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": "^[a-z]+$",
        },
    ),
    "a set is a list that refuses doubles": (
        set[str],
        Field(max_length=4, description="what"),
        {
            "type": "array",
            "maxItems": 4,
            "items": {"type": "string"},
            "x-kubernetes-list-type": "set",
        },
    ),
    "titles and examples are left out": (
        str,
        Field(title="Title", examples=["x"], description="what"),
        {"type": "string"},
    ),
}


@pytest.mark.parametrize("sentence", REWRITTEN)
def test_in_the_dialect(sentence: str) -> None:
    annotation, field, expected = REWRITTEN[sentence]
    assert spec_of(annotation, field) == expected | WHAT


class Tree(Model):
    branches: list["Tree"] = Field(default=[], description="what")


class Bare(Model):
    field: int = 0


UNSAYABLE: dict[str, tuple[Any, str]] = {
    "a type that contains itself": (Tree, r"RobotActor\.spec\.one.*: Tree contains itself"),
    "a field without a description": (Bare, r"Bare\.field has no description"),
    "a union": (int | bool, r"RobotActor\.spec\.one.*: union has no counterpart"),
    "a union of objects": (Inner | Ruled, r"RobotActor\.spec\.one.*: union has no counterpart"),
    "a tuple of different things": (tuple[int, str], r"RobotActor\.spec\.one: prefixItems has no"),
}


@pytest.mark.parametrize("sentence", UNSAYABLE)
def test_what_the_dialect_cannot_say_is_refused_with_its_place(sentence: str) -> None:
    annotation, message = UNSAYABLE[sentence]
    with pytest.raises(SchemaError, match=message):
        spec_of(annotation, Field(description="what"))


def test_a_python_validator_needs_no_word() -> None:
    checked = Annotated[str, AfterValidator(str.lower)]
    assert spec_of(checked, Field(description="what")) == {"type": "string", **WHAT}


def test_the_files_are_what_the_models_say() -> None:
    found = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    assert found == files.files(), "run `make generate` and commit what it writes"


def test_the_reference_is_what_the_models_say() -> None:
    page = (ROOT / "docs" / "reference.md").read_text()
    assert page == reference.render(), "run `make generate` and commit what it writes"


def test_the_rollouts_page_is_drawn_from_its_tables() -> None:
    page = (ROOT / "docs" / "rollout.md").read_text()
    assert page == rollout_page.render(), "run `make generate` and commit what it writes"


@pytest.mark.parametrize("kind", Kind)
def test_a_rendered_kind_reads_back_whole(kind: Kind) -> None:
    assert yaml.safe_load(files.render(schema.crd(kind))) == schema.crd(kind)


@pytest.mark.parametrize("kind", Kind)
def test_our_own_mark_reaches_the_docs_and_not_the_apiserver(kind: Kind) -> None:
    assert schema.CHANGE in str(schema.described(kind))
    assert schema.CHANGE not in str(schema.crd(kind))


@pytest.mark.parametrize("kind", Kind)
def test_status_has_no_default_but_the_generation_nobody_observed(kind: Kind) -> None:
    status = schema.described(kind)["properties"]["status"]
    assert status.pop("default") == {"observedGeneration": -1}
    assert "default" not in _keys(status)


def _keys(node: Any) -> set[str]:
    if isinstance(node, list):
        return {key for item in node for key in _keys(item)}
    if not isinstance(node, dict):
        return set()
    return {*node} | {key for value in node.values() for key in _keys(value)}
