"""A pause, by Git or by request, stops the clocks of stage, watch and gates.

So does a suspended job, of which no robot is at work: nobody could gather what they wait for.
"""

from datetime import datetime

from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide.gates import ENDED
from fleet_operator.decide.turn import Turn


def keep_time(turn: Turn) -> None:
    since, started = turn.rollout.paused_at, turn.rollout.started_at
    if turn.stands:
        turn.update(paused_at=since or now_rfc3339(turn.now))
    elif since is not None:
        turn.update(paused_at=None)
        if started is not None:
            turn.update(started_at=_later(turn, since, started))
        for gate in turn.rollout.gates:
            if gate.started_at is not None and gate.phase not in ENDED:
                began = {"started_at": _later(turn, since, gate.started_at)}
                turn.put_gate(gate.model_copy(update=began))


def _later(turn: Turn, since: str, started: str) -> str:
    """What began then, as if there had been no pause since."""
    lasted = max(0.0, turn.now - datetime.fromisoformat(since).timestamp())
    began = datetime.fromisoformat(started).timestamp()
    return now_rfc3339(min(turn.now, began + lasted))
