"""SOP's adaptive sampler (arXiv 2601.03044): how much of a batch each task and side gets.

Task m has weight w^m (1/M unless given). With l the mean of a side's last W = 200 policy losses,

    w_on = exp(α · l_on) / (exp(α · l_on) + exp(l_off)),   clipped to [0.2, 0.8],

and a row of task m comes from the online buffer with probability w_on, else from the offline one.
α > 1 leans towards what the fleet meets now; the paper does not disclose it. LWD's even mix
(arXiv 2605.00416) is the same with both limits at 0.5.

What the paper leaves open is decided here: until both sides of a task have a loss w_on is 0.5,
clipped; a task with one empty side draws everything from the other, past the clip; a task without
any data leaves its weight to the others, in proportion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NotRequired, TypedDict

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fleet_runtime.experience.batch import Side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class SamplerState(TypedDict):
    """What a checkpoint keeps of the sampler."""

    losses: list[list[list[float]]]  # task → side → newest last
    seen: NotRequired[list[list[int]]]  # task → side → losses taken in, but for rounds
    rng: dict[str, object]


class AdaptiveSampler:
    """Loss windows per task and side, and the mix that follows from them."""

    def __init__(
        self,
        tasks: int,
        settings: SamplerSettings | None = None,
        *,
        weights: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = settings or SamplerSettings()
        raw = np.ones(tasks) if weights is None else np.array(weights, np.float64)
        if raw.shape != (tasks,) or not np.isfinite(raw).all() or (raw < 0).any() or not raw.sum():
            raise ValueError(f"weights must be {tasks} numbers, not negative, not all zero")
        self.weights = raw / raw.sum()
        # Pools lie in one row, a task's two side by side: on so few numbers each operation costs
        # alike, so there are few of them, and none that has to stretch an array.
        pools, window = tasks * len(Side), self.settings.window
        self._weights = self.weights.repeat(len(Side))
        low, high = self.settings.low, self.settings.high
        self._least = np.tile([1.0 - high, low], tasks)
        self._most = np.tile([1.0 - low, high], tasks)
        self._half, self._ones = np.full(pools, 0.5), np.ones(window)
        self._window = np.zeros((pools, window))
        self._filled = np.zeros((tasks, len(Side)), np.int64)  # losses in each window
        places = np.arange(pools * window).reshape(pools, window)
        self._after = np.roll(places, -1, axis=1).ravel()  # the next place of each, round a window
        self._place = places[:, 0].reshape(tasks, len(Side))  # where the next losses go
        self._weigh()
        self.rng = np.random.default_rng(seed)

    def observe(self, losses: NDArray[np.floating]) -> None:
        """Take in one update's mean policy loss (tasks, sides); NaN where it drew no row."""
        place, after, found = self._place, self._after.take(self._place), np.isfinite(losses)
        if np.count_nonzero(found) < found.size:
            losses = np.where(found, losses, self._window.take(place))
            after = np.where(found, after, place)
        self._window.put(place, losses)
        self._place = after
        if not self._full and (grown := found & (self._filled < self.settings.window)).any():
            self._filled += grown
            self._weigh()

    def _weigh(self) -> None:
        """After a window has grown: what a window's sum counts in each pool's share.

        Nothing until both sides of a task have a loss, which makes w_on 0.5.
        """
        self._full = bool((self._filled == self.settings.window).all())
        means = np.array([0.5, 0.5 * self.settings.alpha]) / np.maximum(self._filled, 1)
        means *= self._filled.all(axis=1, keepdims=True)
        task = np.arange(len(means))
        odds = np.zeros((*means.shape, *means.shape))  # half of a pool's log odds
        odds[task, :, task] = np.array([[1.0, -1.0], [-1.0, 1.0]]) * means[:, None]
        self._odds = odds.reshape(means.size, means.size)

    def means(self) -> NDArray[np.float64]:
        """Window means (tasks, sides); NaN before the first loss."""
        total = self._window.sum(axis=1).reshape(self._filled.shape)
        means: NDArray[np.float64] = np.full(total.shape, np.nan)
        np.divide(total, self._filled, out=means, where=self._filled > 0)
        return means

    def online_share(self) -> NDArray[np.float64]:
        """w_on per task (tasks,), before empty buffers are taken into account."""
        return self._shares()[Side.ONLINE :: len(Side)]

    def _shares(self) -> NDArray[np.float64]:
        """1 − w_on and w_on of each task in turn (pools,)."""
        # exp(a) / (exp(a) + exp(b)) by a function of a − b that no loss makes overflow.
        half_odds = np.vecdot(self._odds, np.vecdot(self._window, self._ones))
        shares: NDArray[np.float64] = np.tanh(half_odds)
        shares *= self._half
        shares += self._half
        np.maximum(shares, self._least, out=shares)
        np.minimum(shares, self._most, out=shares)
        return shares

    def mix(self, eligible: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability of drawing a row from each pool, given its drawable steps (tasks, sides).

        Sums to 1; ValueError where there is nothing at all to draw.
        """
        shares = self._shares()
        if np.count_nonzero(eligible) == eligible.size:
            shares *= self._weights
            return shares.reshape(eligible.shape)
        # Where a side is empty, what there is of the other (all, or nothing) takes its place.
        present = eligible > 0
        both = present.all(axis=1, keepdims=True)
        table = np.where(both, shares.reshape(present.shape), present) * self.weights[:, None]
        total = table.sum()
        if total <= 0:
            raise ValueError("nothing to draw: every task that has weight is without data")
        mix: NDArray[np.float64] = table / total
        return mix

    def draw(self, rows: int, eligible: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many of `rows` to draw from each pool (tasks, sides)."""
        mix = self.mix(eligible)
        counts: NDArray[np.int64] = self.rng.multinomial(rows, mix.ravel()).reshape(mix.shape)
        return counts

    def state(self) -> SamplerState:
        """JSON-able, for a checkpoint."""
        window = self.settings.window
        seen = self._place % window + window * (self._filled == window)
        turned = [
            np.roll(losses, -place)[window - filled :].tolist()
            for losses, place, filled in zip(
                self._window, seen.ravel() % window, self._filled.ravel(), strict=True
            )
        ]
        ordered = [turned[n : n + len(Side)] for n in range(0, len(turned), len(Side))]
        return {
            "losses": ordered,
            "seen": seen.tolist(),
            "rng": dict(self.rng.bit_generator.state),
        }

    def load(self, state: SamplerState) -> None:
        """Go on from a checkpoint; ValueError when it has another number of tasks.

        Each loss returns to its place in the ring: a mean is the same to the last bit.
        """
        window = self.settings.window
        if len(state["losses"]) != len(self.weights):
            raise ValueError(f"state of {len(state['losses'])} tasks, not {len(self.weights)}")
        self._window[:] = 0.0
        for t, sides in enumerate(state["losses"]):
            for s, losses in enumerate(sides):
                kept, pool = losses[-window:], t * len(Side) + s
                full = "seen" in state and len(kept) == window
                seen = state["seen"][t][s] if full else len(kept)
                self._window[pool, np.arange(seen - len(kept), seen) % window] = kept
                self._filled[t, s] = len(kept)
                self._place[t, s] = pool * window + seen % window
        self._weigh()
        self.rng.bit_generator.state = state["rng"]


class SamplerSettings(BaseModel):
    """The sampler's constants."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    alpha: Annotated[float, Field(ge=1)] = 2.0
    """α: how much more an online loss weighs than an offline one (undisclosed; our choice)."""
    window: Annotated[int, Field(ge=1)] = 200
    """W: updates a loss is remembered for."""
    low: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Least online share."""
    high: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Greatest online share."""
