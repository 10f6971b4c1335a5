"""A learner without its training, as a program to be killed: ingest, journal, receipts, replay.

    python -m faults.taker NATS_URL STORAGE_URL LIFE [OBSERVATION ACTION]

It starts as the learner does: an epoch, then the whole journal, then ingest. LIFE is a file that
gets a line for each episode taken into the replay: where it came from, its id, its content, and how
many seconds ago it had ended.
Asked to end, it says how many episodes its replay holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_runtime.artifacts import Store
from fleet_runtime.experience.batch import EVERYTHING, SampleSpec
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.experience.types import ARRAYS
from fleet_runtime.learner import epoch as office
from fleet_runtime.learner import journal
from fleet_runtime.learner.admission import Rules
from fleet_runtime.learner.handoff import Handoff
from fleet_runtime.learner.ingest import Ingest
from fleet_runtime.learner.intake import News
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.recall import Experience
from fleet_runtime.learner.retention import Base
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.wire import Wire
from helpers.learner import ACTION, JOB, JOB_UID, NAMESPACE, OBSERVATION, TASKS

if TYPE_CHECKING:
    from typing import TextIO

    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.handoff import Admitted

SPEC = SampleSpec(chunk=4, rows=16, online=EVERYTHING)
CACHE, CACHE_BYTES, ROOM_BYTES = 2000, 2**19, 2**25
"""Decoded steps, bytes of segments kept and bytes handed over at most: soon full, so that what
grows later is a leak."""
READY = "ready"


def content(episode: Episode) -> str:
    """A digest of all that trains."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        digest.update(getattr(episode, name).tobytes())
    return digest.hexdigest()


class Taker:
    """One life."""

    def __init__(self, url: str, store: Store, life: TextIO, observation: int, action: int) -> None:
        self.url, self.store, self.life = url, store, life
        self.spaces = Spaces(
            tasks=TASKS,
            observation_size=observation,
            action_low=(-1.0,) * action,
            action_high=(1.0,) * action,
        )
        self.epoch = office.claim(store, JOB_UID, "taker")
        self.experience = Experience.since(Base(), store, JOB_UID, self.epoch)
        self.index = ReplayIndex(
            self.spaces,
            SPEC,
            self.experience.load,
            cache_steps=CACHE,
            load_part=self.experience.load_part,
        )
        self.handoff = Handoff(ROOM_BYTES)

    def take(self, where: str, admitted: Admitted, ended: float) -> None:
        """Into the replay; an episode that is whole is told."""
        admitted.enter(self.index)
        episode = admitted.episode
        if episode is None or admitted.news is News.PART:
            return
        self.life.write(f"{where} {episode.id} {content(episode)} {time.time() - ended:.4f}\n")
        self.life.flush()

    async def run(self) -> None:
        """Until SIGTERM."""
        for admitted in self.experience.admitted(self.experience.journal.replay()):
            self.take("journal", admitted, 0.0)
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
        wire = await Wire.connect(self.url, "taker")
        works = [self._ingest(wire).run(), self._training(), self._until(asked)]
        tasks = [asyncio.create_task(work) for work in works]
        self.life.write(f"{READY}\n")
        self.life.flush()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await wire.close()
        self._drain()
        self.life.write(f"holds {len(self.index)} {self.index.steps}\n")
        for task in done:
            task.result()

    async def _until(self, asked: asyncio.Event) -> None:
        await asked.wait()

    async def _training(self) -> None:
        """The training thread's part; here it only takes in."""
        while True:
            await asyncio.to_thread(self.handoff.wait, 0.2)
            self._drain()

    def _drain(self) -> None:
        for admitted in self.handoff.take(10**6):
            self.take("ingest", admitted, admitted.record.ended_at)

    def _ingest(self, wire: Wire) -> Ingest:
        journal, ledger, library = self.experience
        rules = Rules(
            JOB_UID, frozenset(TASKS), self.spaces.observation_size, self.spaces.action_size
        )
        return Ingest(
            wire=wire,
            store=self.store,
            journal=journal,
            ledger=ledger,
            library=library,
            rules=rules,
            handoff=self.handoff,
            progress=Progress(),
            metrics=LearnerMetrics(NAMESPACE, JOB),
            namespace=NAMESPACE,
            job=JOB,
            epoch=self.epoch,
        )


def main() -> None:
    """Exit code 0 when asked to end."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    journal._CACHE_BYTES = CACHE_BYTES
    url, storage, life, *sizes = sys.argv[1:]
    observation, action = map(int, sizes or (OBSERVATION, ACTION))
    with Path(life).open("a") as told, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Taker(url, Store(storage), told, observation, action).run())


if __name__ == "__main__":
    main()
