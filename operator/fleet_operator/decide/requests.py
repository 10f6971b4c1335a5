"""Buttons: the annotation ``fleetloop.dev/request: <verb>@<sequence>#<nonce>``.

One table says of each verb where the version must stand for it, and what it then does.
"""

import re
from enum import StrEnum
from typing import NamedTuple

from fleet_contract import names
from fleet_contract.names import Verb


class Standing(StrEnum):
    """Where the version that a request names stands."""

    NEWEST = "newest"
    WAITING = "waiting"
    GATED = "at its gates"
    STAGED = "on trial"
    STABLE = "stable"
    BACK = "taken back"
    SUPERSEDED = "superseded"
    ELSEWHERE = "not at hand"


MEANS = {
    Standing.NEWEST: "announced last, and not tried yet",
    Standing.WAITING: "the candidate, which no robot runs yet",
    Standing.GATED: "the candidate, which passes its gates before a robot runs it",
    Standing.STAGED: "the candidate, which robots try",
    Standing.STABLE: "what the fleet runs",
    Standing.BACK: "taken back, and its PolicyVersion is still there",
    Standing.SUPERSEDED: "superseded, and its PolicyVersion is still there",
    Standing.ELSEWHERE: "none of these: never tried, no longer kept, or replaced by a later one",
}


class Row(NamedTuple):
    """One verb."""

    allowed: frozenset[Standing]
    does: str


_TRIAL = frozenset({Standing.WAITING, Standing.GATED, Standing.STAGED})
TABLE: dict[Verb, Row] = {
    Verb.PROMOTE: Row(
        _TRIAL | {Standing.NEWEST},
        "In mode Manual: lets it begin, or go on as soon as its stage has passed. It never skips "
        "evidence.",
    ),
    Verb.ABORT: Row(_TRIAL, "Takes it back, for good."),
    Verb.PAUSE: Row(
        frozenset(Standing), "Freezes the fleet: no robot takes another version up. Of any version."
    ),
    Verb.RESUME: Row(
        frozenset(Standing),
        "Ends a pause that was requested; gives a stage that ran into its deadline that time "
        "again. Of any version.",
    ),
    Verb.RETRY: Row(
        frozenset({Standing.BACK, Standing.SUPERSEDED, Standing.GATED}),
        "Makes it the candidate once more; one at its gates passes all of them anew.",
    ),
    Verb.SKIP: Row(
        frozenset({Standing.GATED, Standing.STAGED}),
        "On without the gate it stands at; or to the next stage without this one's evidence, or to "
        "everyone after the last.",
    ),
    Verb.APPROVE: Row(
        frozenset({Standing.WAITING, Standing.GATED, Standing.NEWEST}),
        "Lets robots try it, where spec.rollout.approval asks for that.",
    ),
    Verb.ROLLBACK: Row(
        frozenset({Standing.STABLE}),
        "Takes it back and gives the fleet the last-known-good version before it.",
    ),
}
"""What each verb asks of the version it names, and what it does."""

FORM = (
    f"write {names.Label.REQUEST}: <verb>@<sequence>#<nonce>, "
    f"where the verb is one of {', '.join(Verb)}"
)
_REQUEST = re.compile(rf"({'|'.join(Verb)})@([0-9]{{1,12}})#(.{{1,64}})", re.ASCII)


class Request(NamedTuple):
    """One press of a button; the nonce makes a second press a new one."""

    verb: Verb
    sequence: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.verb}@{self.sequence}#{self.nonce}"


def parse(text: str) -> Request | None:
    """None where the text is no request."""
    match = _REQUEST.fullmatch(text)
    return Request(Verb(match[1]), int(match[2]), match[3]) if match else None


def helpful(standing: Standing) -> tuple[Verb, ...]:
    """The verbs that a version so standing takes, beside those that any version does."""
    return tuple(
        verb
        for verb, row in TABLE.items()
        if standing in row.allowed and len(row.allowed) < len(MEANS)
    )
