"""The shadow gate: who computes a candidate beside what they run, and what that says. Pure.

No robot acts on a version here, so nothing is known of its success: a pass says that on what the
robots saw it answered in time, within bounds and much like the version that acts.
"""

import hashlib
from collections.abc import Sequence

from fleet_contract import names
from fleet_contract.messages import canonical
from fleet_contract.resources import (
    Analysis,
    GatePhase,
    GateStatus,
    Rollout,
    Shadow,
    Step,
    VersionRef,
    seconds,
)
from fleet_operator.decide import analysis, cohort
from fleet_operator.decide.beside import Beside
from fleet_operator.decide.gates import Gate, Report
from fleet_operator.decide.rollout_state import State
from fleet_operator.decide.sequential import Tally

COMPUTES = frozenset({GatePhase.RUNNING, GatePhase.BLOCKED})
"""What is blocked by its deadline may still be heard of."""
NAMED = 3  # robots a sentence tells of


def running(state: State) -> GateStatus | None:
    """The candidate's shadow gate, while robots compute for it."""
    if state.candidate is None or state.started:
        return None
    gates = (gate for gate in state.rollout.gates if gate.name is names.Gate.SHADOW)
    return next((gate for gate in gates if gate.phase in COMPUTES), None)


def gate(
    spec: Rollout, state: State, robots: Sequence[cohort.Robot], found: Beside, elapsed: float
) -> Gate | None:
    """The gate as it stands ``elapsed`` seconds after it began; None: it is not asked for."""
    asked = spec.gates.shadow
    if asked is None:
        return None
    made = Gate(names.Gate.SHADOW, _hash(asked))
    status, candidate, stable = running(state), state.candidate, state.stable
    if status is None or candidate is None or status.asked != made.asked:
        return made
    if stable is None:
        over = "no version drives yet, so none can compute beside it"
        return made._replace(report=Report(status.run, GatePhase.SKIPPED, over))
    chosen = tuple(choose(asked, robots, candidate.digest, status.robots))
    phase, said = judge(asked, spec.analysis, found, elapsed)
    if phase is GatePhase.RUNNING:
        said = _progress(candidate, stable, robots, chosen, said)
    elif phase is GatePhase.BLOCKED:
        said = _late(candidate, robots, chosen, said)
    return made._replace(report=Report(status.run, phase, said, robots=chosen))


def choose(
    asked: Shadow, robots: Sequence[cohort.Robot], salt: str, current: Sequence[str]
) -> list[str]:
    """As a stage of that size would be: who computes it first is who acts on it first."""
    count = asked.robots if asked.robots or asked.percent else 1
    step = Step(robots=count, percent=asked.percent, selector=asked.selector)
    return cohort.maintain(robots, step, salt, current)


def judge(asked: Shadow, bounds: Analysis, found: Beside, elapsed: float) -> tuple[GatePhase, str]:
    """Where it stands and why: a clause. Silence never passes; a fault fails at any number."""
    if found.refusal:
        return GatePhase.FAILED, found.refusal
    if found.tripped > bounds.max_guard_trips:
        return GatePhase.FAILED, (
            f"the guard would have stopped it in {found.tripped} episodes ({found.trips})"
        )
    if slow := _slow(asked, bounds, found):
        return GatePhase.FAILED, slow
    figures = _figures(asked, found)
    if found.episodes >= asked.min_episodes:
        agrees = found.disagreement <= asked.max_disagreement
        return GatePhase.PASSED if agrees else GatePhase.FAILED, figures
    if elapsed >= seconds(asked.deadline):
        return GatePhase.BLOCKED, figures
    return GatePhase.RUNNING, figures


def _slow(asked: Shadow, bounds: Analysis, found: Beside) -> str:
    bound = asked.max_inference_latency or bounds.max_inference_latency
    if bound is None:
        return ""
    late = sum(time > seconds(bound) for time in found.latencies)
    count = len(found.latencies)
    if not analysis.beyond(bounds, Tally(count, count - late), analysis.LATE):
        return ""
    return f"{late} of {count} episodes had an inference of more than {bound}"


def _figures(asked: Shadow, found: Beside) -> str:
    if not found.episodes:
        return f"0 of {asked.min_episodes} episodes compared"
    slowest = f", slowest inference {max(found.latencies):.3f} s" if found.latencies else ""
    people = "" if found.human is None else f", with people {found.human:.2f}"
    return (
        f"{found.episodes} of {asked.min_episodes} episodes compared, disagreement "
        f"{found.disagreement:.2f} (at most {asked.max_disagreement:.2f}){people}{slowest}, "
        f"{found.skipped:.0%} of the chunks skipped"
    )


def _progress(
    candidate: VersionRef,
    stable: VersionRef,
    robots: Sequence[cohort.Robot],
    chosen: Sequence[str],
    figures: str,
) -> str:
    at = candidate.sequence
    if not _there(robots, chosen):
        return (
            f"Version {at} waits for a robot that may compute it beside version "
            f"{stable.sequence}: connected, not suspended, not pinned, chosen by the gate's "
            f"selector; {figures}."
        )
    return (
        f"Version {at} computes beside version {stable.sequence} on {_names(chosen)} and moves "
        f"nothing: {figures}."
    )


def _late(
    candidate: VersionRef, robots: Sequence[cohort.Robot], chosen: Sequence[str], figures: str
) -> str:
    at = candidate.sequence
    heard = _names(chosen) if _there(robots, chosen) else "no connected robot"
    return (
        f"Version {at} is held, its shadow gate ran into its deadline with {figures} by {heard}. "
        "Look whether those robots run episodes under the stable version and whether their "
        f"program knows shadows; then request retry@{at}, or skip@{at} or abort@{at}."
    )


def _there(robots: Sequence[cohort.Robot], chosen: Sequence[str]) -> bool:
    return any(robot.connected and robot.name in chosen for robot in robots)


def _names(chosen: Sequence[str]) -> str:
    more = f" and {len(chosen) - NAMED} more" if len(chosen) > NAMED else ""
    return ", ".join(chosen[:NAMED]) + more


def _hash(asked: Shadow) -> str:
    """Of who is asked; bounds alone are applied to what was told already."""
    who = asked.model_dump(mode="json", include={"robots", "percent", "selector"})
    dumped = {key: str(value) for key, value in who.items()}
    return hashlib.sha256(canonical(dumped)).hexdigest()[:16]
