"""A policy thinks in a thread of its own: one that is late, or hangs for ever, stops no robot.

An answer counts only while somebody waits for it. The question that came to nothing keeps its
policy busy until it ends; meanwhile each further question to that policy comes to nothing too.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_runtime.experience.types import Float


class Clock(Protocol):
    """The control loop's time; tests bring their own."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return that much later."""
        ...


class RealClock:
    """That of the machine."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class Asks(Protocol):
    """Whom the control loop asks."""

    def ask(self, policy: object, question: Callable[[], Float], within: float) -> Float | None:
        """What `question`, which is `policy`'s to answer, gives; None: not `within` seconds.

        Raises what it raises.
        """
        ...

    def close(self) -> None:
        """No further question comes."""
        ...


class Thinker:
    """One question at a time, from one thread."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    def ask(self, policy: object, question: Callable[[], Float], within: float) -> Float | None:
        """See `Asks`."""
        worker = self._worker
        if worker is None or worker.policy is not policy:
            self.close()  # of one that hangs only the thread is left, until the program ends
            worker = self._worker = _Worker(policy)
        return worker.ask(question, within)

    def close(self) -> None:
        """See `Asks`."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


class _Question:
    def __init__(self, ask: Callable[[], Float]) -> None:
        self.ask = ask
        self.answer: Float | None = None
        self.fault: Exception | None = None
        self.done = False


class _Worker:
    def __init__(self, policy: object) -> None:
        self.policy = policy
        self._changed = threading.Condition()
        self._question: _Question | None = None  # while it is busy
        self._closed = False
        threading.Thread(target=self._work, name="policy", daemon=True).start()

    def ask(self, ask: Callable[[], Float], within: float) -> Float | None:
        until = time.monotonic() + within
        with self._changed:
            if not self._changed.wait_for(lambda: self._question is None, within):
                return None
            question = self._question = _Question(ask)
            self._changed.notify_all()
            self._changed.wait_for(lambda: question.done, until - time.monotonic())
            if question.fault is not None:
                raise question.fault
            return question.answer

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._question is not None or self._closed)
                if self._closed or self._question is None:
                    return
                question = self._question
            answer = fault = None
            try:
                answer = question.ask()
            except Exception as raised:  # noqa: BLE001 - it is raised where it was asked
                fault = raised
            with self._changed:
                question.answer, question.fault, question.done = answer, fault, True
                self._question = None
                self._changed.notify_all()
