"""What a job names and only its pods know: asked of the plug-ins that are installed here.

Plug-ins are loaded by their entry points, as in the pods, so this program imports none of them.
One that is not installed here cannot be asked, and its job is let through.
"""

from __future__ import annotations

import contextlib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fleet_contract import parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet_contract.resources import FleetTrainingJobSpec, Task

Path = tuple[str | int, ...]
ALGORITHMS, POLICIES = "fleetloop.algorithms", "fleetloop.policies"
ENVIRONMENTS = "fleetloop.environments"


def refused(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    """What learner and robots would refuse: (path below spec, why)."""
    yield from _learning(job)
    yield from _gate(job)
    if _simulates(job):
        yield from _environments(job)


def doubtful(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    """What may be well in the cluster and looks odd from here."""
    if not _simulates(job):  # real robots bring worlds of their own
        yield from _environments(job)
    for index, dataset in enumerate(job.offline.datasets):
        where = urlsplit(dataset.uri)
        if where.scheme == "file" and not FilePath(where.path).is_dir():
            yield (
                ("offline", "datasets", index, "uri"),
                f"there is no folder {where.path} on this machine; the learner's pod needs one",
            )


def _learning(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    """Policy and algorithm: both are there, they fit each other and take these parameters."""
    wanted = {
        ("policy", "architecture"): (POLICIES, job.policy.architecture),
        ("algorithm", "name"): (ALGORITHMS, job.algorithm.name),
    }
    found: list[Any] = []
    for path, (group, name) in wanted.items():
        known = {point.name: point for point in entry_points(group=group)}
        if known and name not in known:
            yield path, parameters.unknown(name, known)
        elif known:
            # What our own distribution names may need what is not installed here.
            with contextlib.suppress(ImportError):
                found.append(known[name].load())
    if len(found) < len(wanted):
        return
    policy, algorithm = found
    trains = getattr(algorithm, "architectures", None)
    if trains and job.policy.architecture not in trains:
        what = f"{job.algorithm.name} trains {', '.join(sorted(trains))}; bc and hg-dagger any"
        yield ("policy", "architecture"), what
    kinds = policy.parameters, algorithm.parameters
    yield from parameters.faults(kinds, job.policy.parameters, job.algorithm.parameters)


def _simulates(job: FleetTrainingJobSpec) -> bool:
    """Whether somebody makes the worlds that the tasks name: robots, or a gate."""
    gate = job.rollout.gates.simulation
    return job.robots.simulated.replicas > 0 or (gate is not None and gate.environment is None)


def _gate(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    """The world that the simulation gate names is there and takes its parameters and tasks."""
    gate = job.rollout.gates.simulation
    known = {point.name: point for point in entry_points(group=ENVIRONMENTS)}
    if gate is None or gate.environment is None or not known:
        return
    name, path = gate.environment.name, ("rollout", "gates", "simulation", "environment")
    tasks = [one for one in job.tasks if not gate.tasks or one.name in gate.tasks]
    if name not in known:
        yield (*path, "name"), parameters.unknown(name, known)
    elif fault := _refusal(known[name], *tasks, **gate.environment.parameters):
        yield path, fault


def _environments(job: FleetTrainingJobSpec) -> Iterator[tuple[Path, str]]:
    known = {point.name: point for point in entry_points(group=ENVIRONMENTS)}
    if not known:
        return
    names = sorted({task.environment.name for task in job.tasks})
    if len(names) > 1:
        what = f"tasks name the environments {', '.join(names)}: one robot lives in one"
        yield ("tasks",), what
    good = True
    for index, task in enumerate(job.tasks):
        name = task.environment.name
        if name not in known:
            good = False
            yield ("tasks", index, "environment", "name"), parameters.unknown(name, known)
        elif fault := _refusal(known[name], task):
            good = False
            last = ("environment", "task") if task.environment.task else ("name",)
            yield ("tasks", index, *last), fault
    if good and len(names) == 1 and (fault := _refusal(known[names[0]], *job.tasks)):
        yield ("tasks",), fault


def world(job: FleetTrainingJobSpec) -> Any:
    """A robot that does all of a job's tasks; None where none is installed or there can be none."""
    names = {task.environment.name for task in job.tasks}
    points = [point for point in entry_points(group=ENVIRONMENTS) if point.name in names]
    if len(names) > 1 or not points:
        return None
    with contextlib.suppress(ImportError, LookupError, ValueError, TypeError):
        return points[0].load()(
            tuple(task.environment.task or task.name for task in job.tasks), seed=0
        )
    return None


def _refusal(point: EntryPoint, *tasks: Task, **given: Any) -> str:
    """Why no robot of an environment does all these tasks; empty where one does."""
    try:
        point.load()(tuple(task.environment.task or task.name for task in tasks), seed=0, **given)
    except ImportError:
        return ""
    except (LookupError, ValueError, TypeError) as fault:
        return str(fault)
    return ""
