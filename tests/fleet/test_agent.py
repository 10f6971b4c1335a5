"""A whole robot agent on a tiny world, against a real broker and a real store."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fleet_contract import names
from fleet_contract.agents import RobotConfig
from fleet_contract.messages import (
    Assignment,
    AssignmentRole,
    AssignmentState,
    Event,
    EventKind,
    Heartbeat,
    Lineage,
    Outcome,
    PolicyRef,
    RobotState,
    Rule,
)
from fleet_contract.names import Channel, Env, Traffic
from fleet_contract.resources.learning import Task
from fleet_contract.resources.robot_actor import Guard, Link
from fleet_runtime import tracing
from fleet_runtime.artifacts import Store
from fleet_runtime.experience import codec
from fleet_runtime.learner.publish import Snapshot, Versions
from fleet_runtime.policies.flow import FlowPolicy
from fleet_runtime.robot.agent import Agent
from fleet_runtime.robot.swap import PROBATION
from fleet_runtime.settings import RobotSettings
from fleet_runtime.tracing import Trail, of_version
from fleet_runtime.wire import Wire
from helpers import keys
from helpers.nats import Broker, make_streams
from helpers.otlp import collecting
from helpers.toy_learner import RECEIPTS, ToyLearner
from helpers.world import SPEC, TASKS, PointRobot, assignment, flow, publish


class Ground:
    """The other ends: the operator's and the learner's, in the test."""

    def __init__(self, wire: Wire, store: Store, settings: RobotSettings) -> None:
        self.wire = wire
        self.store = store
        self.settings = settings
        self.learner = ToyLearner(wire)
        self.events: list[Event] = []
        self.heartbeat: Heartbeat | None = None
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        where = (self.settings.namespace, self.settings.robot, self.settings.job)
        await self.wire.subscribe(names.robot_subject(*where, Channel.EVENT), self._event)
        await self.wire.subscribe(names.robot_subject(*where, Channel.HEARTBEAT), self._beat)

    async def assign(self, document: Assignment) -> None:
        subject = names.assign_subject(self.settings.namespace, self.settings.job)
        await self.wire.store(subject, document.seal(keys.OPERATOR.sign))

    async def until(self, seen: Callable[[], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(seen)

    def of(self, kind: EventKind) -> list[Event]:
        return [event for event in self.events if event.kind is kind]

    def runs(self, sequence: int) -> bool:
        return any(e.policy and e.policy.sequence == sequence for e in self.of(EventKind.OUTCOME))

    def told_of_uptake(self) -> bool:
        return self.heartbeat is not None and self.heartbeat.uptake is not None

    async def _event(self, _subject: str, data: bytes) -> None:
        async with self._news:
            self.events.append(Event.decode(data))
            self._news.notify_all()

    async def _beat(self, _subject: str, data: bytes) -> None:
        async with self._news:
            self.heartbeat = Heartbeat.decode(data)
            self._news.notify_all()


@pytest.fixture
def settings(broker: Broker, tmp_path: Path) -> RobotSettings:
    return RobotSettings(
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
            tasks=[Task(name=name) for name in TASKS], control_hz=100.0, time_scale=2.0
        ),
    )


@pytest.fixture
async def ground(broker: Broker, settings: RobotSettings) -> AsyncIterator[Ground]:
    await make_streams(broker.url)
    wire = await Wire.connect(broker.url, "ground")
    made = Ground(wire, Store(settings.storage_url), settings)
    await made.listen()
    yield made
    await wire.close()


@asynccontextmanager
async def running(settings: RobotSettings, robot: PointRobot | None = None) -> AsyncIterator[Agent]:
    agent = Agent(settings, robot or PointRobot())
    task = asyncio.create_task(agent.run())
    try:
        yield agent
    finally:
        agent.stop()
        orderly = await asyncio.wait_for(task, 60)
    assert orderly


async def test_a_robot_takes_its_policy_runs_episodes_and_uploads_them_whole(
    ground: Ground, settings: RobotSettings
) -> None:
    ref = publish(ground.store, 1)
    async with running(settings) as agent:
        await ground.until(
            lambda: (
                ground.heartbeat is not None
                and ground.heartbeat.state is RobotState.WAITING_FOR_POLICY
            )
        )
        await ground.assign(assignment(3, ref))
        await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) >= 2)
        while len(ground.learner.records) < 2:
            await ground.learner.take()
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.episodes >= 2))
        assert agent.desk.tally.lost == 0
    (spool_id, _), *_ = ground.learner.records
    for n in (1, 2):
        record, payload = ground.learner.records[spool_id, n]
        episode = codec.decode(payload)
        assert (record.manifest, record.sequence, record.assignment_epoch) == (ref.digest, 1, 3)
        assert (episode.id, episode.policy_digest) == (record.episode_id, ref.digest)
        assert len(episode) == 12
        assert record.outcome is Outcome.TIMEOUT
    told = {event.episode_id for event in ground.of(EventKind.OUTCOME)}
    assert all(0 < (event.latency or 0) < 10 for event in ground.of(EventKind.OUTCOME))
    assert {record.episode_id for record, _ in ground.learner.records.values()} <= told
    assert {record.task for record, _ in ground.learner.records.values()} == set(TASKS)
    assert [event.policy for event in ground.of(EventKind.SWAP)] == [ref]
    assert ground.heartbeat is not None
    assert ground.heartbeat.active == ref
    assert ground.heartbeat.policy_latency is not None
    assert ground.heartbeat.uptake is None  # there was no older version to come from
    tasks = ground.heartbeat.tasks
    assert tasks.keys() == set(TASKS)
    assert sum(one.outcomes.get("timeout", 0) for one in tasks.values()) >= 2
    assert ground.heartbeat.records["stored"] >= 2
    assert ground.heartbeat.sent[Traffic.EXPERIENCE] == ground.heartbeat.bytes_sent > 0
    assert ground.heartbeat.sent[Traffic.TELEMETRY] > 0
    assert ground.heartbeat.received[Traffic.POLICY] == ground.heartbeat.bytes_received > 0
    assert ground.heartbeat.received[Traffic.CONTROL] > 0


async def test_what_is_on_disk_is_given_up_for_the_learners_own_receipt_only(
    ground: Ground, settings: RobotSettings
) -> None:
    async with running(settings):
        await ground.assign(assignment(1, publish(ground.store, 1)))
        async with asyncio.timeout(60):
            while len(ground.learner.records) < 2:
                await ground.learner.take()
        ((spool, _), *_) = ground.learner.records
        told = ground.learner.receipt(spool)
        await ground.wire.store(RECEIPTS, told.seal(keys.STRANGER.sign))
        await ground.learner.send(told.model_copy(update={"through": 1, "extras": ()}))

        def settled() -> int:
            return ground.heartbeat.records.get("settled", 0) if ground.heartbeat else 0

        await ground.until(lambda: settled() > 0, 30)
        assert settled() == 1


async def test_every_episode_has_one_policy_and_a_rollback_is_followed(
    ground: Ground, settings: RobotSettings
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    async with running(settings):
        await ground.assign(assignment(1, one))
        await ground.until(lambda: ground.runs(1))
        await ground.assign(assignment(2, two))
        await ground.until(lambda: ground.runs(2))
        await ground.until(ground.told_of_uptake)
        before = len(ground.events)
        await ground.assign(assignment(3, one))
        await ground.until(
            lambda: any(e.policy == one and e.assignment_epoch == 3 for e in ground.events[before:])
        )
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.active == one))
        assert ground.heartbeat is not None
        uptake = ground.heartbeat.uptake
        assert uptake is not None
        assert uptake.sequence == 2
        assert 0 < uptake.fetch < uptake.total
        assert 0 < uptake.wait < uptake.total
        await ground.assign(assignment(4, two))
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.active == two))
        assert ground.heartbeat.uptake == uptake  # to go back is none, nor to come back
        async with asyncio.timeout(60):
            while {record.sequence for record, _ in ground.learner.records.values()} != {1, 2}:
                await ground.learner.take()
                await ground.learner.settle(next(iter(ground.learner.records))[0])
    for record, payload in ground.learner.records.values():
        assert codec.decode(payload).policy_digest == record.manifest


async def test_a_robots_part_of_the_traces_is_told_and_to_go_back_to_a_version_is_no_news(
    ground: Ground, settings: RobotSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    monkeypatch.setattr(tracing, "SAID_WITHIN", 60.0)
    with collecting() as collector:
        monkeypatch.setenv(Env.OTLP_ENDPOINT, collector.url)
        tracing.begin("robot", robot="r0")
        try:
            async with running(settings):
                for epoch, ref in enumerate((one, two, one), 1):
                    await ground.assign(assignment(epoch, ref))
                    lived = partial(lives, ground, ref, epoch)
                    await ground.until(lived)
                while not ground.learner.records:
                    await ground.learner.take()
                for spool, _ in list(ground.learner.records):
                    await ground.learner.settle(spool)
                await ground.until(
                    lambda: bool(ground.heartbeat and ground.heartbeat.records.get("settled"))
                )
        finally:
            await asyncio.to_thread(tracing.end)
    by_name: dict[str, list[Trail]] = {}
    for span in collector.spans:
        by_name.setdefault(span.name, []).append(span.trail)
    versions = [of_version(ref.digest) for ref in (one, two)]
    assert by_name["assign"] == by_name["fetch"] == by_name["swap"]
    assert by_name["swap"][:2] == versions  # a third only where it was let go, and fetched again
    assert set(by_name["receipt"]) <= set(by_name["upload"]) <= set(by_name["episode"])
    assert set(by_name["receipt"])
    first = next(span for span in collector.spans if span.name == "episode")
    assert first.links == [versions[0]]
    assert {one.whose["service.name"] for one in collector.spans} == {"fleetloop-robot"}


def lives(ground: Ground, ref: PolicyRef, epoch: int) -> bool:
    """An episode has ended under this very assignment; of the first, enough to go back to it."""
    ended = [(one.policy, one.assignment_epoch) for one in ground.of(EventKind.OUTCOME)]
    return ended.count((ref, epoch)) > (PROBATION if epoch == 1 else 0)


async def test_an_older_assignment_is_refused_also_after_a_restart(
    ground: Ground, settings: RobotSettings
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    async with running(settings):
        await ground.assign(assignment(5, two))
        await ground.until(lambda: ground.runs(2))
    await ground.assign(assignment(4, one))
    ground.events.clear()
    async with running(settings):
        await ground.until(lambda: bool(ground.of(EventKind.REFUSAL)) and ground.runs(2))
        assert "older" in ground.of(EventKind.REFUSAL)[0].detail
        assert not ground.runs(1)


async def test_without_a_broker_it_goes_on_after_a_restart_and_sends_it_all_later(
    broker: Broker, ground: Ground, settings: RobotSettings
) -> None:
    ref = publish(ground.store, 1)
    async with running(settings):
        await ground.assign(assignment(1, ref))
        await ground.until(lambda: ground.runs(1))
    broker.kill()
    async with running(settings) as agent:
        async with asyncio.timeout(60):
            while agent.desk.tally.episodes < 3:  # noqa: ASYNC110 - the thread tells nobody else
                await asyncio.sleep(0.01)
        broker.start()
        await ground.wire.ready()
        ground.events.clear()
        await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) >= 3)
        seen: set[int] = set()
        async with asyncio.timeout(60):
            while len(seen) < 4:
                await ground.learner.take()
                seen = {n for _, n in ground.learner.records}
        assert seen >= {1, 2, 3, 4}


async def test_a_frozen_fleet_takes_up_nothing_and_a_closed_one_rests(
    ground: Ground, settings: RobotSettings
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    robot = PointRobot()
    async with running(settings, robot):
        await ground.assign(assignment(1, one))
        await ground.until(lambda: ground.runs(1))
        await ground.assign(assignment(2, two, state=AssignmentState.FROZEN))
        await ground.until(
            lambda: bool(ground.heartbeat and ground.heartbeat.assignment_epoch == 2)
        )
        count = len(ground.of(EventKind.OUTCOME))
        await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) > count + 1)
        assert not ground.runs(2)
        await ground.assign(assignment(3, two, state=AssignmentState.CLOSED))
        await ground.until(
            lambda: bool(ground.heartbeat and ground.heartbeat.state is RobotState.PAUSED)
        )
        assert robot.stops > 0
        await ground.assign(assignment(4, two))
        await ground.until(lambda: ground.runs(2))


async def test_a_bad_policy_is_refused_and_the_one_that_drives_goes_on(
    ground: Ground, settings: RobotSettings
) -> None:
    one = publish(ground.store, 1)
    bad = publish(ground.store, 2, files={"config.json": b"{}"})
    async with running(settings):
        await ground.assign(assignment(1, one))
        await ground.until(lambda: ground.runs(1))
        await ground.assign(assignment(2, bad))
        await ground.until(lambda: bool(ground.of(EventKind.REFUSAL)))
        refusal = ground.of(EventKind.REFUSAL)[0]
        assert refusal.policy == bad
        count = len(ground.of(EventKind.OUTCOME))
        await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) > count)
        assert not ground.runs(2)
        assert len(ground.of(EventKind.REFUSAL)) == 1


def beside(ref: PolicyRef) -> tuple[Rule, ...]:
    return (Rule(robots=("r0",), manifest=ref, role=AssignmentRole.SHADOW),)


def compared(events: list[Event]) -> list[PolicyRef | None]:
    return [event.policy for event in events if event.shadow and event.shadow.chunks]


async def test_a_shadow_is_fetched_beside_what_drives_and_gone_when_it_is_promoted(
    ground: Ground, settings: RobotSettings
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    async with running(settings) as agent:
        await ground.assign(assignment(1, one, rules=beside(two)))
        await ground.until(lambda: two in compared(ground.of(EventKind.SHADOW)))
        assert not ground.runs(2)
        told = ground.of(EventKind.SHADOW)[0]
        assert told.shadow is not None
        assert (told.role, told.shadow.acted) == (AssignmentRole.SHADOW, one)
        assert told.assignment_epoch == 1
        # Frozen, it stays as it is; promoted, it drives and nothing computes beside it.
        await ground.assign(
            assignment(2, one, state=AssignmentState.FROZEN, rules=beside(two)),
        )
        await ground.until(
            lambda: bool(ground.heartbeat and ground.heartbeat.assignment_epoch == 2)
        )
        held = agent.desk.shadow.wanted
        assert held is not None
        assert held.ref == two
        await ground.assign(assignment(3, two))
        await ground.until(lambda: ground.runs(2))
        assert agent.desk.shadow.wanted is None
        assert agent.desk.slot.active is not None
        # What the worker may still compute with is never what drives.
        assert agent.desk.slot.active.policy is not held.policy
    assert {event.policy for event in ground.of(EventKind.SHADOW)} == {two}


async def test_a_shadow_that_cannot_be_had_is_refused_or_awaited_and_what_drives_goes_on(
    ground: Ground, settings: RobotSettings
) -> None:
    one, three = publish(ground.store, 1), publish(ground.store, 3)
    bad = publish(ground.store, 2, files={"config.json": b"{}"})
    data = ground.store.get(three.uri)
    ground.store.delete(three.uri)
    async with running(settings):
        await ground.assign(assignment(1, one, rules=beside(bad)))
        await ground.until(lambda: bool(ground.of(EventKind.REFUSAL)) and ground.runs(1))
        refusal = ground.of(EventKind.REFUSAL)[0]
        assert (refusal.policy, refusal.role) == (bad, AssignmentRole.SHADOW)
        await ground.assign(assignment(2, one, rules=beside(three)))
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.policy_fault))
        count = len(ground.of(EventKind.OUTCOME))
        await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) > count + 1)
        assert ground.of(EventKind.SHADOW) == []
        ground.store.create(three.uri, data)
        await ground.until(lambda: three in compared(ground.of(EventKind.SHADOW)))
        assert len(ground.of(EventKind.REFUSAL)) == 1


@pytest.mark.parametrize("fault", ["nan", "raise", "bounds"])
async def test_a_policy_that_goes_wild_is_stopped_and_the_last_good_one_drives_again(
    ground: Ground, settings: RobotSettings, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    robot = PointRobot()
    sound = FlowPolicy.act
    async with running(settings, robot) as agent:

        def act(self: FlowPolicy, *arguments: object) -> object:
            slot = agent.desk.slot
            chunk = sound(self, *arguments)  # type: ignore[arg-type]
            if slot.active is None or slot.active.policy is not self or slot.active.ref != two:
                return chunk
            if fault == "raise":
                raise ArithmeticError("no solution")
            return np.full_like(chunk, np.nan if fault == "nan" else 7.0)

        monkeypatch.setattr(FlowPolicy, "act", act)
        await ground.assign(assignment(1, one))
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.good == one))
        await ground.assign(assignment(2, two))
        await ground.until(lambda: bool(ground.of(EventKind.REFUSAL)))
        (refusal,) = ground.of(EventKind.REFUSAL)
        assert (refusal.policy, refusal.assignment_epoch) == (two, 2)
        assert "taken back by the guard, version 1 drives again" in refusal.detail
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.fallbacks == 1))
        assert ground.heartbeat is not None
        assert ground.heartbeat.fallback is not None
        assert (ground.heartbeat.fallback.policy, ground.heartbeat.good) == (two, one)
        ground.events.clear()
        await ground.until(lambda: ground.runs(1))
        assert not ground.runs(2)
    assert robot.stops > 0
    assert max(map(abs, robot.acted)) <= 1.0
    assert np.isfinite(robot.acted).all()


async def test_a_first_version_that_goes_wild_ends_in_a_safe_stop_until_another_comes(
    ground: Ground, settings: RobotSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = publish(ground.store, 1), publish(ground.store, 2)
    robot, sound = PointRobot(), FlowPolicy.act
    wild = True
    monkeypatch.setattr(
        FlowPolicy, "act", lambda *arguments: sound(*arguments) * (np.nan if wild else 1.0)
    )
    async with running(settings, robot):
        await ground.assign(assignment(1, one))
        await ground.until(
            lambda: bool(
                ground.heartbeat and ground.heartbeat.fallback and not ground.heartbeat.active
            )
        )
        assert ground.heartbeat is not None
        assert ground.heartbeat.state is RobotState.WAITING_FOR_POLICY
        assert ground.heartbeat.fallback is not None
        assert "safe stop" in ground.heartbeat.fallback.why
        assert robot.stops > 0
    acted = len(robot.acted)
    async with running(settings, robot):  # a restart brings it no nearer
        ground.heartbeat = None
        await ground.until(
            lambda: bool(
                ground.heartbeat
                and ground.heartbeat.state is RobotState.WAITING_FOR_POLICY
                and ground.heartbeat.assignment_epoch == 1
            )
        )
        assert len(robot.acted) == acted
        wild = False
        await ground.assign(assignment(2, two))
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.good == two))
        await ground.assign(assignment(3, one))  # a newer assignment names it anew
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.active == one))


async def test_a_robot_that_fails_rests_and_is_brought_up_again(
    ground: Ground, settings: RobotSettings
) -> None:
    class Shaky(PointRobot):
        def act(self, action: np.ndarray) -> np.ndarray:
            if len(self.acted) == 5:
                self.acted.append(0.0)
                raise OSError("cable")
            return super().act(action)

    robot = Shaky()
    async with running(settings, robot):
        await ground.assign(assignment(1, publish(ground.store, 1)))
        await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) >= 2)
    aborted, after = ground.of(EventKind.OUTCOME)[:2]
    assert (aborted.outcome, aborted.judged) == (Outcome.ABORTED, None)
    assert "cable" in aborted.detail
    assert after.outcome is Outcome.TIMEOUT


async def test_a_full_disk_is_told_with_what_was_lost_and_forgotten_when_there_is_room(
    ground: Ground, settings: RobotSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool that takes no record at all stands for the disk of the robot's machine."""
    await ground.assign(assignment(1, publish(ground.store, 1)))
    async with running(settings) as agent:
        await ground.until(lambda: ground.runs(1))
        monkeypatch.setattr(agent._spool, "_max_bytes", 10)
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.spool_fault))
        assert ground.heartbeat is not None
        assert "Episodes are lost: record of" in ground.heartbeat.spool_fault
        monkeypatch.undo()
        await ground.until(lambda: bool(ground.heartbeat and not ground.heartbeat.spool_fault))


