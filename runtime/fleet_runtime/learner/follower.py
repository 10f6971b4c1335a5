"""The second rank of a learner and all after it: they compute, and keep nothing.

A follower claims no epoch, speaks to no broker and saves nothing. It takes weights, optimiser and
sampler from the first rank, reads the same datasets and the same journal up to the position it is
told, and makes the same updates on rows of its own. It ends when the first rank does.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import Reject
from fleet_runtime.learner import build, retention
from fleet_runtime.learner.checkpoint import unpack
from fleet_runtime.learner.crew import join
from fleet_runtime.learner.interface import initial_policy
from fleet_runtime.learner.recall import Experience, index_demonstrations, read_demonstrations
from fleet_runtime.learner.steady import SteadyFeed, SteadyStore, patiently
from fleet_runtime.learner.step import advance
from fleet_runtime.replay.feed import Feed
from fleet_runtime.replay.index import ReplayIndex

if TYPE_CHECKING:
    import threading

    from fleet_runtime.learner.crew import Crew
    from fleet_runtime.settings import LearnerSettings

log = logging.getLogger(__name__)


def follow(settings: LearnerSettings, stop: threading.Event) -> None:
    """Until the first rank says so, or until `stop` while there is none.

    Raises:
        Deserted: another rank is gone.
        Misconfigured: what only another spec heals.
        FleetError: training has diverged, or what no retry heals.
    """
    config = settings.spec
    build.demand_known(config)
    store = SteadyStore(settings.storage_url, stop)
    joined = join(store, settings.job_uid, settings.rank, config.replicas, stop)
    if joined is None:
        return
    epoch, crew = joined
    try:
        Follower(settings, store, epoch, crew, stop).run()
    finally:
        crew.close()


class Follower:
    """One rank at work in one crew."""

    def __init__(
        self,
        settings: LearnerSettings,
        store: SteadyStore,
        epoch: int,
        crew: Crew,
        stop: threading.Event,
    ) -> None:
        config = settings.spec
        self._crew, self._stop = crew, stop
        base = patiently(lambda: retention.newest(store, settings.job_uid), stop)
        self._experience = Experience.since(base, store, settings.job_uid, epoch)
        initial = patiently(lambda: initial_policy(config.policy.initial.uri), stop)
        saved, tensors = unpack(crew.share())
        self._algorithm = build.resumed(config, saved, tensors, initial=initial)
        # Rows and noise of its own, and other ones after each restart.
        self._algorithm.join(crew, seed=epoch * config.replicas + crew.number)
        self._sampler = build.sampler(config, saved)
        self._sampler.rng = np.random.default_rng([epoch, crew.number])
        self._index = ReplayIndex(
            saved.spaces,
            self._algorithm.sample_spec,
            self._experience.load,
            max_steps=config.checkpoint.experience_steps,
            load_part=self._experience.load_part,
        )
        self._feed = SteadyFeed(Feed(self._index, self._sampler), self._index, stop)
        demonstrations = patiently(
            lambda: read_demonstrations(
                config,
                settings.storage_url,
                self._experience.library,
                saved.spaces,
                stop.is_set,
            ),
            stop,
        )
        patiently(lambda: index_demonstrations(self._index, demonstrations), stop)
        log.info(
            "rank %d of %d goes on from step %d", crew.number, crew.count, self._algorithm.updates
        )

    def run(self) -> None:
        """Do what the first rank orders, to its last one."""
        while True:
            order, _ = self._crew.agree(leave=self._stop.is_set())
            if order.stop:
                log.info("the first rank ends at step %d", self._algorithm.updates)
                return
            self._read(order.through)
            self._algorithm.online = order.online
            for _ in range(order.updates):
                advance(self._algorithm, self._feed, self._sampler, self._crew)

    def _read(self, through: int) -> None:
        """Index the journal up to a position, of which the first rank knows."""
        if through <= self._experience.journal.position:
            return
        for admitted in self._experience.admitted(self._experience.journal.read(through)):
            try:
                admitted.enter(self._index)
            except (Reject, ValueError) as fault:
                log.warning("episode %s cannot train: %s", admitted.record.episode_id, fault)
