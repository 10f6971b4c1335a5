"""After a promotion: the fleet's own evidence, by the same analysis, for as long as was asked."""

from fleet_contract.names import Reason
from fleet_contract.resources import Step, seconds
from fleet_operator.decide.analysis import Verdict
from fleet_operator.decide.rollout_state import Hold
from fleet_operator.decide.turn import USUAL, Turn


def judge(turn: Turn) -> None:
    stable, watch = turn.state.stable, turn.spec.post_promotion
    if stable is None or not turn.rollout.watching:
        return
    turn.recount()
    if turn.paused:
        return
    step = Step(percent=100, min_episodes=watch.min_episodes or USUAL, soak=watch.soak)
    said, found = turn.judge(step), turn.evidence
    low = found.episodes > 0 and found.rate < turn.spec.analysis.min_success_rate
    # It may be chance; more episodes will tell, or the next version.
    doubted = turn.watchful and low and not turn.gives_way(watch.min_episodes)
    if said.verdict is Verdict.FAIL and turn.state.known_good:
        turn.give_back(said.reason, f"under watch, {said.message}")
    elif (
        found.episodes >= watch.min_episodes and turn.elapsed >= seconds(watch.soak) and not doubted
    ):
        how = "ended its watch undecided" if low else "passed its watch"
        message = f"Version {stable.sequence} {how}: {turn.figures}."
        turn.renew(message=message)
        turn.tell(Reason.WATCH_PASSED, message)
    else:
        turn.hold = Hold(
            Reason.WATCH_STARTED,
            f"Version {stable.sequence} runs on the fleet, under watch: {turn.figures}; awaits "
            f"{watch.min_episodes} episodes and {watch.soak}. Newer versions wait; request "
            f"rollback@{stable.sequence} to take it back.",
        )
