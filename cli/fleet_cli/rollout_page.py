"""``fleet docs rollout``: the tables that move a version, as Markdown and as a diagram."""

from collections.abc import Iterator

from fleet_contract.names import Label
from fleet_contract.resources import RolloutStatus
from fleet_operator.decide import phases, requests
from fleet_operator.decide.rules.phase import AWAITED

INTRODUCTION = """\
<!-- Made by `make generate` from operator/fleet_operator/decide; edit that. -->
# How a version reaches the fleet

`spec.rollout` of a FleetTrainingJob says how; `status.rollout` says in one sentence what is
awaited and what to do. A version passes its gates ([gates.md](gates.md)), is under trial in one
stage after another, then promoted, taken back or superseded. While one is at its gates, under trial
or under watch, newer ones wait: the last one announced is tried next.

## A version's phase

"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION + diagram(), *_moves(), *_requests(), *_awaited(), RULES])


def diagram() -> str:
    """The table of moves as a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> Candidate: announced"]
    lines += [f"    {start} --> {end}" for start, end in phases.MOVES]
    return "\n".join([*lines, "```", ""])


def _moves() -> Iterator[str]:
    yield from ("| from | to | when |", "|---|---|---|")
    for (start, end), why in phases.MOVES.items():
        yield f"| {start} | {end} | {why} |"


def _requests() -> Iterator[str]:
    yield f"""
## Requests

Buttons are one annotation of the job, `{Label.REQUEST}: <verb>@<sequence>#<nonce>`; the
nonce makes a second press a new one. `status.lastHandledRequest` repeats it,
`status.rollout.answer` says what became of it. Each is done once. A version that stands elsewhere
is left alone, and the answer says what to do instead.

| verb | of a version that is | what it does |
|---|---|---|"""
    for verb, row in requests.TABLE.items():
        everywhere = len(row.allowed) == len(requests.Standing)
        at = (
            "any"
            if everywhere
            else ", ".join(one for one in requests.Standing if one in row.allowed)
        )
        yield f"| `{verb}` | {at} | {row.does} |"
    yield from ("", "| a version is | when it is |", "|---|---|")
    for standing, means in requests.MEANS.items():
        yield f"| {standing} | {means} |"


def _awaited() -> Iterator[str]:
    said = RolloutStatus.model_fields["phase"].description
    yield f"""
## What is awaited

`status.rollout.phase`: {said}

`status.rollout.message` says it in a sentence, `status.rollout.reason` in a word:

| reason | what to do |
|---|---|"""
    for reason, do in AWAITED.items():
        yield f"| `{reason}` | {do} |"
    yield ""


RULES = """\
## What the engine promises

- **Exposure.** Exactly the robots that a step says run the candidate, chosen by a hash of version
  and name. A share follows the fleet: robots that join come in, and who is in stays in. A robot
  that is offline is chosen last; one that stays away for two minutes gives its place to one that
  is connected. Offline robots never hold a stage up, and never count as healthy either: only
  judged episodes do.
- **Evidence.** A stage passes by its own episodes only; against a version all of its trial counts
  ([analysis.md](analysis.md)). Bad evidence takes it back at any time, outside of windows too; only
  a pause holds that as well.
- **Gates.** No robot runs a version before each gate that is asked for was passed, or skipped by
  name. A gate that says nothing, or cannot be run, passes nothing. A pin goes round them.
- **Windows and freezes.** No gate or stage begins, no version is promoted and no robot joins a
  stage while no window is open, or while the namespace carries the annotation
  `fleetloop.dev/freeze: <why>`. The freeze holds for every job of the namespace, and Git may own
  it; its end is seen at the next turn of a job, after `FLEET_RESYNC_SECONDS` at the latest. Where
  nobody has to say yes, a version is not even taken up meanwhile: the newest is tried when the
  window opens.
- **Pauses.** `spec.rollout.paused` is Git's, `pause` and `resume` are the operator's own: either
  freezes the fleet, and a pause does not count as time.
- **After a promotion.** With `spec.rollout.postPromotion` the whole fleet is judged for some
  time more. A bad verdict returns it to `status.lastKnownGood`, by a new assignment that names the
  older version, and the bad one counts as taken back.
- **Taken back** is for good: Git syncs, restarts and the learner's own words do not bring a version
  back. A pin does, and `retry` by its name.
- **Death.** All that the engine knows stands in the job's status. A new operator goes on from there
  and counts nothing twice.

```sh
kubectl annotate ftj/staged fleetloop.dev/request='skip@7#1' --overwrite
kubectl annotate namespace "$NAMESPACE" fleetloop.dev/freeze='fair week, ask Ana'
kubectl annotate namespace "$NAMESPACE" fleetloop.dev/freeze-   # go on
```
"""
