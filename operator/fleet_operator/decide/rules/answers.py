"""What people asked for by the annotation, once each; the table is in ``decide.requests``."""

from collections.abc import Callable, Mapping

from fleet_contract.names import Reason, Verb
from fleet_contract.resources import (
    GatePhase,
    GateStatus,
    PolicyPhase,
    RolloutMode,
    VersionRef,
)
from fleet_contract.resources.base import REQUEST_MAX, now_rfc3339
from fleet_operator.decide.requests import FORM, TABLE, Request, Standing, helpful, parse
from fleet_operator.decide.rules import gates, holds
from fleet_operator.decide.turn import Turn


class RefusalError(ValueError):
    """Why it is not done, and what to do instead."""


def answer(turn: Turn) -> None:
    """Done or refused; either way it is repeated in status and not looked at again."""
    text = turn.seen.request[:REQUEST_MAX]
    if not text or text == turn.state.last_handled_request:
        return
    turn.state = turn.state._replace(last_handled_request=text)
    try:
        said = _do(turn, parse(text))
    except RefusalError as why:
        said = f"{text[:64]} was not done: {why}."
        turn.tell(Reason.REQUEST_REFUSED, said, warning=True)
    turn.update(answer=said)


def standing(turn: Turn, sequence: int) -> Standing:
    """Where the version stands; the job's own status counts for more than the version's."""
    state, newest = turn.state, turn.seen.announced
    if state.candidate and state.candidate.sequence == sequence:
        waits = Standing.GATED if state.gated else Standing.WAITING
        return Standing.STAGED if state.started else waits
    if state.stable and state.stable.sequence == sequence:
        return Standing.STABLE
    if newest and newest.sequence == sequence and turn.is_new(newest):
        return Standing.NEWEST
    known = turn.seen.known.get(sequence)
    if known is None or sequence > state.last_sequence:
        return Standing.ELSEWHERE
    if sequence in state.rolled_back:
        return Standing.BACK
    return Standing.ELSEWHERE if known.phase is PolicyPhase.PROMOTED else Standing.SUPERSEDED


def _do(turn: Turn, request: Request | None) -> str:
    if request is None:
        raise RefusalError(f"it is unknown: {FORM}")
    at, sequence = standing(turn, request.sequence), request.sequence
    if at not in TABLE[request.verb].allowed:
        verbs = ", ".join(f"{verb}@{sequence}" for verb in helpful(at))
        candidate, stable = turn.state.candidate, turn.state.stable
        instead = f"it takes {verbs}" if verbs else "there is nothing to ask of it"
        raise RefusalError(
            f"version {sequence} is {at}, and {instead}; under trial is "
            f"{f'version {candidate.sequence}' if candidate else 'none'}, stable is "
            f"{f'version {stable.sequence}' if stable else 'none'}"
        )
    if of_fleet := OF_FLEET.get(request.verb):
        return of_fleet(turn)
    return OF_VERSION[request.verb](turn, _ref(turn, at, sequence), at)


def _ref(turn: Turn, at: Standing, sequence: int) -> VersionRef:
    state = turn.state
    ours = {
        Standing.WAITING: state.candidate,
        Standing.GATED: state.candidate,
        Standing.STAGED: state.candidate,
        Standing.NEWEST: turn.seen.announced,
    }
    return ours.get(at) or turn.seen.known[sequence].ref


# --- one function a verb: does it and says so, or raises ------------------------------------


def _promote(turn: Turn, version: VersionRef, at: Standing) -> str:
    if turn.spec.mode is not RolloutMode.MANUAL:
        raise RefusalError(
            f"in mode {turn.spec.mode} versions go on by themselves; skip@{version.sequence} "
            "leaves a running stage without its evidence"
        )
    _take_newest(turn, version, at)
    turn.update(confirmed=True)
    return f"Version {version.sequence} goes on as soon as it may."


def _approve(turn: Turn, version: VersionRef, at: Standing) -> str:
    if not holds.needs_approval(turn):
        raise RefusalError("spec.rollout.approval asks for none; nothing to do")
    _take_newest(turn, version, at)
    turn.update(approved=True)
    said = f"Version {version.sequence} is approved."
    turn.tell(Reason.APPROVED, said)
    return said


def _abort(turn: Turn, version: VersionRef, _: Standing) -> str:
    turn.roll_back(version, Reason.ABORTED, "by request")
    return f"Version {version.sequence} is taken back."


def _pause(turn: Turn) -> str:
    if turn.rollout.paused:
        raise RefusalError("a request paused the fleet before; nothing to do")
    turn.update(paused=True)
    return "The fleet is paused until resume is requested."


