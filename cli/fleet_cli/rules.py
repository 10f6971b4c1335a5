"""The kinds' CEL rules in Python: the apiserver's verdict where there is no apiserver.

A rule that compares with what was before (``oldSelf``) needs a cluster and has no counterpart here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from fleet_contract.resources import FleetTrainingJobSpec, RolloutMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Path = tuple[str | int, ...]

HOLDS: dict[str, Callable[[Any], bool]] = {
    "self.tasks.exists(t, t.weight > 0.0)": lambda job: any(t.weight > 0 for t in job.tasks),
    "!has(self.rollout.gates.simulation) || self.rollout.gates.simulation.tasks.all("
    "one, self.tasks.exists(t, t.name == one))": lambda job: (
        (gate := job.rollout.gates.simulation) is None
        or {*gate.tasks} <= {task.name for task in job.tasks}
    ),
    "self.minOnline <= self.maxOnline": lambda sampler: sampler.min_online <= sampler.max_online,
    "self.batchSize % self.replicas == 0": lambda learner: (
        learner.batch_size % learner.replicas == 0
    ),
    "has(self.robots) != has(self.percent)": lambda step: (
        (step.robots is None) != (step.percent is None)
    ),
    "!has(self.robots) || !has(self.percent)": lambda shadow: (
        shadow.robots is None or shadow.percent is None
    ),
    "self.mode != 'Pinned' || has(self.pinnedVersion)": lambda rollout: (
        rollout.mode is not RolloutMode.PINNED or rollout.pinned_version is not None
    ),
}
"""By the rule's own text; a test sees that none is missing."""


def broken(part: BaseModel, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where a rule of this part of a resource, or of one inside it, is broken, and its words."""
    for rule in getattr(part, "rules", ()):
        if "oldSelf" not in rule["rule"] and not HOLDS[rule["rule"]](part):
            below = rule.get("fieldPath", "").split(".")[1:]
            yield (*path, *below), rule["message"]
    if isinstance(part, FleetTrainingJobSpec):
        yield from _repeated(part)
    for name, field in type(part).model_fields.items():
        value, below = getattr(part, name), (*path, field.alias or name)
        if isinstance(value, BaseModel):
            yield from broken(value, below)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from broken(item, (*below, index))


def _repeated(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    """Of a list that is a map by its items' names, or a set."""
    count = Counter(task.name for task in job.tasks)
    for index, task in enumerate(job.tasks):
        if count[task.name] > 1:
            yield ("tasks", index, "name"), f"{task.name!r} is the name of two tasks; rename one"
    gate = job.rollout.gates.simulation
    for index, name in enumerate(gate.tasks if gate else []):
        if name in (gate.tasks[:index] if gate else []):
            path = ("rollout", "gates", "simulation", "tasks", index)
            yield path, f"{name!r} stands here twice; once is enough"
