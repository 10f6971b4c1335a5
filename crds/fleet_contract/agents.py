"""What the operator tells the programs it starts, in the environment variable ``FLEET_SPEC``.

The operator cuts these from the specs; learner and robot read nothing else of Kubernetes. A
robot outside the cluster gets the same document from its owner.
"""

from pydantic import Field

from fleet_contract.messages import PolicyRef
from fleet_contract.resources.base import Model
from fleet_contract.resources.experience import Experience
from fleet_contract.resources.fleet import Interventions
from fleet_contract.resources.learning import (
    AlgorithmSpec,
    Checkpoint,
    Compute,
    Offline,
    PolicySpec,
    Publish,
    Sampler,
    Task,
)
from fleet_contract.resources.robot_actor import Guard, Link
from fleet_contract.resources.simulation import SimulatedWorld

SPOOL_BYTES = 4 * 2**30
"""What a robot's spool keeps; beyond it the oldest payloads are given up."""
SPOOL_RECORDS = 100_000
"""Episodes, or parts of them, that it keeps at most."""

EXIT_REFUSED = 78
"""EX_CONFIG of sysexits.h: only another spec can help, starting it again would change nothing."""


class RobotConfig(Model):
    """How one robot agent works."""

    tasks: list[Task] = Field(min_length=1)
    control_hz: float = 20.0
    time_scale: float = 1.0
    interventions: Interventions = Interventions()
    seed: int = 0
    link: Link = Link.NORMAL
    """Metered: whole policies only while it has none."""
    guard: Guard = Guard()
    experience: Experience = Experience()
    credit: int = 64
    """Most records in the broker that no receipt has settled; the rest stay in the spool."""


class LearnerConfig(Model):
    """How one learner run works."""

    tasks: list[Task] = Field(min_length=1)
    algorithm: AlgorithmSpec = AlgorithmSpec()
    policy: PolicySpec = PolicySpec()
    offline: Offline = Offline()
    sampler: Sampler = Sampler()
    publish: Publish = Publish()
    checkpoint: Checkpoint = Checkpoint()
    replicas: int = 1
    compute: Compute = Compute()
    batch_size: int = 256
    updates_per_episode: float = 0
    control_hz: float = 20.0
    experience: Experience = Experience()


class GateConfig(Model):
    """What one run of the simulation gate shall try, and on what."""

    run: int
    policy: PolicyRef
    tasks: list[Task] = Field(min_length=1)
    world: SimulatedWorld | None = None
    episodes: int = Field(ge=1)
