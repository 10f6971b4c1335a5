"""What the three kinds have in common: metadata, conditions, durations, CEL."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from fleet_contract import names
from fleet_contract.names import ConditionType, Kind

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Duration = Annotated[
    str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", max_length=32, examples=["90s"])
]
Name = Annotated[str, Field(pattern=names.NAME_PATTERN, min_length=1, max_length=names.NAME_MAX)]
Quantity = (
    int
    | Annotated[
        str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$", max_length=32)
    ]
)
"""An amount as in any container; ``cpu: 2`` needs no quotes."""
FreeForm = dict[str, Any]
"""An object whose fields we do not know: kept as it is by the apiserver."""

REQUEST_MAX = 256
"""Characters of a request that count."""


def seconds(duration: str) -> float:
    """``1m30s`` → 90.0. Raises ``ValueError`` on anything the ``Duration`` pattern refuses."""
    parts = _DURATION.findall(duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise ValueError(f"{duration!r} is no duration; write one like 90s, 1m30s or 250ms")
    return sum(float(number) * _UNIT[unit] for number, unit in parts)


def now_rfc3339(now: float) -> str:
    """Unix seconds as Kubernetes writes a time."""
    return datetime.fromtimestamp(now, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def cel(rule: str, message: str, field: str = "") -> dict[str, str]:
    """One ``x-kubernetes-validations`` entry, for ``rules`` of a model.

    ``field``: the path of the field below that is to blame, such as ``.steps``.
    """
    made = {"rule": rule, "message": message}
    return made | {"fieldPath": field} if field else made


class Model(BaseModel):
    """Base of every part of a resource: camelCase in YAML, unknown fields ignored on reading."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )
    rules: ClassVar[tuple[dict[str, str], ...]] = ()
    """CEL rules over this object."""

    def dump(self) -> dict[str, Any]:
        """As it stands in YAML, without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Spec(Model):
    """What people want."""


class Condition(Model):
    """One observation of the object's state, in the Kubernetes form."""

    type: ConditionType = Field(description="Which aspect of the object this condition tells of.")
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether the condition holds: True, False or Unknown."
    )
    reason: str = Field(
        description="One CamelCase word for the last transition.",
        max_length=128,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    )
    message: str = Field(
        default="", description="A sentence that says what happened and what to do about it."
    )
    observed_generation: int | None = Field(
        default=None, description="The metadata.generation this condition was computed from."
    )
    last_transition_time: str = Field(
        description="When status last changed, in RFC 3339.",
        json_schema_extra={"format": "date-time"},
    )


class Status(Model):
    """What the operator saw; a fresh object starts with observedGeneration -1, never green."""

    observed_generation: int = Field(
        default=-1, description="The metadata.generation the operator last acted upon."
    )
    conditions: list[Condition] = Field(
        default_factory=list,
        description="Current conditions, at most one of each type.",
        max_length=16,
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    last_handled_request: str = Field(
        default="",
        description=f"The last value of the annotation {names.Label.REQUEST} acted upon.",
        max_length=REQUEST_MAX,
    )

    @field_validator("conditions", mode="before")
    @classmethod
    def _known(cls, said: Any) -> Any:
        """Those of a newer operator, which was taken back, tell us nothing and stop nobody."""
        known = set(ConditionType)
        return [one for one in said if not isinstance(one, dict) or one.get("type") in known]

    def condition(self, type_: ConditionType) -> Condition | None:
        return next((c for c in self.conditions if c.type is type_), None)


class OwnerReference(Model):
    """Who goes first when this object is collected."""

    kind: str
    name: str
    uid: str


class ObjectMeta(Model):
    """The part of metadata we read."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[OwnerReference] = []


class Column(NamedTuple):
    """One column of ``kubectl get``."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0


class Resource(Model):
    """One kind: its spec, its status and how ``kubectl`` shows it."""

    kind_name: ClassVar[Kind]
    columns: ClassVar[tuple[Column, ...]] = ()
    scale: ClassVar[Mapping[str, str] | None] = None
    selectable: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str] = ""
    name_max: ClassVar[int] = names.NAME_MAX

    metadata: ObjectMeta
