"""Traces from an episode to the version it led to and the robots that took that up, if asked for.

No message carries anything for them. An episode's trace has the id of the episode, a version's the
first half of its manifest's digest, and the first span of each the id that follows from that: so
every program knows by itself where its spans belong, also after a restart, and a trace is found by
what `fleet lineage` prints. Links lead from a version to episodes it learned from, and from an
episode to the version that acted and to the first that learned from it.

Without ``OTEL_EXPORTER_OTLP_ENDPOINT`` nothing is imported and `tell` returns at once.
"""

from __future__ import annotations

import enum
import hashlib
import logging
import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from fleet_contract.names import Env

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet_runtime.otlp import Sender

log = logging.getLogger(__name__)

MOST_LINKED = 32
"""Episodes to which a version is linked: the newest of those that it was first to learn from."""
SAID_WITHIN = 2.0
"""Seconds that a program which ends gives its last spans."""


class Stage(enum.StrEnum):
    """What a span is called."""

    EPISODE = "episode"
    UPLOAD = "upload"
    INGEST = "ingest"
    RECEIPT = "receipt"
    TRAIN = "train"
    VERSION = "version"
    PUBLISH = "publish"
    ASSIGN = "assign"
    FETCH = "fetch"
    SWAP = "swap"


FIRST = frozenset({Stage.EPISODE, Stage.VERSION})
"""The span of its trace under which all others hang."""


class Trail(NamedTuple):
    """A trace: 32 hex digits, and the 16 of its first span."""

    trace: str
    first: str


def of_episode(episode_id: str) -> Trail:
    """Whose id is 32 hex digits, as our robots draw them, gives it to its trace."""
    sound = re.fullmatch(r"[0-9a-f]{32}", episode_id) and int(episode_id, 16)
    return _trail(episode_id if sound else hashlib.sha256(episode_id.encode()).hexdigest()[:32])


def of_version(digest: str) -> Trail:
    """By the digest of its manifest, which whoever hears of a version hears of."""
    return _trail(digest.partition(":")[2][:32])


def _trail(trace: str) -> Trail:
    return Trail(trace, hashlib.sha256(trace.encode()).hexdigest()[:16])


_sender: Sender | None = None


def begin(program: str, **whose: str) -> None:
    """Send spans from now on, if the environment says where to; `whose` they are."""
    global _sender  # noqa: PLW0603 - as logging, a program's
    if not (os.environ.get(Env.OTLP_ENDPOINT) or os.environ.get(Env.OTLP_TRACES_ENDPOINT)):
        return
    try:
        from fleet_runtime.otlp import Sender
    except ModuleNotFoundError as fault:
        log.warning("no traces: %s; install fleetloop[otel]", fault)
        return
    _sender = Sender(program, whose)


def end() -> None:
    """Send what is left, as far as that goes at once; nothing after that."""
    global _sender
    ending, _sender = _sender, None
    if ending is not None:
        ending.close(SAID_WITHIN)


def active() -> bool:
    """Whether anybody wants spans; for what costs something to know."""
    return _sender is not None


def at(then: float) -> float:
    """Unix seconds of a moment of the monotonic clock."""
    return time.time() - (time.monotonic() - then)


def tell(  # noqa: D417 - all others are attributes
    stage: Stage,
    of: Trail,
    began: float,
    ended: float,
    *,
    links: Iterable[Trail] = (),
    **said: str | float | None,
) -> None:
    """One span that is over, from any thread; never blocks, and what cannot be sent is dropped.

    Args:
        stage: its name.
        of: the trace it belongs to.
        began: in Unix seconds; of another machine's clock, perhaps.
        ended: likewise; not before `began`.
        links: to other traces.
    """
    if (sender := _sender) is not None:
        known = {name: value for name, value in said.items() if value is not None}
        sender.send(stage, of, (began, max(began, ended)), tuple(links), known)
