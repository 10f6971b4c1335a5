"""What a robot would send, and a learner process to send it to."""

import asyncio
import atexit
import contextlib
import functools
import itertools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nats.aio.client import Client

from fleet_contract import names
from fleet_contract.messages import Outcome, Receipt, Record, digest_of, encode_batch
from fleet_contract.names import Channel, Env
from fleet_runtime.experience import codec
from fleet_runtime.experience.parts import cut
from fleet_runtime.experience.types import Episode
from helpers.nats import connect

JOB, JOB_UID, NAMESPACE = "job", "uid-1", "default"
TASKS = ("push", "pick")
OBSERVATION, ACTION = 6, 2
_numbers = itertools.count(1)


def episode(
    name: str,
    *,
    task: str = "push",
    robot: str = "ada",
    steps: int = 20,
    seed: int = 0,
    **over: Any,
) -> Episode:
    """A sound, autonomous success; `over` replaces fields, also by unsound ones."""
    rng = np.random.default_rng(seed)
    fields: dict[str, Any] = {
        "id": name,
        "robot": robot,
        "task": task,
        "outcome": "success",
        "outcome_source": "environment",
        "mode": "live",
        "policy_digest": "",
        "policy_sequence": -1,
        "terminated": True,
        "truncated": False,
        "duration_s": steps / 20,
        "observation": rng.normal(size=(steps + 1, OBSERVATION)).astype(np.float32),
        "action": rng.uniform(-1, 1, (steps, ACTION)).astype(np.float32),
        "policy_action": np.zeros((steps, ACTION), np.float32),
        "intervention": np.zeros(steps, np.bool_),
        "scheduled": np.zeros(steps, np.bool_),
        "reward": np.zeros(steps, np.float32),
        "time": np.arange(steps, dtype=np.float64) / 20,
        "observation_age": np.zeros(steps, np.float32),
        "chunk_index": np.zeros(steps, np.int32),
    }
    return Episode(**(fields | over))


def record(made: Episode, n: int, payload: bytes, **over: Any) -> Record:
    """The record a robot writes beside its payload."""
    fields: dict[str, Any] = {
        "robot": made.robot,
        "robot_uid": f"{made.robot}-uid",
        "job_uid": JOB_UID,
        "spool_id": "spool-1",
        "n": n,
        "episode_id": made.id,
        "task": made.task,
        "outcome": made.outcome,
        "mode": made.mode,
        "digest": digest_of(payload),
        "size": len(payload),
        "started_at": 1.0,
        "ended_at": 2.0,
    }
    return Record(**(fields | over))


def entry(n: int, *, robot: str = "ada", **over: Any) -> tuple[Record, bytes]:
    """Number n of a robot's spool, with the payload that goes inline."""
    made = episode(f"{robot}-{n}", robot=robot, seed=n, **over)
    payload = codec.encode(made)
    return record(made, n, payload), payload


def parts(made: Episode, *cuts: int, first: int = 1, **over: Any) -> list[tuple[Record, bytes]]:
    """An episode as a robot streams it, cut before these steps; numbers from `first`."""
    bounds = [0, *cuts, None]
    found = []
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        part = cut(made, start or 0, stop)
        payload = codec.encode(part)
        last = stop is None
        place = {"segment": number, "last": last, "outcome": made.outcome if last else None}
        found.append((record(part, first + number, payload, **(place | over)), payload))
    return found


def closing(after: Record) -> tuple[Record, bytes]:
    """What a robot says at its start of an episode that it was in the middle of."""
    end = {"n": after.n + 1, "segment": after.segment + 1, "last": True}
    nothing = {"outcome": Outcome.ABORTED, "digest": digest_of(b""), "size": 0}
    return after.model_copy(update=end | nothing), b""


def message(*entries: tuple[Record, bytes]) -> bytes:
    return encode_batch(entries)


def experience_subject(robot: str = "ada") -> str:
    return names.robot_subject(NAMESPACE, robot, JOB, Channel.EXPERIENCE)


def write_dataset(folder: Path, per_task: int = 4) -> str:
    """A dataset as an fsspec URL."""
    folder.mkdir()
    for task in TASKS:
        for i in range(per_task):
            made = episode(f"demo-{task}-{i}", task=task, robot="teacher", seed=1000 + i)
            (folder / f"{task}-{i}.episode").write_bytes(codec.encode(made))
    return f"file://{folder}"


def spec(datasets: Sequence[str] = (), *, steps: int = 20, **over: Any) -> dict[str, Any]:
    """A small job's `FLEET_SPEC`."""
    return {
        "tasks": [{"name": task} for task in TASKS],
        "policy": {"parameters": {"hidden": 16, "layers": 1}},
        "offline": {"datasets": [{"uri": uri} for uri in datasets], "steps": steps},
        "publish": {"everySteps": 20, "minInterval": "50ms"},
        "checkpoint": {"interval": "200ms", "keep": 2},
        "batchSize": 16,
    } | over


