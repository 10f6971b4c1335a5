"""Has the share of successes dropped? A test that may be looked at after every episode.

The evidence is an e-value: what a bet against "no worse" has made of a stake of 1. While that is
true the stake grows a hundredfold with a probability of at most 1 %, however often one looks
(Ville 1939; Grünwald, de Heide and Koolen, Safe Testing, JRSS B 86, 2024). It passes a mark in a
jump, at a failure, and lands beyond it, which makes the mark rarer than that: ``surely_worse`` and
``surely_below`` set it lower by as much. Pure, and made of counts alone: neither order nor a
message that comes twice can change it.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import exp, log, pi, sin
from typing import NamedTuple

NODES = 128
"""Bases integrated over under Jeffreys' prior: Gauss and Chebyshev's, even in asin √p. Exact for
255 episodes of a task; for some thousands they still stand closer than the base is known."""
SOONER = 0.74
"""Of a drop, the part that is bet on: for the slowest of twenty trials to end soon, one bets on
less than is there."""
LOWEST = 0.7
"""No mark is set lower than at this part of 1/rate: where a few failures settle it, jumps are too
coarse for the limit that ``_part`` takes."""
KNOWN = 100
"""Failures before the trial from which on the base is known, and the mark as low as it may be."""
EVERYWHERE = 0.9
"""The part of the stake that bets on a drop in all tasks; the rest is spread over single ones. A
bet with a share w of the stake is behind by log 1/w, a fraction of what a drop in all tasks brings
in, and little beside the episodes that a single task needs anyway."""
CHANGED = 0.001
"""Prior probability that stable figures from before the trial no longer hold, for any version."""
UNLIKELY = 30.0
"""A base so many nats less likely than the likeliest is left out."""
LEAST = 1e-3


class Tally(NamedTuple):
    """Judged episodes and autonomous successes among them."""

    episodes: int = 0
    successes: int = 0

    @property
    def failures(self) -> int:
        """Judged episodes that did not succeed by themselves."""
        return self.episodes - self.successes

    def __str__(self) -> str:
        return f"{self.successes} of {self.episodes}"


class Compared(NamedTuple):
    """One task: the candidate, what the stable version does meanwhile and what it did before."""

    candidate: Tally
    stable: Tally = Tally()
    history: Tally = Tally()


_BASES = tuple(
    min(max(sin(pi / 2 * (node + 0.5) / NODES) ** 2, LEAST), 1 - LEAST) for node in range(NODES)
)


class _Shares(NamedTuple):
    """Logarithms of success and failure, per node."""

    success: tuple[float, ...]
    failure: tuple[float, ...]

    @classmethod
    def of(cls, shares: Sequence[float]) -> "_Shares":
        return cls(tuple(map(log, shares)), tuple(log(1 - one) for one in shares))

    def likelihood(self, seen: Tally, nodes: slice = slice(None)) -> list[float]:
        won, lost = seen.successes, seen.failures
        both = zip(self.success[nodes], self.failure[nodes], strict=True)
        return [won * up + lost * down for up, down in both]


_NULL = _Shares.of(_BASES)


BETS: tuple[tuple[float, Callable[[float, float], float]], ...] = (
    (0.915, lambda base, drop: max(base - SOONER * drop, base / 2)),
    (0.04, lambda base, _: 0.6 * base),
    (0.045, lambda base, _: base / 10),
)
"""Parts of the stake, and the share each bets on, given the base and the drop to be found: that
drop, a collapse, hardly anything left. The worse the version, the faster its bet grows and the
less of the stake it needs. None is above the base."""


@lru_cache(maxsize=64)
def _alternatives(drop: float) -> tuple[_Shares, ...]:
    return tuple(_Shares.of([share(base, drop) for base in _BASES]) for _, share in BETS)


def _log_sum(logs: Sequence[float]) -> float:
    most = max(logs)
    return most + log(sum(exp(one - most) for one in logs))


def _mixed(parts: Iterable[tuple[float, float]]) -> float:
    """The logarithm of Σ weight · exp(log)."""
    return _log_sum([log(weight) + value for weight, value in parts])


class _Known(NamedTuple):
    """What is known of the base without the candidate: which nodes, and the log weight of each."""

    nodes: slice
    weights: tuple[float, ...]


def _cut(logs: Sequence[float], first: int) -> _Known:
    """Without the unlikely ends; ``first``: the node of the first one."""
    least = max(logs) - UNLIKELY
    likely = [at for at, one in enumerate(logs) if one >= least]
    start, stop = likely[0], likely[-1] + 1
    return _Known(slice(first + start, first + stop), tuple(logs[start:stop]))


@lru_cache(maxsize=1024)
def _before(history: Tally) -> _Known:
    """The posterior after the history."""
    logs = _NULL.likelihood(history)
    total = _log_sum(logs)
    return _cut([one - total for one in logs], 0)


@lru_cache(maxsize=4096)
def _known(history: Tally, stable: Tally) -> _Known:
    """The same, times the likelihood of what the stable version does meanwhile."""
    nodes, weights = _before(history)
    seen = _NULL.likelihood(stable, nodes)
    return _cut([one + two for one, two in zip(weights, seen, strict=True)], nodes.start)


class _Odds(NamedTuple):
    """Log marginal likelihood of "no worse", and log Bayes factors against it by bet."""

    null: float
    bets: tuple[float, ...]


@lru_cache(maxsize=4096)
def _odds(seen: Compared, drop: float) -> _Odds:
    """Of one task, its unknown base integrated out."""
    nodes, weights = _known(seen.history, seen.stable)

    def marginal(shares: _Shares) -> float:
        candidate = shares.likelihood(seen.candidate, nodes)
        return _log_sum([one + two for one, two in zip(weights, candidate, strict=True)])

    null = marginal(_NULL)
    return _Odds(null, tuple(marginal(shares) - null for shares in _alternatives(drop)))


def _combined(tasks: Sequence[_Odds]) -> float:
    """Σ_j w_j · [e · Π_k B_jk + (1 - e) · mean_k B_jk], as a logarithm."""
    single = log((1 - EVERYWHERE) / len(tasks))
    return _mixed(
        (weight, _log_sum([log(EVERYWHERE) + sum(logs), *(single + one for one in logs)]))
        for (weight, _), *logs in zip(BETS, *(task.bets for task in tasks), strict=True)
    )


def log_against_stable(tasks: Sequence[Compared], drop: float) -> float:
    """Log e-value of "worse than the stable version" over a job's tasks; 0 says nothing.

    B_jk, the Bayes factor of task k for bet j, is
    ∫ p(stable | θ) p(candidate | θ_j) dπ(θ) / ∫ p(stable, candidate | θ) dπ(θ), with θ_j the
    share after drop j and π the posterior after the history (mixtures: Robbins, Ann. Math. Stat.
    41, 1970). Each task is compared with itself, so a cohort that drew the harder tasks is not
    blamed for them. Where the world changed, π forgets the history of all tasks at once (a robust
    mixture: Schmidli and others, Biometrics 70, 2014). ``drop`` is a share, 0 to 1.
    """
    known = _job(tasks, drop)
    if not any(task.history.episodes for task in tasks):
        return known.value
    anew = _job([task._replace(history=Tally()) for task in tasks], drop)
    worlds = ((1 - CHANGED, known), (CHANGED, anew))
    null = _mixed((weight, world.null) for weight, world in worlds)
    return _mixed((weight, world.null + world.value) for weight, world in worlds) - null


class _Job(NamedTuple):
    null: float
    value: float


def _job(tasks: Sequence[Compared], drop: float) -> _Job:
    odds = [_odds(task, drop) for task in tasks]
    return _Job(sum(one.null for one in odds), _combined(odds))


def log_below(seen: Tally, floor: float, drop: float) -> float:
    """Log e-value of "the share is below ``floor``"; it holds for every share at or above it.

    Wald's likelihood ratio (Ann. Math. Stat. 16, 1945), mixed over the same bets.
    """
    if not floor:
        return 0.0
    floor = min(floor, 1 - LEAST)
    shares = _Shares.of([floor, *(share(floor, drop) for _, share in BETS)])
    at, *tried = shares.likelihood(seen)
    return _mixed((weight, one - at) for (weight, _), one in zip(BETS, tried, strict=True))


def surely_worse(tasks: Sequence[Compared], drop: float, rate: float) -> bool:
    """Whether ``log_against_stable`` is so great that "no worse" errs with probability ``rate``."""
    known = min(1.0, sum(task.history.failures for task in tasks) / KNOWN)
    part = 1 - known * (1 - _part(map(_base, tasks), drop))
    return log_against_stable(tasks, drop) >= log(part / rate)


def surely_below(seen: Tally, floor: float, drop: float, rate: float) -> bool:
    """The same of ``log_below``."""
    return log_below(seen, floor, drop) >= log(_part([(1, floor)], drop) / rate)


def _base(task: Compared) -> tuple[int, float]:
    """Episodes of the candidate, and the base as far as it is known without them."""
    episodes = task.stable.episodes + task.history.episodes
    successes = task.stable.successes + task.history.successes
    return task.candidate.episodes, (successes + 0.5) / (episodes + 1)


def _part(bases: Iterable[tuple[int, float]], drop: float) -> float:
    """The part ν of 1/rate that "no worse" reaches with probability ``rate``.

    It is the mean of mark/stake as the stake passes the mark under the bet (Siegmund, Sequential
    Analysis, 1985). Where failures are rare and each multiplies the stake by r, the ladder heights
    have the density eˣ/(r - 1) up to log r, and ν = (r - 1 - log r) / (r log r - r + 1), each side
    added up over the tasks by their failures. Of the main bet: heavier ones land further.
    """
    before = beyond = 0.0
    for episodes, share in bases:
        base = min(share, 1 - LEAST)
        jump = (1 - BETS[0][1](base, drop)) / (1 - base)
        failures = episodes * (1 - base)
        before += failures * (jump - 1 - log(jump))
        beyond += failures * (jump * log(jump) - jump + 1)
    return min(max(before / beyond, LOWEST), 1.0) if beyond > 0 else 1.0
