"""Parameters that plug-ins declare, refused alike by the learner and by ``fleet lint``."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

APART = "spaces"
"""The one key of policy.parameters that no algorithm reads: the robot's interface."""
ALGORITHM, POLICY = ("algorithm", "parameters"), ("policy", "parameters")


class Fault(NamedTuple):
    """One fault; the path begins below ``spec``."""

    path: tuple[str | int, ...]
    what: str

    def __str__(self) -> str:
        return f"spec.{'.'.join(map(str, self.path))}: {self.what}"


def snake(key: str) -> str:
    """A parameter as YAML writes it (`learningRate`) → as an algorithm does."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower()


def camel(key: str) -> str:
    """The inverse of ``snake``."""
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), key)


def merged(policy: Mapping[str, Any], algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """What plug-ins are given, in their own spelling; the algorithm's parameters come last."""
    return {
        **{snake(key): value for key, value in policy.items() if key != APART},
        **{snake(key): value for key, value in algorithm.items()},
    }


def shared(
    given: Mapping[str, Any], policy: type[BaseModel], algorithm: type[BaseModel]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of it is the policy's and what the algorithm's; some is both's.

    What an algorithm lists as `network` it only takes for the sake of policies that take it too.
    """
    network: frozenset[str] = getattr(algorithm, "network", frozenset())
    strange = network - policy.model_fields.keys()
    fields = policy.model_fields.keys(), algorithm.model_fields.keys() - strange
    of_policy, of_algorithm = ({k: v for k, v in given.items() if k in own} for own in fields)
    return of_policy, of_algorithm


def faults(
    kinds: tuple[type[BaseModel], type[BaseModel]],
    policy: Mapping[str, Any],
    algorithm: Mapping[str, Any],
) -> Iterator[Fault]:
    """What is wrong with a job's parameters, each at the field that people wrote.

    Args:
        kinds: the models of policy and algorithm.
        policy: `spec.policy.parameters`.
        algorithm: `spec.algorithm.parameters`.
    """
    origin = {snake(key): (*POLICY, key) for key in policy if key != APART}
    origin |= {snake(key): (*ALGORITHM, key) for key in algorithm}
    given = merged(policy, algorithm)
    takes = shared({name: name for kind in kinds for name in kind.model_fields}, *kinds)
    allowed = {**takes[0], **takes[1]}
    found: dict[tuple[str | int, ...], str] = {
        origin[name]: unknown(origin[name][-1], map(camel, allowed))
        for name in given
        if name not in allowed
    }
    for kind, own in zip(kinds, shared(given, *kinds), strict=True):
        try:
            kind.model_validate(own)
        except ValidationError as fault:
            for error in fault.errors(include_url=False):
                name, *below = error["loc"] or ("",)
                path = (*origin.get(str(name), (*ALGORITHM, str(name))), *below)
                found.setdefault(path, f"{error['msg']}; found {error['input']!r:.60}")
    yield from map(Fault._make, found.items())


def unknown(name: str, allowed: Any) -> str:
    """There is no such name: the nearest one, or all of them."""
    known = list(allowed)
    if close := get_close_matches(name, known, n=1):
        return f"there is no {name!r}; did you mean {close[0]}?"
    return f"there is no {name!r}; there are {', '.join(sorted(known))}"
