"""The simulation gate: which Job to make or end, and what its run says of the version. Pure.

A run is known by its number, the version by the digest of its manifest. What counts is what a pod
of this very Job left behind as it ended with success; its absence passes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet_contract.errors import Reject
from fleet_contract.messages import GateReport
from fleet_contract.resources import GatePhase, GateStatus, GateTask, Simulation, VersionRef
from fleet_operator.decide.gates import ENDED, Report
from fleet_operator.decide.learner import Run
from fleet_operator.decide.pod import Pod

FIELD = "spec.rollout.gates.simulation"
_EPSILON = 1e-9  # of a quotient of two counts


class Seen(NamedTuple):
    """What is there of one run, and what it is about."""

    gate: Simulation
    status: GateStatus
    candidate: VersionRef
    tasks: tuple[str, ...]
    hash: str  # that its Job must carry
    runs: Sequence[Run] = ()
    pods: Sequence[Pod] = ()
    heard: GateReport | None = None  # the last that its process told, whichever run's
    stable: tuple[int, GateStatus] | None = None  # the stable version and what its own gate found
    suspended: bool = False
    settling: bool = False  # we listen for too short a time to know how far it is

    @property
    def run(self) -> Run | None:
        """Its Job, where there is one and it is not on its way out."""
        return next((one for one in self.runs if self.owns(one)), None)

    def owns(self, run: Run) -> bool:
        ours = run.ours and not run.deleting
        return ours and (run.number, run.hash) == (self.status.run, self.hash)

    @property
    def mine(self) -> list[Pod]:
        return [pod for pod in self.pods if self.run and pod.owner_uid == self.run.uid]


class Plan(NamedTuple):
    """What to make and what to end."""

    create: bool = False
    delete: tuple[Run, ...] = ()
    orphans: tuple[Pod, ...] = ()  # pods whose Job was deleted without them


def plan(seen: Seen | None, runs: Sequence[Run], pods: Sequence[Pod]) -> Plan:
    """One run at a time. The Job that ended last stays for whoever wants to read its log."""
    alive = [pod for pod in pods if pod.phase not in {"Succeeded", "Failed"}]
    jobs = {run.uid for run in runs}
    orphans = tuple(pod for pod in alive if pod.owner_uid not in jobs and not pod.deleting)
    wanted = seen is not None and not seen.suspended and seen.status.phase not in ENDED
    current = seen.run if seen is not None else None
    lost = wanted and current is not None and current.complete and not _succeeded(seen)
    over = [run for run in runs if run.complete or run.failed]
    kept = current if current is not None and (wanted or current in over) else None
    if kept is None and not wanted and over:
        kept = max(over, key=lambda run: run.number)
    delete = tuple(
        run for run in runs if run.ours and not run.deleting and (run is not kept or lost)
    )
    busy = [run for run in runs if seen is not None and run.number == seen.status.run]
    return Plan(wanted and current is None and not busy, delete, orphans)


def report(seen: Seen) -> Report:  # noqa: C901, PLR0911 - a list of rules, the first wins
    """Where the run stands."""
    number, what = seen.status.run, f"Version {seen.candidate.sequence}, simulation gate"

    def runs(message: str) -> Report:
        return Report(number, GatePhase.RUNNING, f"{what}{message}".rstrip(".") + ".")

    def blocked(why: str) -> Report:
        at = seen.candidate.sequence
        instead = f"Or request skip@{at} to go on without it, or abort@{at}."
        return Report(number, GatePhase.BLOCKED, f"{what} cannot be run: {why} {instead}")

    if seen.suspended:
        return runs(": it waits, for spec.suspend is true.")
    run = seen.run
    if run is None:
        return runs(": its Job is being made.")
    if (found := _result(seen)) is not None:
        return _verdict(seen, found)
    if run.complete and _succeeded(seen):
        return blocked(
            f"its pod ended with success and left no result. Correct {FIELD}.image to one of this "
            "release: another run begins by itself."
        )
    if run.failed:
        return blocked(_why_failed(seen, run))
    for pod in seen.mine:
        if pod.image_fault:
            return blocked(pod.without_image(f"{FIELD}.image"))
    if seen.settling and _told(seen) is None and any(pod.running for pod in seen.mine):
        return Report(number, GatePhase.RUNNING, seen.status.message)
    return runs(f", run {number}: {_progress(seen)}")


def _succeeded(seen: Seen | None) -> list[Pod]:
    return [] if seen is None else [pod for pod in seen.mine if pod.phase == "Succeeded"]


def _result(seen: Seen) -> GateReport | None:
    for pod in _succeeded(seen):
        try:
            found = GateReport.decode((pod.last.message if pod.last else "").encode())
        except Reject:
            continue
        if _fits(seen, found) and (found.fault or found.complete):
            return found
    return None


def _fits(seen: Seen, found: GateReport) -> bool:
    """It is of this run, this version, and what was asked."""
    return (
        (found.run, found.digest) == (seen.status.run, seen.candidate.digest)
        and found.episodes == seen.gate.episodes
        and set(found.successes) == set(seen.tasks)
        and all(0 <= won <= found.episodes for won in found.successes.values())
    )


def _told(seen: Seen) -> GateReport | None:
    return seen.heard if seen.heard and _fits(seen, seen.heard) else None


def _counted(seen: Seen, found: GateReport) -> tuple[GateTask, ...]:
    return tuple(
        GateTask(name=task, episodes=found.episodes, successes=found.successes[task])
        for task in seen.tasks
    )


def _verdict(seen: Seen, found: GateReport) -> Report:
    number = seen.status.run
    if found.fault:
        return Report(number, GatePhase.FAILED, f"it cannot be run: {found.fault}".rstrip("."))
    tasks, before = _counted(seen, found), _before(seen)
    words, good = [], True
    for task in tasks:
        share = task.successes / task.episodes
        asks = []
        if share < seen.gate.min_success_rate - _EPSILON:
            asks.append(f"at least {seen.gate.min_success_rate:.2f} is asked")
        known = before.get(task.name)
        if known is not None and seen.gate.max_drop is not None and seen.stable is not None:
            usual = known.successes / known.episodes
            if share < usual - seen.gate.max_drop - _EPSILON:
                stable = f"stable version {seen.stable[0]} had {usual:.2f}"
                asks.append(f"{stable} and a drop of {seen.gate.max_drop:.2f} is allowed")
        good = good and not asks
        why = f" ({share:.2f}, {', '.join(asks)})" if asks else ""
        words.append(f"{task.name} {task.successes} of {task.episodes}{why}")
    message = f"{', '.join(words)}, with seed {found.seed}"
    if seen.gate.max_drop is not None and not before:
        message += "; no stable version was run like this, so no drop was judged"
    return Report(number, GatePhase.PASSED if good else GatePhase.FAILED, message, tasks)


def _before(seen: Seen) -> Mapping[str, GateTask]:
    """What the stable version's own gate counted, where it asked the same."""
    if seen.gate.max_drop is None or seen.stable is None:
        return {}
    _, gate = seen.stable
    same = gate.phase is GatePhase.PASSED and gate.asked == seen.status.asked
    return {task.name: task for task in gate.tasks if task.episodes} if same else {}


