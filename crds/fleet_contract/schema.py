"""CustomResourceDefinitions from the pydantic models: a structural OpenAPI v3 schema per kind.

Pydantic speaks JSON Schema 2020-12, the apiserver a narrow dialect of OpenAPI v3. What the dialect
has another word for is rewritten here; what it has no word for is refused, with the field's path.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from fleet_contract import names
from fleet_contract.names import Kind
from fleet_contract.resources import KINDS
from fleet_contract.resources.base import Resource, cel

Schema = dict[str, Any]
_Nested = Callable[[Schema, str], Schema]
"""A schema below the present one and the step to it → the same in the apiserver's dialect."""

CHANGE = "x-fleet-change"
"""Our own mark of what an edit of the field does; for the docs, the apiserver would refuse it."""
LIVE = "live"

_RULES = "x-kubernetes-validations"
_ANYTHING = "x-kubernetes-preserve-unknown-fields"
_DROPPED = {"title", "examples", "format"}
_LOST_FORMATS = [("format", "duration"), ("format", "binary")]  # the apiserver reads them otherwise
_KEPT = {
    *("description", "type", "format", "enum", "default", "required", "pattern", CHANGE, _RULES),
    *("minimum", "maximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
}


class SchemaError(ValueError):
    """A model says what the apiserver's schema dialect cannot say."""


def crds() -> list[Schema]:
    """The CustomResourceDefinition of every kind, in the order people meet them."""
    return [crd(resource.kind_name) for resource in KINDS]


def crd(kind: Kind) -> Schema:
    """One CustomResourceDefinition, ready for the apiserver.

    Raises:
        SchemaError: a field has no description, recurs, or needs a word the dialect lacks.
    """
    resource = _resource(kind)
    plural = names.PLURALS[kind]
    subresources: Schema = {"status": {}}
    if resource.scale is not None:
        subresources["scale"] = dict(resource.scale)
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _without_marks(described(kind))},
        "subresources": subresources,
        "additionalPrinterColumns": [_column(*column) for column in resource.columns],
    }
    if resource.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in resource.selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": str(kind),
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": str(kind).lower(),
                "shortNames": [names.SHORT_NAMES[kind]],
                "categories": [names.CATEGORY],
            },
            "versions": [version],
        },
    }


def described(kind: Kind) -> Schema:
    """The kind's schema with our own marks still in it: what the reference pages are made from."""
    resource = _resource(kind)
    parts = {name: _part(resource, name) for name in ("spec", "status")}
    parts["status"] = _without_defaults(parts["status"])
    # A fresh object has been seen by nobody: without this, kstatus would call it Current.
    parts["status"]["default"] = {"observedGeneration": -1}
    return {
        "description": resource.summary,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": f"Group and version of this object: {names.API_VERSION}.",
            },
            "kind": {"type": "string", "description": f"What this object is: {kind}."},
            "metadata": {"type": "object"},
            **parts,
        },
        _RULES: _name_rules(resource),
    }


def _resource(kind: Kind) -> type[Resource]:
    return next(resource for resource in KINDS if resource.kind_name is kind)


def _part(resource: type[Resource], name: str) -> Schema:
    field = resource.model_fields[name]
    annotation: Any = field.annotation
    raw = TypeAdapter(annotation).json_schema(schema_generator=_Generator)
    node = _rewrite(raw, raw.pop("$defs", {}), (str(resource.kind_name), name))
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    return {**node, **extra, "description": field.description}


def _column(name: str, json_path: str, kind: str, priority: int) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": json_path}
    return column | {"priority": priority} if priority else column


def _name_rules(resource: type[Resource]) -> list[dict[str, str]]:
    """Names become tokens of NATS subjects and parts of pod names; the root alone sees them."""
    return [
        cel(
            f"self.metadata.name.size() <= {resource.name_max}",
            f"metadata.name of a {resource.kind_name} has at most {resource.name_max} characters, "
            "since names of pods and robots are made from it: choose a shorter one",
        ),
        cel(
            f"self.metadata.name.matches('{names.NAME_PATTERN}')",
            "metadata.name is a token of NATS subjects: use lower-case letters, digits and '-', "
            "a letter or digit first and last, and no dots",
        ),
    ]


