"""From the job's configuration, its checkpoints and its journal to a run that can start.

Order: the newest usable checkpoint, the demonstrations, the whole journal. The interface (spaces)
comes from the first of these that has one: `policy.parameters.spaces`, the initial policy, the
checkpoint, the demonstrations, the first online episode.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError

from fleet_contract.errors import FleetError, Misconfigured, Reject, Retry
from fleet_contract.messages import LearnerStage
from fleet_contract.parameters import faults, merged, snake
from fleet_runtime.algorithms import find
from fleet_runtime.experience import codec
from fleet_runtime.experience.batch import Side
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.learner.intake import absorb
from fleet_runtime.learner.interface import initial_policy, spaces_of
from fleet_runtime.learner.loop import Training, Unreadable
from fleet_runtime.learner.offline import demonstrations, located, open_folder
from fleet_runtime.policies.bundle import ARCHITECTURES
from fleet_runtime.policies.normalization import Normalization
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex
from fleet_runtime.replay.limiter import UpdateLimiter
from fleet_runtime.replay.sampler import AdaptiveSampler, SamplerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleet_contract.agents import LearnerConfig
    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.experience.types import Episode
    from fleet_runtime.learner.admission import Rules
    from fleet_runtime.learner.announce import Publisher
    from fleet_runtime.learner.checkpoint import Checkpointer, Checkpoints, Saved, Tensors
    from fleet_runtime.learner.handoff import Handoff
    from fleet_runtime.learner.journal import Journal
    from fleet_runtime.learner.library import Library
    from fleet_runtime.learner.offline import Demonstration
    from fleet_runtime.learner.progress import Progress
    from fleet_runtime.learner.publish import Versions
    from fleet_runtime.learner.receipts import Ledger
    from fleet_runtime.metrics import LearnerMetrics
    from fleet_runtime.policies.base import Policy

log = logging.getLogger(__name__)

MEASURED_BYTES = 2**30
"""Decoded demonstrations that are held to measure the statistics; of more, the first."""


@dataclasses.dataclass
class Parts:
    """What exists before anything was read."""

    config: LearnerConfig
    storage_url: str
    rules: Rules
    epoch: int
    journal: Journal
    ledger: Ledger
    library: Library
    checkpoints: Checkpoints
    versions: Versions
    handoff: Handoff
    publisher: Publisher
    checkpointer: Checkpointer
    progress: Progress
    metrics: LearnerMetrics
    stopped: Callable[[], bool]


class Preparation:
    """The run under construction. Belongs to the training thread; everything here may block."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._tasks = tuple(task.name for task in parts.config.tasks)
        self._initial: Policy | None = None
        self._saved: Saved | None = None
        self._demonstrations: list[Demonstration] = []
        self._training: Training | None = None

    def replay(self, on_replayed: Callable[[], None]) -> None:
        """Read everything there is; `on_replayed` is called when ingest may start.

        Raises:
            Retry: a store is unreachable; try again with new parts and a new preparation.
            Misconfigured: what only another spec heals, in words for the job's owner.
            FleetError: what no retry heals, `Fenced` among them.
        """
        parts = self._parts
        if (architecture := parts.config.policy.architecture) not in ARCHITECTURES:
            raise Misconfigured(
                f"spec.policy.architecture is {architecture!r}; there are {sorted(ARCHITECTURES)}"
            )
        self._check_algorithm()
        self._initial = initial_policy(parts.config.policy.initial.uri)
        algorithm = parts.checkpoints.newest(self._resumed)
        parts.progress.stage = LearnerStage.OFFLINE
        self._read_demonstrations()
        spaces = self._known_spaces()
        if spaces is not None:
            self._build(spaces, algorithm)
        for segment in parts.journal.replay():
            for entry, place in absorb(segment, parts.ledger, parts.library):
                try:
                    if place.uri is None:
                        episode = codec.decode(entry.payload)
                    else:
                        episode = parts.library.load(entry.record.episode_id)
                    self._add_online(episode)
                except Retry:
                    raise
                except (FleetError, ValueError) as fault:
                    log.error("episode %s cannot train: %s", entry.record.episode_id, fault)  # noqa: TRY400
            if parts.stopped():
                return
        parts.progress.journal_position = parts.journal.position
        last = parts.versions.recover()
        if self._saved is not None:
            parts.versions.floor = max(parts.versions.floor, self._saved.sequence)
        parts.progress.published = last.ref.sequence if last else 0
        parts.publisher.resume(last, algorithm.updates if algorithm else 0)
        log.info(
            "journal replayed: %d segments, %d episodes", parts.journal.position, len(parts.library)
        )
        on_replayed()

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
        while self._training is None and not parts.stopped():
            parts.progress.stage = LearnerStage.WAITING_FOR_DATA
            parts.handoff.wait(1.0)
            for admitted in parts.handoff.take():
                self._add_online(admitted.episode)
        if self._training is not None:
            self._training.look()
        return self._training

    def _check_algorithm(self) -> None:
        """Before anything is read: there is such an algorithm, and it takes these parameters."""
        config = self._parts.config
        try:
            found = find(config.algorithm.name)
        except ValueError as fault:
            raise Misconfigured(f"spec.algorithm.name: {fault}") from fault
        wrong = faults(found.parameters, config.policy.parameters, config.algorithm.parameters)
        if said := "; ".join(map(str, wrong)):
            raise Misconfigured(said)

    def _resumed(self, saved: Saved, tensors: Tensors) -> Algorithm:
        """The algorithm as saved; ValueError where the job has become another one since."""
        name = self._parts.config.algorithm.name
        if saved.algorithm != name:
            raise ValueError(f"it is of algorithm {saved.algorithm}, the job's is {name}")
        if saved.spaces.tasks != self._tasks:
            raise ValueError(f"its tasks are {saved.spaces.tasks}, the job's {self._tasks}")
        algorithm = self._create(saved.spaces, None)
        algorithm.load(tensors)
        self._saved = saved
        log.info(
            "resuming at step %d from the checkpoint of epoch %d", saved.step, saved.learner_epoch
        )
        return algorithm

    def _read_demonstrations(self) -> None:
        held, datasets = 0, self._parts.config.offline.datasets
        urls = [located(dataset.uri, self._parts.storage_url) for dataset in datasets]
        for index, url in enumerate(urls):
            try:
                open_folder(url)
            except ValueError as fault:
                raise Misconfigured(f"spec.offline.datasets.{index}.uri: {fault}") from fault
        for found in demonstrations(urls, self._tasks, self._parts.stopped):
            held += found.episode.nbytes if found.episode else 0
            self._demonstrations.append(found if held <= MEASURED_BYTES else found.shelved())
            self._parts.library.add(found.id, found.read)

    def _known_spaces(self) -> Spaces | None:
        explicit = self._parts.config.policy.parameters.get("spaces")
        if explicit is not None:
            given = {snake(key): value for key, value in explicit.items()}
            try:
                return Spaces(tasks=self._tasks, **given)
            except (ValidationError, TypeError) as fault:
                raise Misconfigured(
                    f"spec.policy.parameters.spaces is {explicit}: {fault}; it takes "
                    "observationSize, actionLow and actionHigh"
                ) from fault
        if self._initial is not None:
            if self._initial.spaces.tasks != self._tasks:
                raise Misconfigured(
                    f"spec.policy.initial knows the tasks {self._initial.spaces.tasks}, the job's "
                    f"are {self._tasks}; they must be the same, in the same order"
                )
            return self._initial.spaces
        if self._saved is not None:
            return self._saved.spaces
        episode = next((d.episode for d in self._demonstrations if d.episode), None)
        return spaces_of(episode, self._tasks) if episode else None

    def _create(self, spaces: Spaces, normalization: Normalization | None) -> Algorithm:
        config = self._parts.config
        given = merged(config.policy.parameters, config.algorithm.parameters)
        parameters = {"batch_size": config.batch_size} | given
        try:
            return find(config.algorithm.name).create(
                spaces,
                parameters,
                normalization=normalization,
                initial=self._initial,
                device="cuda" if torch.cuda.is_available() else "cpu",
            )
        except ValueError as fault:
            raise Misconfigured(
                f"algorithm {config.algorithm.name} with parameters {parameters}: {fault}; "
                "correct spec.algorithm or spec.policy.parameters"
            ) from fault

    def _build(self, spaces: Spaces, algorithm: Algorithm | None = None) -> None:
        parts, config = self._parts, self._parts.config
        parts.rules.observation_size = spaces.observation_size
        parts.rules.action_size = spaces.action_size
        if algorithm is None:
            measured = [d.episode for d in self._demonstrations if d.episode]
            algorithm = self._create(spaces, Normalization.measure(measured) if measured else None)
        index = ReplayIndex(spaces, algorithm.sample_spec, self._load)
        for found in self._demonstrations:
            try:
                index.add(found.episode or codec.decode(found.read()), Side.OFFLINE)
            except Retry:
                raise
            except (FleetError, ValueError) as fault:
                log.warning("demonstration %s is left out: %s", found.id, fault)
        sampler = self._sampler(len(self._tasks))
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
            library=parts.library,
            handoff=parts.handoff,
            publisher=parts.publisher,
            checkpointer=parts.checkpointer,
            progress=parts.progress,
            metrics=parts.metrics,
            epoch=parts.epoch,
            offline_steps=initial_updates,
            from_scratch=self._initial is None,
            by_task=Counter(),
        )
        self._demonstrations = []

    def _sampler(self, tasks: int) -> AdaptiveSampler:
        given = self._parts.config.sampler
        settings = SamplerSettings(
            alpha=max(1.0, given.alpha),
            window=given.window,
            low=given.min_online,
            high=given.max_online,
        )
        weights = [task.weight for task in self._parts.config.tasks]
        sampler = AdaptiveSampler(tasks, settings, weights=weights)
        if self._saved is not None:
            sampler.load(self._saved.sampler)  # type: ignore[arg-type]
        return sampler

    def _add_online(self, episode: Episode) -> None:
        if self._training is None:
            self._build(spaces_of(episode, self._tasks))
        training = self._training
        if training is None:  # pragma: no cover - _build has just made it
            return
        training.index.add(episode, Side.ONLINE)
        training.by_task[episode.task] += 1

    def _load(self, episode_id: str) -> Episode:
        try:
            return self._parts.library.load(episode_id)
        except Retry:
            raise
        except (FleetError, Reject) as fault:
            raise Unreadable(episode_id, fault) from fault
