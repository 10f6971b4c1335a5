"""Shows that a long step is alive: a bar on a terminal, a line every ten seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_EVERY = 10.0  # seconds


class Progress:
    """Steps with an elapsed time and an estimate, on stderr."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        if sys.stderr.isatty():
            self._bars = Bars(
                TextColumn("{task.description}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[estimate]}"),
                console=Console(stderr=True),
            )
        self._began = self._said = 0.0
        self._title = ""
        self._estimate = 0.0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def expect(self, seconds: float) -> None:
        self.say(f"one-time build of the local cluster's programs, about {_clock(seconds)} in all")

    @contextlib.contextmanager
    def step(self, title: str, estimate: float) -> Iterator[None]:
        """One step; the estimate is in seconds, 0 for "no idea"."""
        self._began = self._said = time.monotonic()
        self._title, self._estimate = title, estimate
        hint = f"about {_clock(estimate)}" if estimate else ""
        if self._bars is None:
            self.say(f"{title} …" + (f" ({hint})" if hint else ""))
            yield
        else:
            task = self._bars.add_task(title, total=estimate or None, estimate=hint)
            yield
            self._bars.update(task, completed=estimate, estimate="done")
        if self._bars is None:
            self.say(f"{title}: done in {_clock(time.monotonic() - self._began)}")

    def tick(self, wait: float = 0.0) -> None:
        """Called every now and then during a step."""
        if wait:
            time.sleep(wait)
        now = time.monotonic()
        elapsed = now - self._began
        if self._bars is not None:
            # An estimate that was too short must not show a finished bar.
            self._bars.update(
                self._bars.task_ids[-1], completed=min(elapsed, self._estimate * 0.98)
            )
        elif now - self._said >= LINE_EVERY:
            self._said = now
            of = f" of about {_clock(self._estimate)}" if self._estimate else ""
            self.say(f"{self._title}: {_clock(elapsed)}{of}")

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._bars is not None:
            self._bars.console.print(text)
        else:
            print(text, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
