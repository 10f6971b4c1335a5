"""The table of a version's way through the fleet. A move that is not in it raises."""

from fleet_contract.resources import PolicyPhase as P

MOVES: dict[tuple[P, P], str] = {
    (P.CANDIDATE, P.GATED): "approved, a window is open, a robot is there",
    (P.CANDIDATE, P.SUPERSEDED): "a newer one came, or the fleet was pinned or taken back",
    (P.CANDIDATE, P.ROLLED_BACK): "abort",
    (P.GATED, P.GATED): "its next gate begins, or retry",
    (P.GATED, P.STAGED): "its gates are passed, or skip",
    (P.GATED, P.PROMOTED): "its gates are passed: the first version, or strategy Broadcast",
    (P.GATED, P.SUPERSEDED): "a newer one came, or the fleet was pinned or taken back",
    (P.GATED, P.ROLLED_BACK): "a gate refused it, or abort",
    (P.STAGED, P.STAGED): "the stage passed, or skip",
    (P.STAGED, P.PROMOTED): "the last stage passed, or skip",
    (P.STAGED, P.SUPERSEDED): "in doubt for long and a newer one came, or pinned, or taken back",
    (P.STAGED, P.ROLLED_BACK): "it did badly, its deadline passed, or abort",
    (P.PROMOTED, P.ROLLED_BACK): "it did badly under watch, or rollback",
    (P.ROLLED_BACK, P.CANDIDATE): "retry",
    (P.SUPERSEDED, P.CANDIDATE): "retry",
}
"""From and to, and what makes a version go that way."""

UNDER_WAY = frozenset({P.CANDIDATE, P.GATED, P.STAGED})
"""Phases of a trial that has not ended."""
ENDS = frozenset(P) - UNDER_WAY


class IllegalMoveError(ValueError):
    """A fault of ours: a decision wanted a move that the table does not have."""


def move(start: P, *way: P) -> P:
    """Walk from phase to phase. Raises ``IllegalMoveError`` at the first one not in the table."""
    at = start
    for to in way:
        if (at, to) not in MOVES:
            allowed = ", ".join(sorted(end for begin, end in MOVES if begin is at))
            raise IllegalMoveError(f"{at} → {to} is no move; {at} may become {allowed}")
        at = to
    return at
