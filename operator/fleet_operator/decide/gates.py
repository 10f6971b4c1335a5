"""What any gate tells the rollout: what is asked, and what its run found. Pure.

Who runs it, a Job or robots, is nothing to the rules: a gate is its name, a hash of what is asked
and a report. A report of another run, or none, says nothing, and nothing is passed by silence.
"""

from typing import NamedTuple

from fleet_contract import names
from fleet_contract.resources import GatePhase, GateTask

OPEN = frozenset({GatePhase.PASSED, GatePhase.SKIPPED})
"""Nothing of this gate is in the way any more."""
ENDED = OPEN | {GatePhase.FAILED}


class Report(NamedTuple):
    """What is known of one run of a gate."""

    run: int
    phase: GatePhase = GatePhase.RUNNING
    message: str = ""
    """Running: how far it is. Blocked: why it cannot be run and what to do. Passed or Failed: what
    it measured against what was asked. Skipped: why there is nothing to ask. No full stop after
    the last three."""
    tasks: tuple[GateTask, ...] = ()
    robots: tuple[str, ...] = ()  # those that compute it, where robots do


class Gate(NamedTuple):
    """One gate that ``spec.rollout.gates`` asks for."""

    name: names.Gate
    asked: str
    """Differs where what is asked does: then it is run anew."""
    report: Report | None = None
