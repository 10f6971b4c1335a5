"""How each algorithm plays the demo: its parameters at this scale, and what it may be asked for.

HG-DAgger imitates the human who helps, so two cores and five minutes are enough for it. The other
two learn more than a policy (RECAP a value, DIVL+QAM critics too, whose every update walks a flow
of ten steps twice), so the same minutes hold fewer updates, and their goals are lower.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet_contract.parameters import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping


class Course(NamedTuple):
    """What one algorithm changes in the demo."""

    goal: float  # mean success to confirm
    demonstrations: int  # of each task
    minutes: float
    spec: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    """Part of the job's spec → the fields that replace those of job.yaml."""
    why: str = ""
    """In words for the screen, where its goal is not the usual one."""


DEFAULT = "hg-dagger"
COURSES = {
    DEFAULT: Course(goal=0.9, demonstrations=1, minutes=5.0),
    "recap": Course(
        goal=0.75,
        demonstrations=1,
        minutes=6.0,
        # Attempts end after 200 steps, and returns are told in units of the longest.
        spec={"algorithm": {"name": "recap", "parameters": {"longest": 200}}},
        why="it must learn from one demonstration a task which of the fleet's actions were good",
    ),
    "divl-qam": Course(
        goal=0.75,
        demonstrations=5,
        minutes=8.0,
        spec={
            "algorithm": {
                "name": "divl-qam",
                "parameters": {
                    "bcSteps": 2000, "hidden": 128, "temperature": 0.03, "flowSteps": 10,
                },
            },
            "sampler": {"mode": "Balanced"},
            "offline": {"steps": 2500},
            "learner": {"batchSize": 64, "updatesPerEpisode": 25},
        },
        why="an update costs ten of the others' and imitates no help, so it starts from five "
        "demonstrations a task and climbs from there",
    ),
}  # fmt: skip


def course(algorithm: str) -> Course:
    """ValueError names the algorithms that have one."""
    if algorithm not in COURSES:
        raise ValueError(f"among the demo's algorithms {unknown(algorithm, COURSES)}")
    return COURSES[algorithm]


def cast(job: dict[str, Any], chosen: Course) -> None:
    """Put the course into a job."""
    for part, fields in chosen.spec.items():
        job["spec"][part] = job["spec"].get(part, {}) | dict(fields)
