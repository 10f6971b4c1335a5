"""One version, by itself, in simulation: fetched as a robot fetches it, then run and counted."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fleet_contract.errors import Retry, Untrusted
from fleet_contract.messages import GateReport
from fleet_contract.names import Signatory
from fleet_runtime import trust
from fleet_runtime.artifacts import Store
from fleet_runtime.robot import environments
from fleet_runtime.robot.evaluate import evaluate
from fleet_runtime.robot.fetch import Library, Misfit
from fleet_runtime.robot.metaworld import EVALUATION_SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fleet_contract.agents import GateConfig
    from fleet_runtime.experience.spaces import Spaces
    from fleet_runtime.experience.types import Float, Images
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.robot.env import Robot
    from fleet_runtime.settings import GateSettings

LANES = 8
"""Simulators that step side by side behind one inference."""
RETRY_EVERY = 5.0
"""Seconds between two tries to reach the store; the Job's deadline ends them."""

log = logging.getLogger(__name__)


class RefusedError(ValueError):
    """It cannot be run as the spec says."""


class UnfitError(ValueError):
    """The version itself cannot be run."""


class Simulation:
    """One run; ``report`` may be read at any time and from any thread."""

    def __init__(self, settings: GateSettings) -> None:
        """Raises ``RefusedError`` for a world that there is not, or that does not take the spec."""
        try:
            settings.demand_keys()
            settings.demand_credentials()
        except ValueError as fault:
            raise RefusedError(str(fault)) from fault
        config = settings.spec
        self._settings, self._config = settings, config
        lanes = min(LANES, config.episodes * len(config.tasks))
        self._robots = [make_robot(config) for _ in range(lanes)]
        self._successes = {task.name: 0 for task in config.tasks}
        self.report = GateReport(
            job_uid=settings.job_uid,
            run=config.run,
            digest=config.policy.digest,
            seed=EVALUATION_SEED,
            episodes=config.episodes,
            successes=self._successes,
        )

    def run(self) -> None:
        """To the end. What is the version's fault is reported as its fault; others are raised."""
        try:
            policy = Checked(self._fetch())
            evaluate(
                policy,
                self._robots,
                list(self._successes),
                self._config.episodes,
                seed=EVALUATION_SEED,
                ended=self._ended,
            )
        except Misfit as fault:
            raise RefusedError(
                f"{fault}; spec.rollout.gates.simulation must name a world that is like its robots"
            ) from fault
        except (Untrusted, UnfitError) as fault:
            log.error("version %d: %s", self._config.policy.sequence, fault)  # noqa: TRY400
            self._tell(fault=str(fault))
        finally:
            for robot in self._robots:
                robot.close()

    def _fetch(self) -> Policy:
        settings = self._settings
        with tempfile.TemporaryDirectory() as folder:
            library = Library(
                Store(settings.storage_url),
                Path(folder),
                job_uid=settings.job_uid,
                spec=self._robots[0].spec,
                tasks=list(self._successes),
                verify=trust.verifier(settings.trust_dir, Signatory.LEARNER),
            )
            while True:
                try:
                    policy = library.load(self._config.policy, 0).policy
                except Retry as fault:
                    log.warning("again in %.0f s: %s", RETRY_EVERY, fault)
                    self._tell(waits=str(fault))
                    time.sleep(RETRY_EVERY)
                else:
                    self._tell(waits="")
                    return policy

    def _ended(self, task: str, success: bool) -> None:
        self._successes[task] += success
        log.info("%s: %s", task, "success" if success else "no success")
        self._tell(done=self.report.done + 1, successes=dict(self._successes))

    def _tell(self, **news: object) -> None:
        self.report = self.report.model_copy(update=news)


def make_robot(config: GateConfig) -> Robot:
    """A robot of the world that the gate names, else of the one that the tasks do."""
    named = {config.world.name} if config.world else {t.environment.name for t in config.tasks}
    if len(named) != 1:
        raise RefusedError(f"tasks name the environments {sorted(named)}: one robot lives in one")
    tasks = {task.name: task.environment.task or task.name for task in config.tasks}
    parameters = config.world.parameters if config.world else {}
    try:
        factory = environments.find(*named)
        robot = factory(tuple(tasks.values()), seed=0, **parameters)
    except (ImportError, LookupError, ValueError, TypeError) as fault:
        raise RefusedError(str(fault)) from fault
    robot.connect()
    if all(ours == theirs for ours, theirs in tasks.items()):
        return robot
    from fleet_runtime.robot.renamed import renamed

    return renamed(robot, tasks)


class Checked:
    """A policy of which nothing but finite actions is taken, and whose faults are its own."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.execute = policy.execute

    @property
    def spaces(self) -> Spaces:
        """The policy's."""
        return self._policy.spaces

    def seed(self, seed: int) -> None:
        """As the policy does."""
        self._policy.seed(seed)

    def act(
        self, observation: Float, task: NDArray[np.integer], images: Images | None = None
    ) -> Float:
        """As the policy does. Raises ``UnfitError`` where it raises, or is not finite."""
        try:
            chunk = self._policy.act(observation, task, images)
        except Exception as fault:
            raise UnfitError(f"it raised {fault!r:.300}") from fault
        wanted = (len(observation), self._policy.spaces.action_size)
        if np.ndim(chunk) != 3 or (len(chunk), chunk.shape[2]) != wanted or not chunk.shape[1]:  # noqa: PLR2004 (B H A)
            raise UnfitError(
                f"its chunks are {np.shape(chunk)}, wanted {wanted[0], 'H', wanted[1]}"
            )
        if chunk.dtype.kind not in "fiu" or not np.isfinite(chunk).all():
            raise UnfitError("its actions are not finite")
        return chunk
