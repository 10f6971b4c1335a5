"""``fleet docs rollout``: the tables that move a version, as Markdown and as a diagram."""

from collections.abc import Iterator

from fleet_contract.names import Label
from fleet_contract.resources import RolloutStatus
from fleet_operator.decide import phases, requests

INTRODUCTION = """\
<!-- Made by `make generate` from operator/fleet_operator/decide; edit that. -->
# How a version reaches the fleet

`spec.rollout` of a FleetTrainingJob says how; `status.rollout` says in one sentence what is
awaited and what to do. A version is under trial in one stage after another, then promoted, taken
back or superseded. While one is under trial or under watch, newer ones wait: the last one announced
is tried next.

## A version's phase

"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION + diagram(), *_moves(), *_requests(), *_phases()])


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


def _phases() -> Iterator[str]:
    said = RolloutStatus.model_fields["phase"].description
    yield f"""
## status.rollout.phase

{said}
"""
