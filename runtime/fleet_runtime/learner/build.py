"""From the job's configuration to the parts of a run: interface, algorithm, sampler. No store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydantic import ValidationError

from fleet_contract.errors import Misconfigured
from fleet_contract.parameters import faults, merged, shared, snake
from fleet_runtime import algorithms, policies
from fleet_runtime.experience.spaces import Spaces
from fleet_runtime.learner.machine import Machine
from fleet_runtime.replay.sampler import AdaptiveSampler, SamplerSettings

if TYPE_CHECKING:
    from fleet_contract.agents import LearnerConfig
    from fleet_contract.resources.learning import Sampler
    from fleet_runtime.algorithms.base import Algorithm
    from fleet_runtime.learner.checkpoint import Saved, Tensors
    from fleet_runtime.policies.base import Policy
    from fleet_runtime.policies.normalization import Normalization

log = logging.getLogger(__name__)


def demand_known(config: LearnerConfig) -> None:
    """Before anything is read: there are such plug-ins, and they take these parameters.

    Raises `Misconfigured`.
    """
    try:
        policy = policies.find(config.policy.architecture)
    except (ValueError, ImportError) as fault:
        raise Misconfigured(f"spec.policy.architecture: {fault}") from fault
    try:
        algorithm = algorithms.find(config.algorithm.name)
    except ValueError as fault:
        raise Misconfigured(f"spec.algorithm.name: {fault}") from fault
    kinds = policy.parameters, algorithm.parameters
    wrong = faults(kinds, config.policy.parameters, config.algorithm.parameters)
    if said := "; ".join(map(str, wrong)):
        raise Misconfigured(said)


def tasks(config: LearnerConfig) -> tuple[str, ...]:
    """The job's tasks in their order, which is that of every table."""
    return tuple(task.name for task in config.tasks)


def told_spaces(config: LearnerConfig, initial: Policy | None) -> Spaces | None:
    """The interface as the spec tells it, or the initial policy; None where neither does.

    Raises `Misconfigured` where they contradict the job's architecture or tasks.
    """
    known, wanted = tasks(config), config.policy.architecture
    if initial is not None and initial.architecture != wanted:
        raise Misconfigured(
            f"spec.policy.initial is of architecture {initial.architecture}, "
            f"spec.policy.architecture is {wanted}; they must be the same"
        )
    explicit = config.policy.parameters.get("spaces")
    if explicit is not None:
        given = {snake(key): value for key, value in explicit.items()}
        try:
            return Spaces(tasks=known, **given)
        except (ValidationError, TypeError) as fault:
            raise Misconfigured(
                f"spec.policy.parameters.spaces is {explicit}: {fault}; it takes "
                "observationSize, actionLow and actionHigh, and images as {camera: [Y, X, 3]}"
            ) from fault
    if initial is not None and initial.spaces.tasks != known:
        raise Misconfigured(
            f"spec.policy.initial knows the tasks {initial.spaces.tasks}, the job's "
            f"are {known}; they must be the same, in the same order"
        )
    return initial.spaces if initial is not None else None


def create(
    config: LearnerConfig,
    spaces: Spaces,
    *,
    initial: Policy | None = None,
    normalization: Normalization | None = None,
) -> Algorithm:
    """The job's algorithm at its start. Raises `Misconfigured`."""
    policy = policies.find(config.policy.architecture)
    algorithm = algorithms.find(config.algorithm.name)
    given = merged(config.policy.parameters, config.algorithm.parameters)
    of_policy, of_algorithm = shared(given, policy.parameters, algorithm.parameters)
    of_algorithm = {"batch_size": config.batch_size} | of_algorithm
    if config.replicas > 1:
        of_algorithm["batch_size"] = _share(of_algorithm["batch_size"], config.replicas)
    machine = Machine.here(config.compute)
    try:
        made = algorithm.create(
            spaces,
            of_algorithm,
            initial=initial
            or policy.create(
                spaces,
                of_policy,
                normalization=normalization,
                instructions=[task.instruction or task.name for task in config.tasks],
                device=machine.device,
            ),
            device=machine.device,
        )
    except (ValueError, ImportError) as fault:
        raise Misconfigured(
            f"algorithm {config.algorithm.name} on policy {config.policy.architecture} with "
            f"parameters {given}: {fault}; correct spec.algorithm or spec.policy"
        ) from fault
    made.tune(bfloat16=machine.bfloat16, compiled=machine.compiled)
    return made


def _share(rows: object, ranks: int) -> int:
    """One rank's rows of a batch: a mean of means is the mean where all are of one size."""
    if not isinstance(rows, int) or rows % ranks:
        raise Misconfigured(
            f"{ranks} ranks cannot share a batch of {rows} rows: make spec.learner.batchSize (or "
            "batchSize in spec.algorithm.parameters) a multiple of spec.learner.replicas"
        )
    return rows // ranks


def resumed(
    config: LearnerConfig, saved: Saved, tensors: Tensors, *, initial: Policy | None = None
) -> Algorithm:
    """The algorithm as saved; ValueError where the job has become another one since."""
    name = config.algorithm.name
    if saved.algorithm != name:
        raise ValueError(f"it is of algorithm {saved.algorithm}, the job's is {name}")
    if saved.spaces.tasks != tasks(config):
        raise ValueError(f"its tasks are {saved.spaces.tasks}, the job's {tasks(config)}")
    algorithm = create(config, saved.spaces, initial=initial)
    algorithm.load(tensors)
    return algorithm


def sampling(given: Sampler) -> SamplerSettings:
    """What a job's spec.sampler asks of the sampler."""
    low, high = given.limits
    return SamplerSettings(alpha=given.alpha, window=given.window, low=low, high=high)


def sampler(config: LearnerConfig, saved: Saved | None) -> AdaptiveSampler:
    """The job's sampler, as saved where something was."""
    weights = [task.weight for task in config.tasks]
    made = AdaptiveSampler(len(config.tasks), sampling(config.sampler), weights=weights)
    if saved is not None:
        made.load(saved.sampler)  # type: ignore[arg-type]
    return made
