"""Is a candidate as good as what the fleet runs? A list of rules, the first that speaks decides."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from fleet_contract.names import Reason
from fleet_contract.resources import Analysis, Step, seconds
from fleet_operator.decide import sequential
from fleet_operator.decide.evidence import Evidence, Fold, Scope, Task, gather
from fleet_operator.decide.sequential import Compared, Tally

LATE = 0.1
"""Share of episodes that may be slower than a bound on time."""
NAMED = 3  # tasks a sentence tells of

__all__ = ["Evidence", "Fold", "Judgement", "Scope", "Verdict", "gather", "judge"]


class Verdict(StrEnum):
    """What the evidence says of a stage."""

    WAIT = "wait"
    DOUBT = "doubt"
    """It has its episodes, and a rate under the floor that may be chance."""
    FREEZE = "freeze"
    """It has its episodes, but something that must be known is not."""
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"


class Judgement(NamedTuple):
    """A verdict, and why: a clause that begins small and ends without a stop."""

    verdict: Verdict
    reason: Reason
    message: str


def judge(step: Step, analysis: Analysis, evidence: Evidence, elapsed: float) -> Judgement:
    """The stage's verdict after ``elapsed`` seconds in it.

    What is surely bad fails at once, at any number of episodes. A pass wants the step's episodes
    and its soak, a rate not under the floor, and that the cohort is heard.
    """
    for rule in FAILS:
        if said := rule(analysis, evidence):
            return Judgement(Verdict.FAIL, *said)
    figures = f"{evidence.successes} of {evidence.episodes} judged episodes succeeded"
    soak = f" and {step.soak} of soak" if seconds(step.soak) else ""
    if evidence.episodes < step.min_episodes or elapsed < seconds(step.soak):
        more = f"{figures}; awaits {step.min_episodes} episodes{soak}"
        return Judgement(Verdict.WAIT, Reason.AWAITING_EPISODES, more)
    if missing := _missing(analysis, evidence):
        return Judgement(Verdict.FREEZE, Reason.TELEMETRY_MISSING, missing)
    if evidence.rate < analysis.min_success_rate:
        floor = f"the floor is {analysis.min_success_rate:.0%}"
        more = f"{figures}, {floor}: that may be chance; awaits more episodes"
        return Judgement(Verdict.DOUBT, Reason.AWAITING_EPISODES, more)
    return Judgement(Verdict.PASS, Reason.CANARY_PASSED, figures)


# --- what fails, in order -----------------------------------------------------------------

Said = tuple[Reason, str] | None


def _refused(_: Analysis, evidence: Evidence) -> Said:
    # Who does not run it never ends an episode under it.
    return (Reason.POLICY_REFUSED, evidence.refusal) if evidence.refusal else None


def _tripped(analysis: Analysis, evidence: Evidence) -> Said:
    if evidence.guard_trips <= analysis.max_guard_trips:
        return None
    return (Reason.GUARD_TRIPPED, f"{evidence.guard_trips} guard trips in its trial")


def _worse(analysis: Analysis, evidence: Evidence) -> Said:
    drop, rate = analysis.success_drop, analysis.false_rollback_rate
    against = [task.seen for task in evidence.by_task]
    if not drop or not sequential.surely_worse(against, drop, rate):
        return None
    return (Reason.WORSE_THAN_STABLE, _told(evidence.by_task))


def _low(analysis: Analysis, evidence: Evidence) -> Said:
    seen = [task.seen.candidate for task in evidence.by_task]
    total = Tally(sum(one.episodes for one in seen), sum(one.successes for one in seen))
    if not beyond(analysis, total, 1 - analysis.min_success_rate):
        return None
    told = f"{total} judged episodes succeeded, the floor is {analysis.min_success_rate:.0%}"
    return (Reason.SUCCESS_BELOW_THRESHOLD, told)


def _helped(analysis: Analysis, evidence: Evidence) -> Said:
    if (most := analysis.max_intervention_rate) is None:
        return None
    judged = sum(task.seen.candidate.episodes for task in evidence.by_task)
    if not beyond(analysis, Tally(judged, judged - evidence.needed), most):
        return None
    told = f"a person had to step in in {evidence.needed} of {judged} episodes, {most:.0%} may be"
    return (Reason.TOO_MANY_INTERVENTIONS, told)


def _needier(analysis: Analysis, evidence: Evidence) -> Said:
    rise, rate = analysis.intervention_rise, analysis.false_rollback_rate
    tasks = [task.alone for task in evidence.by_task]
    if not rise or not sequential.surely_worse(tasks, rise, rate):
        return None
    own, others = (
        Tally(*map(sum, zip(*whose, strict=True)))
        for whose in ([one.candidate for one in tasks], [one.stable for one in tasks])
    )
    told = (
        f"a person had to step in in {own.failures} of {own.episodes} episodes, against "
        f"{others.failures} of {others.episodes} on the stable version meanwhile"
    )
    return (Reason.TOO_MANY_INTERVENTIONS, told)


def _slow(analysis: Analysis, evidence: Evidence) -> Said:
    for bound, times, reason, what in (
        (
            analysis.max_inference_latency,
            evidence.latencies,
            Reason.INFERENCE_TOO_SLOW,
            "episodes had an inference of",
        ),
        (analysis.max_cycle_time, evidence.cycles, Reason.CYCLE_TOO_LONG, "successes took"),
    ):
        if bound is None:
            continue
        late = sum(time > seconds(bound) for time in times)
        if beyond(analysis, Tally(len(times), len(times) - late), LATE):
            return (reason, f"{late} of {len(times)} {what} more than {bound}")
    return None


FAILS: tuple[Callable[[Analysis, Evidence], Said], ...] = (
    _tripped,
    _refused,
    _worse,
    _low,
    _helped,
    _needier,
    _slow,
)


# --- what rules are made of ---------------------------------------------------------------


def beyond(analysis: Analysis, good: Tally, most: float) -> bool:
    """Whether the share of bad ones is surely greater than ``most``."""
    drop, rate = analysis.success_drop, analysis.false_rollback_rate
    return sequential.surely_below(good, 1 - most, drop, rate)


def _missing(analysis: Analysis, evidence: Evidence) -> str:
    if evidence.silence > seconds(analysis.max_silence):
        return f"no episode of its robots ended for {evidence.silence:.0f} s"
    if analysis.max_inference_latency is not None and not evidence.latencies:
        return "maxInferenceLatency is set, but its robots tell no inference latency"
    return ""


def _told(tasks: tuple[Task, ...]) -> str:
    """The tasks that speak against it, the worst first."""

    def lost(seen: Compared) -> float:
        base = Tally(*map(sum, zip(seen.stable, seen.history, strict=True)))
        if not base.episodes or not seen.candidate.episodes:
            return 0.0
        expected = seen.candidate.episodes * base.successes / base.episodes
        return expected - seen.candidate.successes

    worst = sorted(
        (task for task in tasks if lost(task.seen) > 0), key=lambda task: -lost(task.seen)
    )
    said = []
    for name, seen, _ in worst[:NAMED]:
        bases = (
            ("on the stable version", seen.stable),
            ("on the stable version before the trial", seen.history),
        )
        against = " and ".join(f"{base} {where}" for where, base in bases if base.episodes)
        said.append((f"{name}: " if name else "") + f"{seen.candidate} against {against}")
    return "; ".join(said)