class Robot:
    """Sends numbered episodes and again what no receipt settled, as a spool does."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.sent: dict[int, tuple[Record, bytes]] = {}
        self.receipted: set[int] = set()

    async def send(self, *numbers: int) -> None:
        for n in numbers:
            self.sent.setdefault(n, entry(n))
            await self._client.jetstream().publish(experience_subject(), message(self.sent[n]))

    def hear(self, heard: list[bytes]) -> None:
        for receipt in map(Receipt.open, heard):
            self.receipted |= {n for n in self.sent if receipt.settles(n)}

    def settled(self, heard: list[bytes]) -> bool:
        """Whether nothing is missing after these receipts."""
        self.hear(heard)
        return self.receipted == set(self.sent)


@functools.cache
def _forge() -> subprocess.Popen[str]:
    """The program that forks learners; it ends when this one does and its stdin closes."""
    forge = subprocess.Popen(
        [
            sys.executable,
            "-P",
            str(Path(__file__).with_name("forge.py")),
        ],  # helpers.nats is not nats
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, forge)
    return forge


def _end(forge: subprocess.Popen[str]) -> None:
    forge.kill()
    forge.communicate()


class LearnerProcess:
    """A learner in a process of its own, with a log to look at."""

    def __init__(
        self,
        folder: Path,
        nats_url: str,
        spec: dict[str, Any],
        *,
        store: str = "store",
        rank: int = 0,
        script: Sequence[str] = (),
    ) -> None:
        self.store_url = f"file://{folder / store}"
        self.log_path = folder / f"learner-{next(_numbers)}.log"
        self.environment: dict[str, str] = {
            Env.NAMESPACE: NAMESPACE,
            Env.JOB: JOB,
            Env.JOB_UID: JOB_UID,
            Env.NATS_URL: nats_url,
            Env.STORAGE_URL: self.store_url,
            Env.SPEC: json.dumps(spec),
            Env.COMPLETION_INDEX: str(rank),
        }
        self._script = list(script)
        self._pidfd = self.pid = -1

    def start(self) -> None:
        """Start it, anew if it ran before."""
        self.kill()
        self._exit_path.unlink(missing_ok=True)
        forge = _forge()
        assert forge.stdin is not None
        assert forge.stdout is not None
        order = {
            "environment": self.environment,
            "log": str(self.log_path),
            "script": self._script,
        }
        forge.stdin.write(json.dumps(order) + "\n")
        forge.stdin.flush()
        self.pid = int(forge.stdout.readline())
        self._pidfd = os.pidfd_open(self.pid)

    def kill(self) -> None:
        """kill -9, and it is gone when this returns."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self.gone(10.0)
            os.close(self._pidfd)
            self._pidfd = -1

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        return await self.exit()

    async def exit(self, within: float = 60.0) -> int:
        """The code it exits with by itself."""
        assert await asyncio.to_thread(self.gone, within), f"still running:\n{self.log}"
        return int(self._exit_path.read_text())

    def gone(self, within: float) -> bool:
        """Whether it ends in so many seconds, by whatever."""
        return bool(select.select([self._pidfd], [], [], within)[0])

    @property
    def _exit_path(self) -> Path:
        return self.log_path.with_name(self.log_path.name + ".exit")

    async def says(self, words: str, more_than: int = 0, within: float = 60.0) -> None:
        """Returns once they stand in its log, and more often than that."""
        async with asyncio.timeout(within):
            while self.log.count(words) <= more_than:  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # a file announces its growth to nobody

    @property
    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""


@contextlib.contextmanager
def learner_process(
    folder: Path, nats_url: str, spec: dict[str, Any], *, store: str = "store"
) -> Iterator[LearnerProcess]:
    process = LearnerProcess(folder, nats_url, spec, store=store)
    process.start()
    try:
        yield process
    finally:
        process.kill()


class Ear:
    """Hears a subject and lets a test await what it is waiting for."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._news = asyncio.Condition()

    async def hear(self, data: bytes) -> None:
        async with self._news:
            self.heard.append(data)
            self._news.notify_all()

    async def until(self, enough: Callable[[list[bytes]], bool], within: float = 60.0) -> None:
        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(lambda: enough(self.heard))

    async def more(self, than: int) -> None:
        await self.until(lambda heard: len(heard) > than)


@contextlib.asynccontextmanager
async def listening(url: str, *subjects: str) -> AsyncIterator[tuple[Client, list[Ear]]]:
    """A client, and an ear for each subject from now on."""
    client = await connect(url)
    ears = [Ear() for _ in subjects]
    try:
        for subject, ear in zip(subjects, ears, strict=True):

            async def deliver(heard: Any, ear: Ear = ear) -> None:
                await ear.hear(heard.data)

            await client.subscribe(subject, cb=deliver)
        await client.flush()
        yield client, ears
    finally:
        await client.close()
