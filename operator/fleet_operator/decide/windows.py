"""When a rollout may move: spans of time by a cron schedule. Pure."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from fleet_contract.resources import Window, seconds


class WindowError(ValueError):
    """A window whose schedule or time zone means nothing."""


def opens_at(windows: Sequence[Window], now: float) -> float | None:
    """When the next window opens, in Unix seconds; None while one is open or there is none.

    Daylight saving is Debian's cron's: what falls into the lost hour opens when that is over.
    Raises ``WindowError``.
    """
    openings = []
    for index, window in enumerate(windows):
        try:
            open_, following = _around(window, math.floor(now))
        except (CronSimError, StopIteration, KeyError, ValueError, OSError) as fault:
            raise WindowError(
                f"spec.rollout.windows[{index}] ({window.schedule!r} in {window.time_zone!r}) "
                f"never opens: {fault or 'no such day'}"
            ) from fault
        if open_:
            return None
        openings.append(following)
    return min(openings, default=None)


@lru_cache(maxsize=64)  # asked several times in a turn
def _around(window: Window, now: int) -> tuple[bool, float]:
    """Whether it is open, and when it opens next."""
    here = datetime.fromtimestamp(now, ZoneInfo(window.time_zone))
    following = next(CronSim(window.schedule, here))
    # With a part of a second, the second itself is the first one looked at on the way back.
    past = CronSim(window.schedule, here + timedelta(microseconds=1), reverse=True)
    began = next(past, None)
    open_ = began is not None and now < began.timestamp() + seconds(window.duration)
    return open_, following.timestamp()
