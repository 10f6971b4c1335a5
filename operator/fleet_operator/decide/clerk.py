"""Whether a job's robots have somebody who lets them into the store. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from fleet_operator.decide.learner import Run
from fleet_operator.decide.pod import Pod


class ClerkPlan(NamedTuple):
    """What is to be done about its one Job; a creation never comes with a deletion."""

    create: bool = False
    delete: tuple[Run, ...] = ()
    fault: str = ""  # why robots are let in by nobody


def plan(*, wanted: bool, hash_: str, runs: Sequence[Run], pods: Sequence[Pod]) -> ClerkPlan:
    """One that is as it should be; what ended, or is another's work, goes first."""
    ours = [run for run in runs if run.ours]
    good = [one for one in ours if wanted and one.hash == hash_ and not _ended(one)]
    delete = tuple(one for one in ours if one not in good and not one.deleting)
    fault = next(filter(None, map(_fault, pods)), "")
    return ClerkPlan(wanted and not runs, delete, fault if wanted else "")


def _ended(run: Run) -> bool:
    return run.complete or bool(run.failed)


def _fault(pod: Pod) -> str:
    if pod.image_fault:
        return f"Robots are not let into the store. {pod.without_image('spec.learner.image')}"
    if pod.crashing:
        return f"Robots are not let into the store: its clerk ends again and again: {pod.why}"
    return ""