def _why_failed(seen: Seen, run: Run) -> str:
    ends = [pod.last for pod in seen.mine if pod.last is not None and not pod.last.by_others]
    refused = next((end.words for end in ends if end.refused), "")
    anew = "another run begins by itself."
    if refused:
        return f"{refused} Correct {FIELD}: {anew}"
    if run.why == "DeadlineExceeded":
        how_far = _progress(seen).rstrip(".")
        return (
            f"it did not end within {seen.gate.deadline} ({how_far}). Raise {FIELD}.deadline: "
            f"{anew}"
        )
    said = ends[-1].words if ends else f"{run.failed}."
    return (
        f"Job {run.name} failed: {said} `kubectl logs job/{run.name}` tells more. Mend that, and "
        f"request retry@{seen.candidate.sequence}."
    )


def _progress(seen: Seen) -> str:
    heard = _told(seen)
    if heard is not None and heard.waits:
        return f"it waits for its policy: {heard.waits}"
    if heard is not None:
        return f"{heard.done} of {heard.episodes * len(seen.tasks)} episodes have ended."
    if any(pod.running for pod in seen.mine):
        return "its pod runs."
    trouble = next((pod.trouble for pod in reversed(seen.mine) if pod.trouble), "")
    return f"its pod does not run yet. {trouble}".strip()
