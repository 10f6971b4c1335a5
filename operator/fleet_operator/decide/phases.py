"""The table of a version's way through the fleet. A move that is not in it raises."""

from fleet_contract.resources import PolicyPhase as P

MOVES: dict[P, frozenset[P]] = {
    P.CANDIDATE: frozenset({P.GATED, P.SUPERSEDED, P.ROLLED_BACK}),
    P.GATED: frozenset({P.STAGED, P.PROMOTED, P.SUPERSEDED, P.ROLLED_BACK}),
    P.STAGED: frozenset({P.STAGED, P.PROMOTED, P.SUPERSEDED, P.ROLLED_BACK}),
    P.PROMOTED: frozenset(),
    P.ROLLED_BACK: frozenset(),
    P.SUPERSEDED: frozenset(),
}


class IllegalMoveError(ValueError):
    """A fault of ours: a decision wanted a move that the table does not have."""


def move(start: P, *way: P) -> P:
    """Walk from phase to phase. Raises ``IllegalMoveError`` at the first one not in the table."""
    at = start
    for to in way:
        if to not in MOVES[at]:
            allowed = ", ".join(sorted(MOVES[at])) or "nothing: it is final"
            raise IllegalMoveError(f"{at} → {to} is no move; {at} may become {allowed}")
        at = to
    return at
