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
    """What an algorithm is given, in its own spelling; its own parameters come last."""
    return {
        **{snake(key): value for key, value in policy.items() if key != APART},
        **{snake(key): value for key, value in algorithm.items()},
    }


def faults(
    model: type[BaseModel], policy: Mapping[str, Any], algorithm: Mapping[str, Any]
) -> Iterator[Fault]:
    """What is wrong with a job's parameters, each at the field that people wrote."""
    try:
        model.model_validate(merged(policy, algorithm))
    except ValidationError as fault:
        origin = {snake(key): (*POLICY, key) for key in policy if key != APART}
        origin |= {snake(key): (*ALGORITHM, key) for key in algorithm}
        for error in fault.errors(include_url=False):
            name, *below = error["loc"] or ("",)
            path = (*origin.get(str(name), (*ALGORITHM, str(name))), *below)
            if error["type"] == "extra_forbidden":
                yield Fault(path, unknown(str(path[-1]), map(camel, model.model_fields)))
            else:
                yield Fault(path, f"{error['msg']}; found {error['input']!r:.60}")


def unknown(name: str, allowed: Any) -> str:
    """There is no such name: the nearest one, or all of them."""
    known = list(allowed)
    if close := get_close_matches(name, known, n=1):
        return f"there is no {name!r}; did you mean {close[0]}?"
    return f"there is no {name!r}; there are {', '.join(sorted(known))}"
