"""From the job's configuration, its checkpoints and its journal to a run that can start.

Order: the newest usable checkpoint, the demonstrations, the whole journal. The interface (spaces)
comes from the first of these that has one: `policy.parameters.spaces`, the initial policy, the
checkpoint, the demonstrations, the first online episode.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections import Counter
from typing import TYPE_CHECKING

from fleet_contract.errors import Reject, Retry
from fleet_contract.messages import LearnerStage
from fleet_contract.resources.experience import ExperienceMode
from fleet_runtime.learner import build, retention
from fleet_runtime.learner.interface import initial_policy, spaces_of
from fleet_runtime.learner.loop import Training
from fleet_runtime.learner.recall import Experience, index_demonstrations, read_demonstrations
from fleet_runtime.learner.retention import Base, Retention
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.limiter import UpdateLimiter

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from fleet_contract.agents import LearnerConfig
    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.artifacts import Store
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.learner.admission import Rules
    from fleet_runtime.learner.announce import Publisher
    from fleet_runtime.learner.checkpoint import Checkpointer, Checkpoints, Saved, Tensors
    from fleet_runtime.learner.handoff import Admitted, Handoff
    from fleet_runtime.learner.journal import Segment
    from fleet_runtime.learner.offline import Demonstration
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.learner.publish import Versions
    from fleet_runtime.metrics import LearnerMetrics
    from fleet_runtime.policies.base import Policy

log = logging.getLogger(__name__)


@dataclasses.dataclass
class Parts:
    """What exists before anything was read."""

    config: LearnerConfig
    store: Store
    rules: Rules
    epoch: int
    checkpoints: Checkpoints
    versions: Versions
    handoff: Handoff
    publisher: Publisher
    checkpointer: Checkpointer
    progress: Progress
    metrics: LearnerMetrics
    stop: threading.Event


def prepare(parts: Parts, on_replayed: Callable[[Experience], None]) -> Training | None:
    """The run, ready to start; None at stop. Waits for a store that is away.

    `on_replayed` is called once, when ingest may start on what was rebuilt.

    Raises:
        Misconfigured: what only another spec heals, in words for the job's owner.
        FleetError: what no retry heals, `Fenced` among them.
    """
    wait = 0.5
    while not parts.stop.is_set():
        preparation = Preparation(parts)
        try:
            preparation.replay()
        except Retry as fault:
            log.warning("waiting for the store: %s", fault)
            parts.progress.fault = f"It waits for what it must read first: {fault}."
            parts.stop.wait(wait)
            wait = min(10.0, wait * 2)
            continue
        parts.progress.fault = ""
        if not parts.stop.is_set():
            on_replayed(preparation.experience)
        return preparation.training()
    return None


class Preparation:
    """The run under construction. Belongs to the training thread; everything here may block."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = build.tasks(parts.config)
        self._initial: Policy | None = None
        self._saved: Saved | None = None
        self._demonstrations: list[Demonstration] = []
        self._training: Training | None = None
        self._through = 0
        self._base = Base()
        self.experience = self._since(self._base)

    def replay(self) -> None:
        """Read everything there is; raises as `prepare`, and `Retry` for a store that is away."""
        parts, config = self._parts, self._parts.config
        build.demand_known(config)
        self._retain()
        journal, _, library = self.experience
        self._initial = initial_policy(config.policy.initial.uri)
        algorithm = parts.checkpoints.newest(self._resumed)
        parts.progress.stage = LearnerStage.OFFLINE
        told = build.told_spaces(config, self._initial)
        if told is None and self._saved is not None:
            told = self._saved.spaces
        self._demonstrations = read_demonstrations(
            config, parts.store.url, library, told, parts.stop.is_set
        )
        spaces = told or self._shown_spaces()
        if spaces is not None:
            self._build(spaces, algorithm)
        for admitted in self.experience.admitted(self._segments()):
            self._add_online(admitted)
        if parts.stop.is_set():
            return
        parts.progress.journal_position = self._through = journal.position
        last = parts.versions.recover()
        if self._saved is not None:
            parts.versions.floor = max(parts.versions.floor, self._saved.sequence)
        parts.progress.published = last.ref.sequence if last else 0
        parts.publisher.resume(last, algorithm.updates if algorithm else 0)
        log.info("journal replayed: %d segments, %d episodes", journal.position, len(library))

    def training(self) -> Training | None:
        """The finished run; waits for a first episode if nothing told the interface, None at stop.

        Without demonstrations and without a policy nothing is known of robot or task: the learner
        says so and waits for the first episode.
        """
        parts = self._parts
        if self._training is None:
            log.warning(
                "no demonstrations, no initial policy, no experience: waiting for a first episode; "
                "give spec.offline.datasets or spec.policy.initial for robots to start from"
            )
        while self._training is None and not parts.stop.is_set():
            parts.progress.stage = LearnerStage.WAITING_FOR_DATA
            parts.handoff.wait(1.0)
            for admitted in parts.handoff.take():
                self._add_online(admitted)
                self._through = max(self._through, admitted.position + 1)
        if self._training is not None:
            self._training.through = self._through
            self._training.look()
        return self._training

    def _since(self, base: Base) -> Experience:
        return Experience.since(
            base, self._parts.store, self._parts.rules.job_uid, self._parts.epoch
        )

    def _retain(self) -> None:
        """Begin where the journal does, and from now on let go of what the replay drops."""
        parts = self._parts
        self._base = retention.newest(parts.store, parts.rules.job_uid)
        self.experience = self._since(self._base)
        library, progress = self.experience.library, parts.progress
        keeper = Retention(parts.store, parts.rules.job_uid, parts.epoch, self._base, parts.metrics)
        keeper.sweep()
        progress.journal_first = self._base.position

        def retain(saved: Saved) -> None:
            keeper.collect(saved.journal_first, library)
            progress.journal_first = keeper.base.position

        parts.checkpointer.retain = retain

    def _resumed(self, saved: Saved, tensors: Tensors) -> Algorithm:
        algorithm = build.resumed(self._parts.config, saved, tensors, initial=self._initial)
        self._saved = saved
        log.info(
            "resuming at step %d from the checkpoint of epoch %d", saved.step, saved.learner_epoch
        )
        return algorithm

    def _segments(self) -> Iterator[Segment]:
        """The whole journal, or what was read of it by the time of the stop."""
        return itertools.takewhile(
            lambda _: not self._parts.stop.is_set(), self.experience.journal.replay()
        )

    def _shown_spaces(self) -> Spaces | None:
        """As the demonstrations show it; raises as `spaces_of` for any of them."""
        shown = [spaces_of(d.episode, self._tasks) for d in self._demonstrations if d.episode]
        return shown[0] if shown else None

    def _build(self, spaces: Spaces, algorithm: Algorithm | None = None) -> None:
        parts, config = self._parts, self._parts.config
        parts.rules.observation_size = spaces.observation_size
        parts.rules.action_size = spaces.action_size
        parts.rules.images = spaces.images
        if algorithm is None:
            measured = [d.episode for d in self._demonstrations if d.episode]
            statistics = Normalization.measure(measured) if measured else None
            algorithm = build.create(
                config, spaces, initial=self._initial, normalization=statistics
            )
        unfinished = algorithm.sample_spec.unfinished
        if config.experience.mode is ExperienceMode.STREAMING and not unfinished:
            log.info(
                "robots send episodes in parts; %s learns from one when it has ended, for it looks "
                "at how it ended",
                config.algorithm.name,
            )
        index = ReplayIndex(
            spaces,
            algorithm.sample_spec,
            self.experience.load,
            max_steps=config.checkpoint.experience_steps,
            load_part=self.experience.load_part,
        )
        index_demonstrations(index, self._demonstrations)
        sampler = build.sampler(config, self._saved)
        initial_updates = config.offline.steps if self._demonstrations else 0
        self._training = Training(
            algorithm_name=config.algorithm.name,
            algorithm=algorithm,
            index=index,
            sampler=sampler,
            feed=Feed(index, sampler),
            limiter=(
                UpdateLimiter(config.updates_per_episode, initial_updates)
                if config.updates_per_episode
                else None
            ),
            handoff=parts.handoff,
            publisher=parts.publisher,
            checkpointer=parts.checkpointer,
            progress=parts.progress,
            metrics=parts.metrics,
            epoch=parts.epoch,
            offline_steps=initial_updates,
            from_scratch=self._initial is None,
            by_task=Counter(self._base.episodes),
            place_of=self.experience.library.position,
        )
        self._demonstrations = []

    def _add_online(self, admitted: Admitted) -> None:
        if self._training is None:
            if admitted.episode is None:
                return
            self._build(spaces_of(admitted.episode, self._tasks))
        training = self._training
        if training is None:  # pragma: no cover - _build has just made it
            return
        try:
            admitted.enter(training.index)
        except (Reject, ValueError) as fault:
            log.error("episode %s cannot train: %s", admitted.record.episode_id, fault)  # noqa: TRY400
            return
        training.by_task[admitted.record.task] += admitted.counts
