"""The rollout of one job: (what people want, what is, what was seen, now) → what shall be.

Pure. A version goes Candidate → Gated → Staged(k) → Promoted | RolledBack | Superseded by the
table in ``phases``. While one is under trial or watch, newer ones wait as a single candidate: the
last one announced, taken up when it ends. All it knows stands in ``State``, which is the job's
status: an operator's death forgets nothing.
"""

from collections.abc import Callable

from fleet_contract.resources import Rollout
from fleet_operator.decide.rollout_state import Decision, Known, Move, Note, Observed, State
from fleet_operator.decide.rules import (
    answers,
    arrivals,
    gates,
    members,
    pauses,
    phase,
    stages,
    watch,
)
from fleet_operator.decide.turn import Turn

__all__ = ["Decision", "Known", "Move", "Note", "Observed", "State", "decide"]

RULES: tuple[Callable[[Turn], None], ...] = (
    answers.answer,  # what people asked comes first
    pauses.keep_time,
    arrivals.give_way_to_pin,
    members.keep,
    stages.judge,
    watch.judge,
    gates.judge,
    arrivals.take_newest,
    gates.start,
    arrivals.begin,
    phase.name,
)
"""In this order; each sees what those before it decided."""
MOST = 8  # rounds; a trial that ends and the next one that begins are two, and one more is quiet


def decide(spec: Rollout, state: State, seen: Observed, now: float) -> Decision:
    """All that follows from what was seen: deciding again at once changes nothing."""
    turn = Turn(spec, state, seen, now)
    for _ in range(MOST):
        before = turn.state
        turn.hold = None  # each round says anew what is awaited
        for rule in RULES:
            rule(turn)
        if turn.state == before:
            break
    phase.tell(turn)
    return turn.done()