async def test_a_policy_that_cannot_be_fetched_is_told_and_taken_up_when_it_can(
    ground: Ground, settings: RobotSettings
) -> None:
    ref = publish(ground.store, 1)
    data = ground.store.get(ref.uri)
    ground.store.delete(ref.uri)
    await ground.assign(assignment(1, ref))
    async with running(settings):
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.policy_fault))
        assert ground.heartbeat is not None
        assert "it may still be on its way" in ground.heartbeat.policy_fault
        ground.store.create(ref.uri, data)
        await ground.until(lambda: ground.runs(1))
        await ground.until(lambda: bool(ground.heartbeat and not ground.heartbeat.policy_fault))


async def test_on_a_metered_link_a_version_without_a_delta_is_told_and_a_newer_one_taken_up(
    ground: Ground, settings: RobotSettings
) -> None:
    spec = settings.spec.model_copy(update={"link": Link.METERED})
    first, second = publish(ground.store, 1), publish(ground.store, 2)
    await ground.assign(assignment(1, first))
    async with running(settings.model_copy(update={"spec": spec})):
        await ground.until(lambda: ground.runs(1))
        await ground.assign(assignment(2, second))
        await ground.until(lambda: bool(ground.heartbeat and ground.heartbeat.policy_fault))
        assert ground.heartbeat is not None
        assert "version 2 would come whole" in ground.heartbeat.policy_fault
        assert ground.heartbeat.received.get(Traffic.DELTA, 0) == 0
        learner = Versions(ground.store, "uid-1", 1, 100.0, sign=keys.LEARNER.sign)
        learner.recover()
        lineage = Lineage(first=0, through=0, episodes=0)
        third = learner.publish(Snapshot(flow(seed=3), 3, {}, lineage), [first])
        await ground.assign(assignment(3, third.ref))
        await ground.until(lambda: ground.runs(3))
        await ground.until(lambda: bool(ground.heartbeat and not ground.heartbeat.policy_fault))
        (_, told) = third.manifest.deltas
        assert ground.heartbeat.received[Traffic.DELTA] == told.size
    assert not ground.runs(2)


@pytest.mark.parametrize(("periods", "late"), [(1e-6, True), (1000.0, False)])
async def test_how_long_a_policy_may_think_is_the_robots_own(
    ground: Ground, settings: RobotSettings, periods: float, late: bool
) -> None:
    spec = settings.spec.model_copy(update={"guard": Guard(inference_periods=periods)})
    robot = PointRobot(dataclasses.replace(SPEC, waits=False))
    await ground.assign(assignment(1, publish(ground.store, 1)))
    async with running(settings.model_copy(update={"spec": spec}), robot):
        if late:
            await ground.until(lambda: bool(ground.of(EventKind.GUARD)))
        else:
            await ground.until(lambda: len(ground.of(EventKind.OUTCOME)) >= 2)
    told = [event.detail for event in ground.of(EventKind.GUARD)]
    assert all("no answer within" in detail for detail in told)
    assert bool(told) is late
