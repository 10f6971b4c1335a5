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
    seen: NotRequired[list[list[int]]]  # task → side → losses ever taken in
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
        self._window = np.zeros((tasks, len(Side), self.settings.window))
        self._seen = np.zeros((tasks, len(Side)), np.int64)
        self.rng = np.random.default_rng(seed)

    def observe(self, losses: NDArray[np.floating]) -> None:
        """Take in one update's mean policy loss (tasks, sides); NaN where it drew no row."""
        found = np.isfinite(losses)
        task, side = np.nonzero(found)
        self._window[task, side, self._seen[task, side] % self.settings.window] = losses[found]
        self._seen[task, side] += 1

    def means(self) -> NDArray[np.float64]:
        """Window means (tasks, sides); NaN before the first loss."""
        filled = np.minimum(self._seen, self.settings.window)
        total = self._window.sum(axis=2)
        means: NDArray[np.float64] = np.full(total.shape, np.nan)
        np.divide(total, filled, out=means, where=filled > 0)
        return means

    def online_share(self) -> NDArray[np.float64]:
        """w_on per task (tasks,), before empty buffers are taken into account."""
        means = self.means()
        gap = self.settings.alpha * means[:, Side.ONLINE] - means[:, Side.OFFLINE]
        # exp(a) / (exp(a) + exp(b)) by a function of a − b that no loss makes overflow.
        share = np.where(np.isnan(gap), 0.5, 0.5 + 0.5 * np.tanh(0.5 * gap))
        return np.minimum(np.maximum(share, self.settings.low), self.settings.high)

    def mix(self, eligible: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability of drawing a row from each pool, given its drawable steps (tasks, sides).

        Sums to 1; ValueError where there is nothing at all to draw.
        """
        online = self.online_share()
        present = eligible > 0
        shares = np.array([1.0 - online, online]).T
        if not present.all():
            # Where a side is empty, what there is of the other (all, or nothing) takes its place.
            shares = np.where(present.all(axis=1, keepdims=True), shares, present)
        table: NDArray[np.float64] = shares * self.weights[:, None]
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
        ordered = [
            [
                np.roll(self._window[t, s], -int(n % window))[
                    window - min(int(n), window) :
                ].tolist()
                for s, n in enumerate(row)
            ]
            for t, row in enumerate(self._seen)
        ]
        return {
            "losses": ordered,
            "seen": self._seen.tolist(),
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
        self._seen[:] = 0
        for t, sides in enumerate(state["losses"]):
            for s, losses in enumerate(sides):
                kept = losses[-window:]
                full = "seen" in state and len(kept) == window
                seen = state["seen"][t][s] if full else len(kept)
                self._window[t, s, np.arange(seen - len(kept), seen) % window] = kept
                self._seen[t, s] = seen
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