def _resume(turn: Turn) -> str:
    if not turn.rollout.paused and not turn.rollout.frozen:
        by_git = "; set spec.rollout.paused to false where it was set" * turn.spec.paused
        raise RefusalError(f"no request paused the fleet, no stage ran into its deadline{by_git}")
    if turn.rollout.frozen:
        turn.update(frozen=False, started_at=now_rfc3339(turn.now), paused_at=None)
    turn.update(paused=False)
    also = " spec.rollout.paused still holds it." * turn.spec.paused
    return f"The rollout goes on.{also}"


def _retry(turn: Turn, version: VersionRef, at: Standing) -> str:
    if at is Standing.GATED:
        return _gates_anew(turn, version)
    _be_free(turn)
    back = {Standing.BACK: PolicyPhase.ROLLED_BACK, Standing.SUPERSEDED: PolicyPhase.SUPERSEDED}
    kept = tuple(one for one in turn.state.rolled_back if one != version.sequence)
    turn.state = turn.state._replace(rolled_back=kept)
    turn.take(version, Reason.RETRIED, "Tried again by request.", back[at])
    return f"Version {version.sequence} is the candidate once more."


def _gates_anew(turn: Turn, version: VersionRef) -> str:
    said = f"Version {version.sequence} passes its gates anew."
    for status in turn.rollout.gates:
        forgotten = {"phase": GatePhase.RUNNING, "run": 0, "asked": "", "message": said}
        turn.put_gate(status.model_copy(update={**forgotten, "tasks": []}))
    return said


def _skip_gate(turn: Turn, version: VersionRef) -> str:
    gate = gates.following(turn)
    if gate is None:
        raise RefusalError("its gates are passed, and no stage has begun that could be skipped")
    said = f"Version {version.sequence} goes on without its {gate.name} gate, by request."
    status = turn.gate(gate.name) or GateStatus(name=gate.name)
    turn.put_gate(status.model_copy(update={"phase": GatePhase.SKIPPED, "message": said}))
    turn.tell(Reason.GATE_SKIPPED, said)
    return said


def _skip(turn: Turn, version: VersionRef, at: Standing) -> str:
    if turn.paused:
        raise RefusalError("the fleet is paused, and nobody moves; resume it first")
    if at is Standing.GATED:
        return _skip_gate(turn, version)
    if hold := holds.calendar(turn):
        raise RefusalError(f"{hold.message.rstrip('.')}; ask again then")
    stage = turn.stage
    turn.forward(version, Reason.STAGE_SKIPPED, f"{stage} was skipped by request")
    return f"Version {version.sequence} left {stage} without its evidence."


def _rollback(turn: Turn) -> str:
    if turn.spec.mode is RolloutMode.PINNED:
        raise RefusalError("the fleet is pinned; change spec.rollout.pinnedVersion instead")
    if turn.paused:
        raise RefusalError("the fleet is paused, and nobody moves; resume it first")
    if not turn.state.known_good:
        raise RefusalError("there is no version before it; pin one by spec.rollout.pinnedVersion")
    turn.give_back(Reason.ROLLED_BACK_BY_REQUEST, "by request")
    return turn.rollout.message


def _take_newest(turn: Turn, version: VersionRef, at: Standing) -> None:
    if at is Standing.NEWEST:
        _be_free(turn)
        turn.take(version, Reason.ANNOUNCED, "The learner announced it.")


def _be_free(turn: Turn) -> None:
    """A trial or a watch that runs is not cut short unasked."""
    candidate, stable = turn.state.candidate, turn.state.stable
    if turn.spec.mode is RolloutMode.PINNED:
        raise RefusalError("the fleet is pinned; leave mode Pinned, or pin it to that version")
    if candidate and turn.state.started:
        raise RefusalError(
            f"version {candidate.sequence} is on trial: abort@{candidate.sequence} first, or wait"
        )
    if stable and turn.rollout.watching:
        raise RefusalError(
            f"version {stable.sequence} is under watch: wait, or rollback@{stable.sequence}"
        )


OF_FLEET: Mapping[Verb, Callable[[Turn], str]] = {
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.ROLLBACK: _rollback,
}
OF_VERSION: Mapping[Verb, Callable[[Turn, VersionRef, Standing], str]] = {
    Verb.PROMOTE: _promote,
    Verb.ABORT: _abort,
    Verb.RETRY: _retry,
    Verb.SKIP: _skip,
    Verb.APPROVE: _approve,
}
