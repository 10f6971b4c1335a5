"""The demo's plot: teach, measure, improve, confirm, and take a bad version back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

from fleet_cli.demo import agents
from fleet_cli.demo.courses import cast
from fleet_cli.demo.feed import listening
from fleet_cli.demo.story import Story, TaskStory, mean_rate
from fleet_cli.demo.view import show
from fleet_cli.setup import apply
from fleet_contract import names
from fleet_contract.identity import passport_of
from fleet_contract.messages import LearnerStage
from fleet_contract.names import Identity, Kind
from fleet_contract.resources import FleetTrainingJob, PolicyPhase, PolicyVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from rich.console import Console

    from fleet_cli.demo.courses import Course
    from fleet_cli.demo.venue import Venue
    from fleet_cli.local.node.api import Api
    from fleet_contract.identity import Passport

LOOK = 0.2  # seconds between two looks at the story
LEAST_JUDGED = 12  # judged episodes a task before the goal can seem met
SEEMS_MARGIN = 0.03  # the gate counts a rescue as failure, so the fleet's own figure runs lower
ROLLBACK_WITHIN = 300.0  # seconds: five episodes of one robot, on a machine that is busy
RESUMED_WITHIN = 90.0  # seconds
SPOILS = 3  # a bad version may be overtaken by a good one before it is tried


class Ended(Exception):
    """The user deleted the job, or it cannot go on; the message says which."""


@dataclass(frozen=True)
class Options:
    """What the command line lets people choose."""

    minutes: float
    goal: float
    demonstrations: int
    seed: int
    episodes: int
    """Of each task in the last measurement; half as many in the first."""
    course: Course
    """What the algorithm changes."""


@dataclass
class Demo:
    """One performance on one running cluster."""

    venue: Venue
    options: Options
    console: Console
    story: Story
    job: dict[str, Any]
    started: float
    helpers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    def on(cls, venue: Venue, options: Options, console: Console) -> Demo:
        job = yaml.safe_load(files("fleet_cli.demo").joinpath("job.yaml").read_text())
        job["metadata"]["namespace"] = venue.namespace
        cast(job, options.course)
        # Of its own: a store that outlives the demo holds the demonstrations of earlier ones.
        job["spec"]["offline"]["datasets"] = [{"uri": f"datasets/demo-{options.seed}"}]
        story = Story({task["name"]: TaskStory() for task in job["spec"]["tasks"]})
        return cls(venue, options, console, story, job, time.monotonic())

    def clock(self) -> float:
        return time.monotonic() - self.started

    def say(self, line: str) -> None:
        self.story.say(self.clock(), line)

    async def perform(self) -> str:
        """The whole play; returns the verdict in one sentence. Raises ``Ended``."""
        async with (
            self.venue.api() as api,
            self._beside(show(self.story, self.clock, self.console)),
        ):
            self.story.chapter = "recording demonstrations"
            if self.options.course.why:
                name = self.job["spec"]["algorithm"]["name"]
                self.say(f"{name}'s goal is {self.options.goal:g}: {self.options.course.why}")
            await asyncio.gather(
                agents.record(
                    self.venue.store,
                    self.job["spec"]["offline"]["datasets"][0]["uri"],
                    list(self.story.tasks),
                    self.options.demonstrations,
                    self.options.seed,
                ),
                asyncio.to_thread(self.venue.install),
            )
            name = self.job["metadata"]["name"]
            at = (self.venue.nats_url, self.venue.namespace, name)
            async with (
                listening(
                    *(*at, self.story, self.clock, await self._reader(api)),
                    authorities=self.venue.authorities,
                ),
                self._beside(self._watch_jobs(api)),
                self._beside(self._watch_versions(api)),
            ):
                await asyncio.to_thread(self._apply)
                self.say(f"job {name} applied: {len(self.story.tasks)} tasks, the fleet starts")
                self.story.chapter = "teaching from demonstrations"
                await self._until(lambda: self.story.promotions > 0, self.venue.first_policy_within)
                async with self._beside(self.venue.harm(api, self.say)):
                    missed = await self._improve()
                return missed or await self._sabotage()

    async def _reader(self, api: Api) -> Passport | None:
        """Who we are at a broker that asks."""
        if not self.venue.accounts:
            return None
        namespace = self.venue.namespace
        return passport_of(await agents.credentials(api, namespace, Identity.READER, names.READER))

    async def _improve(self) -> str:
        """Until the goal is confirmed; otherwise how far it came, in a sentence."""
        deadline = self.clock() + self.options.minutes * 60
        self.story.chapter = "the fleet learns"
        async with self._beside(self._measure_base()) as base:
            while True:
                met = await self._until(self._seems_met, deadline - self.clock(), strict=False)
                await base
                if not met and self.clock() >= deadline:
                    self.story.chapter = "time is up; measuring"
                await self._measure_final()
                if self._confirmed:
                    break
                if self.clock() >= deadline:
                    return f"time is up at {self._final:.2f}, the goal was {self.options.goal:.2f}"
                self.story.chapter = "the fleet learns"
                for task in self.story.tasks.values():
                    task.judged.clear()  # fresh evidence before the next try
        return ""

    async def _sabotage(self) -> str:
        """Publish a broken version on purpose and wait until the fleet is rid of it."""
        await self._hold_versions_back()
        self.story.chapter = "publishing a bad version"
        for _ in range(SPOILS):
            job = self.story.job
            if job is None or job.status.stable is None:
                raise Ended("the job lost its stable version")
            async with self.venue.api() as api:
                bad = await agents.spoil(
                    api,
                    self.venue.nats_url,
                    self.venue.store,
                    self.venue.namespace,
                    job.metadata.name,
                    job.metadata.uid,
                    job.status.stable.uri,
                    accounts=self.venue.accounts,
                    authorities=self.venue.authorities,
                )
            self.say(f"v{bad} is broken on purpose: its weights are scrambled")

            def settled(bad: int = bad) -> bool:
                return self.story.phase_of(bad) in _SETTLED or self._overtaken(bad)

            await self._until(settled, ROLLBACK_WITHIN)
            if self.story.phase_of(bad) is PolicyPhase.ROLLED_BACK:
                self.story.chapter = "done"
                return f"goal met, bad v{bad} taken back"
            if self.story.phase_of(bad) is PolicyPhase.PROMOTED:
                raise Ended(f"v{bad} is broken on purpose and was promoted all the same")
        raise Ended(f"{SPOILS} bad versions were overtaken before the fleet could try one")

    async def _hold_versions_back(self) -> None:
        """Slow publishing down by an edit of the job, or good versions would overtake the bad."""
        self.story.chapter = "holding further versions back"
        before = self.story.learner.epoch if self.story.learner else 0
        self.job["spec"]["publish"]["minInterval"] = "1h"
        await asyncio.to_thread(self._apply)
        self.say("publish.minInterval is 1h now: the learner begins a new run where it left off")

        def resumed() -> bool:
            learner = self.story.learner
            return (
                learner is not None
                and learner.epoch > before
                and learner.stage not in {LearnerStage.STARTING, LearnerStage.STOPPING}
            )

        await self._until(resumed, RESUMED_WITHIN)

    def _overtaken(self, bad: int) -> bool:
        """A later version became the candidate, so the bad one never will."""
        return bad not in self.story.versions and max(self.story.versions, default=0) > bad

    async def _measure_base(self) -> None:
        first = self.story.versions[min(self.story.versions)]
        self.story.base = await agents.measure(
            self.venue.store,
            first.spec.uri,
            list(self.story.tasks),
            max(self.options.episodes // 2, 1),
            agents.BASE_SEED,
        )
        self.say(f"base, gate off, unseen goals: {mean_rate(self.story.base):.2f}")

    async def _measure_final(self) -> None:
        job = self.story.job
        if job is None or job.status.stable is None:
            raise Ended("the job lost its stable version")
        stable = job.status.stable
        self.story.chapter = f"confirming v{stable.sequence}"
        self.story.final = await agents.measure(
            self.venue.store,
            stable.uri,
            list(self.story.tasks),
            self.options.episodes,
            agents.FINAL_SEED,
        )
        self.say(f"v{stable.sequence}, gate off, unseen goals: {self._final:.2f}")

    def _seems_met(self) -> bool:
        return self.story.seems_met(self.options.goal - SEEMS_MARGIN, LEAST_JUDGED)

    @property
    def _final(self) -> float:
        return mean_rate(self.story.final) if self.story.final else 0.0

    @property
    def _confirmed(self) -> bool:
        return self._final >= self.options.goal

    async def _until(
        self, happened: Callable[[], bool], seconds: float, *, strict: bool = True
    ) -> bool:
        """Wait for something in the story; late is an end when ``strict``, else False."""
        deadline = time.monotonic() + seconds
        while not happened():
            for helper in self.helpers:
                if helper.done():
                    helper.result()  # its fault is ours: nobody would look at a dead view
            if self.story.deleted:
                raise Ended("the job was deleted; nothing is left to watch")
            if time.monotonic() > deadline:
                if strict:
                    raise Ended(f"still {self.story.chapter} after {seconds:.0f} s")
                return False
            await asyncio.sleep(LOOK)
        return True

    @contextlib.asynccontextmanager
    async def _beside(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
        """Run a coroutine while the block lasts."""
        task = asyncio.create_task(work)
        self.helpers.append(task)
        try:
            yield task
        finally:
            self.helpers.remove(task)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _apply(self) -> None:
        apply(self.venue.kubectl, self.venue.kubeconfig, yaml.safe_dump(self.job))

    async def _watch_jobs(self, api: Api) -> None:
        async for kind, item in self._changes(api, Kind.TRAINING_JOB):
            if item["metadata"]["name"] == self.job["metadata"]["name"]:
                self.story.on_job(self.clock(), kind, FleetTrainingJob.model_validate(item))

    async def _watch_versions(self, api: Api) -> None:
        async for kind, item in self._changes(api, Kind.POLICY_VERSION):
            self.story.on_version(self.clock(), kind, PolicyVersion.model_validate(item))

    async def _changes(self, api: Api, kind: Kind) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """(ADDED | MODIFIED | DELETED, object) of one kind in the demo's namespace, for ever."""
        plural = names.PLURALS[kind]
        path = f"/apis/{names.API_VERSION}/namespaces/{self.venue.namespace}/{plural}"
        async for what, found in api.watch(path):
            if what == "LISTED":
                for item in found["items"]:
                    yield "ADDED", item
            else:
                yield what, found


_SETTLED = {PolicyPhase.ROLLED_BACK, PolicyPhase.PROMOTED, PolicyPhase.SUPERSEDED}
