"""When a rollout may move: spans of time by a cron schedule. Pure."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from fleet_contract.resources import Window, seconds

MEANINGLESS = (CronSimError, StopIteration, KeyError, ValueError, OSError)
"""What libraries raise at a schedule or a time zone that means nothing."""


class WindowError(ValueError):
    """A window whose schedule or time zone means nothing."""


def opens_at(windows: Sequence[Window], now: float) -> float | None:
    """When the next window opens, in Unix seconds; None while one is open or there is none.

    Daylight saving is Debian's cron's: what falls into the lost hour opens when that is over.
    Raises ``WindowError``.
    """
    seen = [_looked_at(windows, index, now) for index in range(len(windows))]
    if any(open_ for open_, _ in seen):
        return None
    return min((following for _, following in seen), default=None)


def fault(windows: Sequence[Window], now: float) -> str:
    """What is wrong with the first window that means nothing; empty where all do."""
    try:
        opens_at(windows, now)
    except WindowError as found:
        return str(found)
    return ""


def _looked_at(windows: Sequence[Window], index: int, now: float) -> tuple[bool, float]:
    window = windows[index]
    try:
        return _around(window, math.floor(now))
    except MEANINGLESS as found:
        raise WindowError(f"spec.rollout.windows[{index}] {_never(window, found)}") from found


def why_never(window: Window, now: float) -> str:
    """What is wrong with one window, for who has a line to point at; empty where it opens."""
    try:
        _around(window, math.floor(now))
    except MEANINGLESS as found:
        return _never(window, found)
    return ""


def _never(window: Window, why: Exception) -> str:
    said = why if str(why) else "no such day"
    return f"({window.schedule!r} in {window.time_zone!r}) never opens: {said}"


@lru_cache(maxsize=64)  # asked several times in a turn
def _around(window: Window, now: int) -> tuple[bool, float]:
    """Whether it is open, and when it opens next."""
    if seconds(window.duration) <= 0:
        raise ValueError(f"it shuts as it opens, for its duration is {window.duration}")
    here = datetime.fromtimestamp(now, ZoneInfo(window.time_zone))
    next(CronSim(window.schedule, here))  # raises where it never opens again
    # With a part of a second, the second itself is the first one looked at on the way back.
    past = CronSim(window.schedule, here + timedelta(microseconds=1), reverse=True)
    began = next(past, None)
    # On the way back the hour that autumn repeats is walked through once only, so some of what
    # began may be missing; not so on the way forth.
    ahead = CronSim(window.schedule, began or here)
    while (following := next(ahead)).timestamp() <= now:
        began = following
    open_ = began is not None and now < began.timestamp() + seconds(window.duration)
    return open_, following.timestamp()