class _Generator(GenerateJsonSchema):
    """Adds a model's CEL rules, and writes of a default only what its own defaults do not say."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        cls = schema["cls"]
        for name, field in cls.model_fields.items():
            # Asked of the field: the docstring of its type says what it is, not what it is for.
            if not field.description:
                raise SchemaError(
                    f"{cls.__name__}.{name} has no description: give it one, "
                    "kubectl explain is the reference"
                )
        made = super().model_schema(schema)
        if rules := getattr(cls, "rules", ()):
            made[_RULES] = [dict(rule) for rule in rules]
        return made

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, BaseModel):
            # The apiserver tries rules on a default before it fills in the defaults below it.
            whole = bool(getattr(dft, "rules", ()))
            return dft.model_dump(
                mode="json", by_alias=True, exclude_defaults=not whole, exclude_none=True
            )
        if isinstance(dft, list):
            return [self.encode_default(item) for item in dft]
        return super().encode_default(dft)


def _rewrite(raw: Schema, definitions: Mapping[str, Schema], path: tuple[str, ...]) -> Schema:
    """One field's JSON Schema in the apiserver's dialect; ``path`` is the way to it, for faults."""
    raw, path = _resolved(raw, definitions, path)

    def nested(inner: Schema, step: str) -> Schema:
        return _rewrite(inner, definitions, (*path, step))

    node: Schema = {}
    for key, value in raw.items():
        if key in _KEPT and (key, value) not in _LOST_FORMATS:
            node[key] = _plain(value)
        elif key in _WORDS:
            node |= _WORDS[key](value, nested)
        elif key not in _DROPPED:
            raise SchemaError(
                f"{_dotted(path)}: {key} has no counterpart in a structural schema; "
                "say it with another type, or with a CEL rule of the model"
            )
    if not node.keys() & {"type", "enum", "x-kubernetes-int-or-string"}:
        node[_ANYTHING] = True
    return node


def _resolved(
    raw: Schema, definitions: Mapping[str, Schema], path: tuple[str, ...]
) -> tuple[Schema, tuple[str, ...]]:
    """Without null branch and reference; the field's own words win over its type's."""
    raw = dict(raw)
    branches = [branch for branch in raw.get("anyOf", []) if branch != {"type": "null"}]
    if len(branches) < len(raw.get("anyOf", [])):  # optional: the field is absent, never null
        del raw["anyOf"]
        if raw.get("default", ...) is None:
            del raw["default"]
        raw = ({**branches[0], **raw}) if len(branches) == 1 else {**raw, "anyOf": branches}
    if reference := raw.pop("$ref", None):
        name = reference.rpartition("/")[2]
        mark = f"<{name}>"
        if mark in path:
            raise SchemaError(f"{_dotted(path)}: {name} contains itself; a CRD cannot recur")
        return {**definitions[name], **raw}, (*path, mark)
    return raw, path


def _properties(value: Schema, nested: _Nested) -> Schema:
    return {"properties": {name: nested(inner, name) for name, inner in value.items()}}


def _items(value: Schema, nested: _Nested) -> Schema:
    return {"items": _bare(nested(value, "[]"))}


def _values(value: Schema | bool, nested: _Nested) -> Schema:
    """Of a mapping. ``False`` needs no word: the apiserver prunes what it does not know."""
    if isinstance(value, dict):
        return {"additionalProperties": _bare(nested(value, "*"))}
    return {_ANYTHING: True} if value else {}


def _pattern(value: Schema, nested: _Nested) -> Schema:
    ((pattern, inner),) = value.items()  # pydantic writes one: a mapping has one type of key
    rule = cel(f"self.all(key, key.matches('{pattern}'))", f"keys must match {pattern}")
    return {"additionalProperties": _bare(nested(inner, "*")), _RULES: [rule]}


def _either(value: list[Schema], nested: _Nested) -> Schema:
    """The only union the dialect knows is ``int | str``, as in quantities."""
    if sorted(branch.get("type", "") for branch in value) != ["integer", "string"]:
        nested({"union": value}, "")  # refused there, with the path
    patterns = {key: of for branch in value for key, of in branch.items() if key == "pattern"}
    branches = [{"type": "integer"}, {"type": "string"}]
    return {"anyOf": branches, "x-kubernetes-int-or-string": True, **patterns}


_WORDS: Mapping[str, Callable[[Any, _Nested], Schema]] = {
    "properties": _properties,
    "items": _items,
    "additionalProperties": _values,
    "patternProperties": _pattern,
    "anyOf": _either,
    "const": lambda value, _: {"enum": [value]},
    "exclusiveMinimum": lambda value, _: {"minimum": _plain(value), "exclusiveMinimum": True},
    "exclusiveMaximum": lambda value, _: {"maximum": _plain(value), "exclusiveMaximum": True},
    "uniqueItems": lambda _value, _: {"x-kubernetes-list-type": "set"},
}


def _bare(node: Schema) -> Schema:
    """Items go without a description of their own: the field that holds them has one."""
    return {key: value for key, value in node.items() if key != "description"}


def _plain(value: Any) -> Any:
    """``1.0`` and ``1`` are one number in JSON; the shorter one does not drift on its way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(part for part in path if not part.startswith("<"))


def _without_marks(node: Schema) -> Schema:
    return _mapped({key: value for key, value in node.items() if key != CHANGE}, _without_marks)


def _without_defaults(node: Schema) -> Schema:
    """Status tells what was seen: a default there would tell of what nobody has seen."""
    return _mapped(
        {key: value for key, value in node.items() if key != "default"}, _without_defaults
    )


def _mapped(node: Schema, change: Any) -> Schema:
    node = dict(node)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            node[key] = change(node[key])
    if "properties" in node:
        node["properties"] = {name: change(item) for name, item in node["properties"].items()}
    return node
