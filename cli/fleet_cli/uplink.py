"""What a job's robots will send, and how long they can do without the learner.

Reckoned, not measured: each figure comes with what it assumes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet_cli import plugins
from fleet_contract.agents import SPOOL_BYTES, SPOOL_RECORDS
from fleet_contract.resources.base import seconds
from fleet_contract.resources.experience import ExperienceMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet_contract.resources import FleetTrainingJobSpec

JPEG = ((0, 0), (9_216, 2_000), (16_384, 6_000), (307_200, 80_000))
"""(pixels, bytes) of a frame at quality 90, as measured: the greatest (docs/cameras.md)."""
A_STEP = 22
"""Bytes beside observation and action: who acted, reward, time, age, place in the chunk."""


class Shape(NamedTuple):
    """What a robot sees and does in one control step, as far as the job tells."""

    observation: int
    action: int
    images: Mapping[str, tuple[int, ...]]  # camera → (Y, X, 3)
    lossless: bool
    horizon: int | None  # control steps of the longest episode
    source: str


class Uplink(NamedTuple):
    """Of one robot while it acts, resets left out."""

    mbits: float
    hours: float  # until its spool is full
    robots: int
    assumed: tuple[str, ...]


def uplink(job: FleetTrainingJobSpec) -> Uplink | str:
    """The figures, or why there are none."""
    simulated = job.robots.simulated
    shape = _told(job.policy.parameters.get("spaces")) or _world(job)
    if shape is None:
        return (
            "what robots will send is not known before the first policy: "
            "spec.policy.parameters.spaces is not given"
        )
    rate = simulated.control_hz * simulated.time_scale
    frames = [_frame(one, lossless=shape.lossless) for one in shape.images.values()]
    a_second = rate * (a_step(shape) + sum(frames))
    hours = SPOOL_BYTES / a_second / 3600
    sent = [shape.horizon / rate] if shape.horizon else []
    streaming = job.transport.experience.mode is ExperienceMode.STREAMING
    unit = "parts of episodes" if streaming else "episodes"
    if streaming:
        sent.append(seconds(job.transport.experience.every))
    if sent:
        hours = min(hours, SPOOL_RECORDS * min(sent) / 3600)
    cameras = [
        f"{name} {one[1]} × {one[0]} at {size / 1000:.1f} kB a frame "
        f"({'lossless, not compressed' if shape.lossless else 'JPEG at quality 90'})"
        for (name, one), size in zip(shape.images.items(), frames, strict=True)
    ]
    numbers = f"{shape.observation} numbers seen and {shape.action} done a step ({shape.source})"
    assumed = (
        f"{numbers}, not compressed",
        *cameras,
        f"{rate:g} steps a second",
        f"episodes of {shape.horizon / rate:.3g} s, the longest there are"
        if shape.horizon
        else "episodes long enough",
        f"a spool of {SPOOL_BYTES / 2**30:g} GiB and {SPOOL_RECORDS} {unit}, and a disk for it",
    )
    return Uplink(8e-6 * a_second, hours, simulated.replicas, assumed)


def line(found: Uplink | str) -> str:
    """For people."""
    if isinstance(found, str):
        return found
    fleet = f", {found.mbits * found.robots:.3g} from all {found.robots}" if found.robots else ""
    return (
        f"{found.mbits:.3g} Mbit/s from each robot while it acts{fleet}; its spool lasts "
        f"{found.hours:.3g} hours without the learner. Assumed: {'; '.join(found.assumed)}"
    )


def a_step(shape: Shape) -> int:
    """Bytes of the numbers of one step: seen, done, and what the policy wanted done."""
    return 4 * shape.observation + 8 * shape.action + A_STEP


def _frame(shape: tuple[int, ...], *, lossless: bool) -> float:
    pixels = shape[0] * shape[1]
    if lossless:
        return 3.0 * pixels
    for (low, less), (high, more) in pairwise(JPEG):
        if pixels <= high:
            return less + (more - less) * (pixels - low) / (high - low)
    most, size = JPEG[-1]
    return size * pixels / most


def _told(spaces: Any) -> Shape | None:
    """As the job itself tells; None where it does not, or not so that a learner would take it."""
    try:
        return Shape(
            int(spaces["observationSize"]),
            len(spaces["actionLow"]),
            {name: tuple(map(int, one)) for name, one in spaces.get("images", {}).items()},
            lossless=False,
            horizon=None,
            source="spec.policy.parameters.spaces",
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _world(job: FleetTrainingJobSpec) -> Shape | None:
    """As the environment's plug-in tells, where the operator makes the robots."""
    robot = plugins.world(job) if job.robots.simulated.replicas else None
    if robot is None:
        return None
    spec = robot.spec
    return Shape(
        spec.observation_size,
        spec.action_size,
        spec.images,
        lossless=spec.image_quality is None,
        horizon=spec.horizon,
        source=job.tasks[0].environment.name,
    )
