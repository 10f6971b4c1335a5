"""``fleet docs``: the field reference as Markdown, from the same schema as ``kubectl explain``."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from fleet_contract import meanings
from fleet_contract.names import (
    API_VERSION,
    CATEGORY,
    PLURALS,
    SHORT_NAMES,
    STALLED_REASONS,
    Kind,
)
from fleet_contract.schema import CHANGE, LIVE, described

INTRODUCTION = f"""\
<!-- Made by `make generate` from crds/fleet_contract/resources; edit those. -->
# Reference: the three kinds

API version `{API_VERSION}`. `kubectl get {CATEGORY}` lists all of them, `kubectl explain` tells the
same as this page.

The column *Change* says what an edit of the field does:

- *live*: it takes effect at once, on everything that runs.
- *new run*: the learner saves a checkpoint and ends, and a new run goes on from there.
- *immutable*: the apiserver refuses the edit; make a new object.

A field without a default is absent unless you set it; *required* fields must be set.
"""

CONDITIONS_HEAD = """\
## Conditions

Their message is a sentence that says what is so and, where somebody must act, what to do.
"""
REASONS_HEAD = """
## Reasons

Of conditions, of `status.rollout.reason` and of Events. An Event has the reason and the sentence of
the condition or the move it tells of: a version's fate, a request, what a rollout begins to await,
a robot that fell back, a document that was not believed, and a Ready, Complete or Stalled that
came. Warnings are those of Stalled, of a version taken back, of a robot that fell back, of a
document not believed, of a passed deadline and of a refused request.
"""

_LIMITS = (
    ("minimum", "≥ {}"),
    ("maximum", "≤ {}"),
    ("minLength", "{} characters or more"),
    ("maxLength", "at most {} characters"),
    ("minItems", "{} or more"),
    ("maxItems", "at most {}"),
    ("maxProperties", "at most {} keys"),
)


class Row(NamedTuple):
    """One field."""

    path: str
    type: str
    default: str
    change: str
    description: str


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(_kind(kind) for kind in Kind), *_words()])


def rows(schema: dict[str, Any], path: str, change: str = LIVE) -> Iterator[Row]:
    """Every field below an object, depth first; a mark holds for all fields below it."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        at, own_change = f"{path}.{name}", field.get(CHANGE, change)
        description = " ".join([field["description"], *_rules(field), *_rules(field.get("items"))])
        default = "*required*" if name in required else _default(field)
        yield Row(at, _type(field), default, own_change, description)
        yield from rows(field, at, own_change)
        yield from rows(field.get("items", {}), f"{at}[]", own_change)


def _kind(kind: Kind) -> str:
    schema = described(kind)
    spec, status = schema["properties"]["spec"], schema["properties"]["status"]
    lines = [
        f"## {kind}",
        "",
        f"`{PLURALS[kind]}`, short `{SHORT_NAMES[kind]}`. {schema['description']}",
        "",
        *(f"- {rule['message']}." for rule in _validations(schema) + _validations(spec)),
        "",
        "| Field | Type | Default | Change | Description |",
        "|---|---|---|---|---|",
        *(
            f"| `{row.path}` | {row.type} | {row.default} | {row.change} | {row.description} |"
            for row in rows(spec, "spec", spec.get(CHANGE, LIVE))
        ),
        "",
        f"Status of a {kind}, written by the operator alone:",
        "",
        "| Field | Type | Description |",
        "|---|---|---|",
        *(f"| `{row.path}` | {row.type} | {row.description} |" for row in rows(status, "status")),
        "",
    ]
    return "\n".join(lines)


def _words() -> Iterator[str]:
    """Conditions and reasons of all kinds, by one table each."""
    yield from (CONDITIONS_HEAD, "| condition | what it says |", "|---|---|")
    yield from (f"| `{one}` | {said} |" for one, said in meanings.CONDITIONS.items())
    yield from (REASONS_HEAD, "| reason | what it says |", "|---|---|")
    for one, said in meanings.REASONS.items():
        stalled = " Stalled: [what to do](troubleshooting.md#reasons-of-stalled)."
        yield f"| `{one}` | {said}{stalled if one in STALLED_REASONS else ''} |"
    yield ""


def _validations(schema: dict[str, Any] | None) -> list[dict[str, str]]:
    return list((schema or {}).get("x-kubernetes-validations", []))


def _rules(schema: dict[str, Any] | None) -> list[str]:
    return [f"*{rule['message']}.*" for rule in _validations(schema)]


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    words = [_name(field)]
    for key, text in _LIMITS:
        if key in field:
            word = text.format(field[key])
            strict = f"exclusive{key.capitalize()}" in field
            words.append(word.translate({ord("≥"): ">", ord("≤"): "<"}) if strict else word)
    if pattern := field.get("pattern"):
        words.append(f"`{_cell(pattern)}`")
    return ", ".join(words)


def _name(field: dict[str, Any]) -> str:
    if "x-kubernetes-int-or-string" in field:
        return "integer or string"
    match field.get("type"):
        case "array":
            return f"list of {_name(field['items'])}s"
        case "object" if isinstance(values := field.get("additionalProperties"), dict):
            return f"map to {_name(values)}"
        case "object" if field.get("x-kubernetes-preserve-unknown-fields"):
            return "free-form object"
        case name:
            return str(name or "anything")


def _default(field: dict[str, Any]) -> str:
    """Of objects with fields of their own, those fields tell it."""
    if "default" not in field or "properties" in field:
        return ""
    return f"`{_cell(json.dumps(field['default']))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
