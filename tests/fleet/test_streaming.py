"""An episode sent in parts while it runs: spool, loop, and a replay behind a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fleet_contract.agents import RobotConfig
from fleet_contract.errors import Retry
from fleet_contract.messages import EventKind, Outcome, Record
from fleet_contract.resources.experience import Experience, ExperienceMode
from fleet_contract.resources.learning import Task
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import SampleSpec, Side
from fleet_runtime.experience.parts import joined
from fleet_runtime.learner.admission import Rules
from fleet_runtime.learner.handoff import Handoff
from fleet_runtime.learner.ingest import Ingest
from fleet_runtime.learner.progress import Progress
from fleet_runtime.learner.recall import Experience as Recalled
from fleet_runtime.learner.retention import Base
from fleet_runtime.metrics import LearnerMetrics
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.robot.agent import Agent
from fleet_runtime.robot.env import Events
from fleet_runtime.robot.human import Control
from fleet_runtime.robot.spool import Spool
from fleet_runtime.settings import RobotSettings
from fleet_runtime.wire import Wire
from helpers import keys, learner
from helpers.alone import Alone, loaded
from helpers.nats import make_streams
from helpers.records import draft
from helpers.world import SPEC, TASKS, PointRobot, assignment, flow, publish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

    from fleet_runtime.experience.types import Episode, Float
    from helpers.nats import Broker

STREAMING = Experience(mode=ExperienceMode.STREAMING, every="100ms")
LONG = dataclasses.replace(SPEC, horizon=10**6)


def part(number: int, episode: str = "e", *, last: bool = False) -> Record:
    payload = f"{episode}-{number}".encode()
    made = draft(payload, episode)
    return made.model_copy(update={"segment": number, "last": last})


def append(spool: Spool, made: Record) -> int:
    return spool.append(made, f"{made.episode_id}-{made.segment}".encode()).n


class OpenEpisodes(RuleBasedStateMachine):
    """Parts, receipts and restarts in any order: what is open stays known, on disk alone."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name), job_uid="uid-1")
        self.episodes = 0
        self.parts = 0  # of the open episode, 0 while none is

    @rule(last=st.booleans())
    def append(self, last: bool) -> None:
        append(self.spool, part(self.parts, f"e{self.episodes}", last=last))
        self.parts = 0 if last else self.parts + 1
        self.episodes += last

    @rule(data=st.data())
    @precondition(lambda self: self.spool.pending())
    def settle(self, data: st.DataObject) -> None:
        self.spool.settle(data.draw(st.sets(st.sampled_from(self.spool.pending()))))

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(Path(self.folder.name), job_uid="uid-1")

    @rule()
    def close(self) -> None:
        closing = self.spool.close_unfinished()
        if not self.parts:
            assert closing is None
            return
        assert closing is not None
        assert (closing.episode_id, closing.segment) == (f"e{self.episodes}", self.parts)
        assert closing.closes
        assert closing.outcome is Outcome.ABORTED
        assert self.spool.read(closing.n) == (closing, b"")
        self.parts, self.episodes = 0, self.episodes + 1

    @invariant()
    def numbers_are_spent_once(self) -> None:
        assert len(set(self.spool.pending())) == self.spool.depth

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()


TestOpenEpisodes = OpenEpisodes.TestCase
TestOpenEpisodes.settings = examples(max_examples=20, stateful_step_count=15, deadline=None)


class Helper:
    """A human in control of every other ten steps."""

    def begin(self, task: str) -> None: ...

    def control(self, step: int, reward: float) -> Control:
        return Control.CAUSED if step // 10 % 2 else Control.POLICY

    def act(self, observation: Float) -> Float:
        return np.array([0.01], np.float32)


class Endless(PointRobot):
    """An attempt ends when it is told to."""

    def __init__(self) -> None:
        super().__init__(LONG, step=0.0)
        self.finish = threading.Event()

    def poll_events(self) -> Events:
        ended = self.finish.is_set()
        if ended:
            self.finish.clear()
        return Events(0.0, "success" if ended else None)


