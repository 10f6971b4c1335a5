"""A pause, by Git or by request, stops the clocks of stage and watch."""

from datetime import datetime

from fleet_contract.resources.base import now_rfc3339
from fleet_operator.decide.turn import Turn


def keep_time(turn: Turn) -> None:
    since, started = turn.rollout.paused_at, turn.rollout.started_at
    if turn.paused:
        turn.update(paused_at=since or now_rfc3339(turn.now))
    elif since is not None:
        turn.update(paused_at=None)
        if started is not None:
            lasted = max(0.0, turn.now - datetime.fromisoformat(since).timestamp())
            began = datetime.fromisoformat(started).timestamp()
            turn.update(started_at=now_rfc3339(min(turn.now, began + lasted)))
