"""What tests of rollouts begin from: versions by number, a small fleet, states worth a name."""

from typing import Any

from fleet_contract.messages import digest_of
from fleet_contract.names import Gate as GateName
from fleet_contract.resources import (
    GatePhase,
    GateStatus,
    PolicyPhase,
    RolloutPhase,
    RolloutStatus,
    VersionRef,
)
from fleet_operator.decide.cohort import Robot
from fleet_operator.decide.gates import Gate, Report
from fleet_operator.decide.rollout import Known, State

NOW = 1_800_000_000.0  # Friday 2027-01-15, 08:00:00 UTC
THREE = tuple(Robot(f"r{index}") for index in range(1, 4))


def version(sequence: int) -> VersionRef:
    return VersionRef(
        name=f"job-v{sequence}",
        sequence=sequence,
        digest=digest_of(str(sequence).encode()),
        uri=f"versions/{sequence}",
    )


def known(**phases: PolicyPhase) -> dict[int, Known]:
    """``known(v2=...)``: the PolicyVersions there are."""
    return {int(name[1:]): Known(version(int(name[1:])), phase) for name, phase in phases.items()}


def on_trial(sequence: int = 2, *, robots: tuple[str, ...] = ("r1",), **fields: Any) -> State:
    """Version 1 is stable, the given one in its first stage since NOW."""
    rollout = RolloutStatus(
        phase=RolloutPhase.STAGED,
        candidate=version(sequence),
        robots=list(robots),
        started_at="2027-01-15T08:00:00Z",
        events_from=1,
    )
    return State(version(1), rollout.model_copy(update=fields), (), sequence)


def waiting(sequence: int = 2, **fields: Any) -> State:
    """Version 1 is stable, the given one the candidate that nobody runs yet."""
    rollout = RolloutStatus(candidate=version(sequence))
    return State(version(1), rollout.model_copy(update=fields), (), sequence)


ASKED = Gate(GateName.SIMULATION, "asked")
"""A gate of which nothing was heard."""


def said(phase: GatePhase, message: str = "it said so", run: int = 1) -> tuple[Gate, ...]:
    """What is seen of the one gate there is."""
    return (ASKED._replace(report=Report(run, phase, message)),)


def gated(sequence: int = 2, **fields: Any) -> State:
    """Version 1 is stable, the given one at its first gate since NOW."""
    status = GateStatus(
        name=ASKED.name, run=1, asked=ASKED.asked, started_at="2027-01-15T08:00:00Z"
    ).model_copy(update=fields)
    return waiting(sequence, gates=[status], last_gate_run=1)


def watched(**fields: Any) -> State:
    """Version 2 was promoted at NOW and is under watch, after version 1."""
    rollout = RolloutStatus(watching=True, started_at="2027-01-15T08:00:00Z", events_from=1)
    rollout = rollout.model_copy(update=fields)
    return State(version(2), rollout, (), 2, known_good=(version(1),))


STABLE = State(version(1), RolloutStatus(), (), 1)