def spooled(spool: Spool) -> list[tuple[Record, Episode | None]]:
    found = (spool.read(n) for n in spool.pending())
    return [(record, codec.decode(data) if data else None) for record, data in found]


def awaited(seen: Callable[[], object], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_parts_are_kept_while_the_episode_runs_and_are_the_episode_at_its_end(
    tmp_path: Path,
) -> None:
    robot = Endless()
    with Alone(tmp_path, robot, hz=200, human=Helper(), experience=STREAMING) as alone:
        alone.desk.change(lambda slot: dataclasses.replace(slot, pending=loaded(1, flow(LONG))))
        awaited(lambda: alone.spool.depth >= 3)
        assert alone.desk.tally.episodes == 0
        robot.finish.set()
        alone.until(1)
        assert len(alone.of(EventKind.OUTCOME)) == 1
        awaited(lambda: alone.spool.depth and any(r.last for r, _ in spooled(alone.spool)))
        found = spooled(alone.spool)
        end = next(at for at, (record, _) in enumerate(found) if record.last)
        mine = found[: end + 1]
    records = [record for record, _ in mine]
    assert {record.episode_id for record in records} == {alone.of(EventKind.OUTCOME)[0].episode_id}
    assert [record.segment for record in records] == list(range(len(mine)))
    assert [record.outcome for record in records] == [None] * end + [Outcome.SUCCESS]
    assert [record.n for record in records] == list(range(1, len(mine) + 1))
    whole = joined(one for _, one in mine if one is not None)
    assert (whole.outcome, whole.success, len(whole)) == (
        "success",
        True,
        sum(len(e or "") for _, e in mine),
    )
    human = np.arange(len(whole)) // 10 % 2 == 1
    np.testing.assert_array_equal(whole.intervention, human)


def test_a_part_that_the_disk_refuses_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot, refused = Endless(), threading.Event()
    append = Spool.append

    def full(self: Spool, made: Record, payload: bytes) -> Record:
        if made.segment == 1 and not refused.is_set():
            refused.set()
            raise Retry("full")
        return append(self, made, payload)

    monkeypatch.setattr(Spool, "append", full)
    with Alone(tmp_path, robot, hz=200, human=Helper(), experience=STREAMING) as alone:
        alone.desk.change(lambda slot: dataclasses.replace(slot, pending=loaded(1, flow(LONG))))
        awaited(lambda: refused.is_set() and alone.spool.depth >= 3)
        robot.finish.set()
        alone.until(1)
        found = spooled(alone.spool)
        end = next(at for at, (record, _) in enumerate(found) if record.last)
        whole = joined(one for _, one in found[: end + 1] if one is not None)
    assert [record.segment for record, _ in found[: end + 1]] == list(range(end + 1))
    assert alone.desk.tally.lost == 0
    np.testing.assert_array_equal(whole.intervention, np.arange(len(whole)) // 10 % 2 == 1)


def test_an_episode_whose_end_could_not_be_kept_is_closed_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot, append = Endless(), Spool.append

    def full(self: Spool, made: Record, payload: bytes) -> Record:
        if made.last and payload:
            raise Retry("full")
        return append(self, made, payload)

    monkeypatch.setattr(Spool, "append", full)
    with Alone(tmp_path, robot, hz=200, experience=STREAMING) as alone:
        alone.desk.change(lambda slot: dataclasses.replace(slot, pending=loaded(1, flow(LONG))))
        awaited(lambda: alone.spool.depth >= 2)
        robot.finish.set()
        awaited(lambda: any(record.closes for record, _ in spooled(alone.spool)))
        found = [record for record, _ in spooled(alone.spool)]
        assert alone.desk.tally.lost == 1
    end = next(record for record in found if record.closes)
    assert (end.outcome, end.segment) == (Outcome.ABORTED, end.n - 1)


class Replay:
    """A learner's ingest and replay; what it may draw is looked at, not trained on."""

    def __init__(self, wire: Wire, store: Store) -> None:
        self.experience = Recalled.since(Base(), store, "uid-1", 1)
        journal, ledger, library = self.experience
        spaces = SPEC.spaces()
        self.index = ReplayIndex(
            spaces,
            SampleSpec(4, 8, unfinished=True),
            self.experience.load,
            load_part=self.experience.load_part,
        )
        for admitted in self.experience.admitted(journal.replay()):
            admitted.enter(self.index)
        self.handoff = Handoff()
        self.ingest = Ingest(
            wire=wire,
            store=store,
            journal=journal,
            ledger=ledger,
            library=library,
            rules=Rules("uid-1", frozenset(TASKS), spaces.observation_size, spaces.action_size),
            handoff=self.handoff,
            progress=Progress(),
            metrics=LearnerMetrics("default", "job"),
            namespace="default",
            job="job",
            epoch=1,
            sign=keys.LEARNER.sign,
        )

    @property
    def drawable(self) -> int:
        return int(self.index.eligible()[:, Side.ONLINE].sum())

    async def until(self, seen: Callable[[], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not seen():
                await asyncio.to_thread(self.handoff.wait, 0.1)
                for admitted in self.handoff.take(100):
                    admitted.enter(self.index)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.ingest.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_early_steps_of_a_long_episode_are_drawn_while_it_still_runs(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it ends well, and the next one is broken off by the robot's death and by a shutdown."""
    monkeypatch.setattr("fleet_runtime.robot.agent.EPISODE_GRACE", 0.5)
    await make_streams(broker.url)
    settings = RobotSettings(
        namespace="default",
        job="job",
        job_uid="uid-1",
        nats_url=broker.url,
        storage_url=f"file://{tmp_path}/objects",
        robot="r0",
        robot_uid="robot-uid",
        spool_dir=tmp_path / "spool",
        trust_dir=keys.trust(tmp_path / "trust"),
        resync_seconds=0.3,
        spec=RobotConfig(
            tasks=[Task(name=name) for name in TASKS], control_hz=100.0, experience=STREAMING
        ),
    )
    store = Store(settings.storage_url)
    ref = publish(store, 1, flow(LONG))
    wire = await Wire.connect(broker.url, "learner")
    robot = Endless()
    died = _died_in_the_middle(settings)
    replay = Replay(wire, store)
    async with replay.running():
        agent = Agent(settings, robot, Helper())
        task = asyncio.create_task(agent.run())
        await wire.store("ctl.default.job.assign", assignment(1, ref).seal(keys.OPERATOR.sign))
        # What its last life left open was closed, and is not drawn any more.
        await replay.until(lambda: died in replay.index)
        await replay.until(lambda: replay.drawable >= 20)
        assert agent.desk.tally.episodes == 0
        assert len(replay.index) == 1
        running = {one.id for one in replay.index if one.part >= 0}
        assert len(running) == 1
        robot.finish.set()
        await replay.until(lambda: running <= {one.id for one in replay.index if one.part < 0})
        (whole,) = (one for one in replay.index if {one.id} == running)
        assert (whole.outcome, replay.index.loads) == ("success", 0)
        made = replay.experience.load(whole.id)
        assert whole.eligible == int(made.intervention.sum())
        kept = whole.eligible
        await replay.until(lambda: replay.drawable > kept)  # of the next one, which runs
        agent.stop()
        assert await asyncio.wait_for(task, 30)
        await replay.until(lambda: replay.index.unfinished == 0)
        assert replay.drawable == kept
    again = Replay(wire, store)
    assert again.drawable == kept
    assert len(again.index) == len(replay.index) == 3
    await wire.close()


def _died_in_the_middle(settings: RobotSettings) -> str:
    """The spool of a life that ended without a word; the id of its episode."""
    made = learner.episode(
        "before",
        task="left",
        robot="r0",
        observation=np.zeros((21, 2), np.float32),
        action=np.zeros((20, 1), np.float32),
        policy_action=np.zeros((20, 1), np.float32),
        intervention=np.ones(20, bool),
    )
    spool = Spool(settings.spool_dir, job_uid=settings.job_uid)
    who: dict[str, Any] = {"robot_uid": settings.robot_uid}
    for record, payload in learner.parts(made, 5, 10, **who)[:2]:
        spool.append(record, payload)
    spool.close()
    return made.id
