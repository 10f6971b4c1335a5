"""Who is in the stage, while robots come, go and stay away."""

from fleet_operator.decide import cohort
from fleet_operator.decide.rules import holds
from fleet_operator.decide.turn import Turn


def keep(turn: Turn) -> None:
    candidate = turn.state.candidate
    if candidate is None or not turn.state.started or turn.paused:
        return
    grow = holds.calendar(turn) is None
    robots = cohort.maintain(
        turn.seen.robots, turn.step, candidate.digest, turn.rollout.robots, grow=grow
    )
    turn.update(robots=robots)
