"""What a job says of learning: tasks, algorithm, data, and the learner's pace."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.resources.base import (
    Duration,
    FreeForm,
    Name,
    Quantity,
    Spec,
    cel,
)


class Environment(Spec):
    """The world a task lives in."""

    name: str = Field(
        default="metaworld",
        max_length=63,
        description="Adapter, as registered under the entry point fleetloop.environments.",
    )
    task: str = Field(
        default="", max_length=128, description="The adapter's name for the task; default: name."
    )


class Task(Spec):
    """One skill of the shared policy."""

    name: Name = Field(description="Name of the task, unique in the job.")
    instruction: str = Field(
        default="", max_length=512, description="What a person would tell the robot to do."
    )
    weight: float = Field(
        default=1.0,
        ge=0,
        description="Share of training and of robot time, relative to the others.",
    )
    environment: Environment = Field(
        default=Environment(), description="The world in which simulated robots do it."
    )


class AlgorithmSpec(Spec):
    """How experience becomes a better policy."""

    name: str = Field(
        default="hg-dagger",
        max_length=63,
        description="Algorithm, as registered under the entry point fleetloop.algorithms.",
    )
    parameters: FreeForm = Field(
        default={}, description="The algorithm's own parameters; it refuses those it does not know."
    )


class InitialPolicy(Spec):
    """Where the weights come from."""

    uri: str = Field(
        default="", max_length=1024, description="A bundle to start from; empty: from scratch."
    )


class PolicySpec(Spec):
    """The network."""

    architecture: str = Field(default="flow", max_length=63, description="Registered architecture.")
    parameters: FreeForm = Field(default={}, description="The architecture's own parameters.")
    initial: InitialPolicy = Field(default=InitialPolicy(), description="Where weights come from.")


class Dataset(Spec):
    """Demonstrations from before the fleet ran."""

    uri: str = Field(
        min_length=1,
        max_length=1024,
        description="Folder of episode files, or a LeRobotDataset v3: an fsspec URL, or a folder "
        "of the job's own store.",
    )


class Offline(Spec):
    """The supervised stage, before the first version is published."""

    datasets: list[Dataset] = Field(
        default=[], max_length=64, description="Data the offline side of the sampler draws from."
    )
    steps: int = Field(
        default=2000, ge=0, description="Updates on these data alone before robots get a policy."
    )


class SamplerMode(StrEnum):
    """Whose mix of online and offline data."""

    ADAPTIVE = "Adaptive"
    BALANCED = "Balanced"


class Sampler(Spec):
    """The mix of online and offline data of each task."""

    mode: SamplerMode = Field(
        default=SamplerMode.ADAPTIVE,
        description="Adaptive: by their losses, as SOP does (arXiv 2601.03044). Balanced: as much "
        "of either, as LWD does (arXiv 2605.00416); the fields below then say nothing.",
    )
    alpha: float = Field(
        default=2.0, ge=1, le=100, description="Sharpness of the loss-driven online weight."
    )
    window: int = Field(
        default=200, ge=1, le=100_000, description="Losses of each side that are averaged."
    )
    min_online: float = Field(default=0.2, ge=0, le=1, description="Least online share of a task.")
    max_online: float = Field(default=0.8, ge=0, le=1, description="Greatest online share.")
    rules = (
        cel("self.minOnline <= self.maxOnline", "minOnline must not be greater than maxOnline"),
    )

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest online share of a task, as the mode has them."""
        return (
            (0.5, 0.5) if self.mode is SamplerMode.BALANCED else (self.min_online, self.max_online)
        )


class Resources(Spec):
    """Requests and limits, as in any container."""

    requests: dict[str, Quantity] = Field(
        default={},
        max_length=16,
        description="What the scheduler sets aside; of cpu and memory 100m and 640Mi where "
        "neither a request nor a limit names them.",
    )
    limits: dict[str, Quantity] = Field(
        default={}, max_length=16, description="What the container may use at most."
    )


class Checkpoint(Spec):
    """How often the learner saves itself, and how much experience a restart finds again."""

    interval: Duration = Field(default="30s", description="Time between two checkpoints.")
    keep: int = Field(default=2, ge=1, le=100, description="Checkpoints kept.")
    experience_steps: int = Field(
        default=10_000_000,
        ge=1,
        description="Steps the replay holds; beyond it the robots' oldest episodes leave the "
        "replay, the journal and the store for good.",
    )


class Device(StrEnum):
    """Where networks compute."""

    AUTO = "Auto"
    CPU = "CPU"
    CUDA = "CUDA"


class Precision(StrEnum):
    """What networks compute in; weights, losses and optimisers stay float32."""

    AUTO = "Auto"
    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"


class Compile(StrEnum):
    """Whether networks are compiled before they compute."""

    AUTO = "Auto"
    ALWAYS = "Always"
    NEVER = "Never"


class Compute(Spec):
    """How the machine computes; what is learned is the same."""

    device: Device = Field(
        default=Device.AUTO, description="Auto: CUDA where there is a GPU, else CPU."
    )
    precision: Precision = Field(
        default=Precision.AUTO,
        description="Of the networks' arithmetic; weights and losses stay float32. Auto: bfloat16 "
        "on a GPU that has it, else float32.",
    )
    compile: Compile = Field(
        default=Compile.AUTO,
        description="torch.compile, which takes a minute at the start. Auto: on a GPU where there "
        "is a C compiler.",
    )


class Learner(Spec):
    """The learner's pod and pace."""

    image: str = Field(
        default="fleetloop-learner:latest", max_length=512, description="Container image."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Ranks of the learner, a pod each; they share each batch and average their "
        "gradients, directly from pod to pod.",
    )
    batch_size: int = Field(
        default=256, ge=1, le=65_536, description="Chunks in one update, over all ranks."
    )
    updates_per_episode: float = Field(
        default=0,
        ge=0,
        description="Most updates per online episode, so that a fast learner does not overfit "
        "what slow robots bring; 0: no limit.",
    )
    compute: Compute = Field(default=Compute(), description="Device, precision, compilation.")
    resources: Resources = Field(default=Resources(), description="Requests and limits.")
    pod_overrides: FreeForm = Field(
        default={}, description="Merged into the pod's spec: node selectors, tolerations, volumes."
    )
    checkpoint: Checkpoint = Field(default=Checkpoint(), description="How often it saves itself.")
    rules = (
        cel(
            "self.batchSize % self.replicas == 0",
            "batchSize must be a multiple of replicas: each rank takes an equal share",
        ),
    )


class Weights(StrEnum):
    """What weights travel as."""

    FLOAT32 = "Float32"
    BFLOAT16 = "BFloat16"


class Publish(Spec):
    """When a new version leaves the learner, and as what; SOP publishes every 25 updates."""

    every_steps: int = Field(default=25, ge=1, description="Updates between two versions.")
    min_interval: Duration = Field(default="5s", description="Least time between two versions.")
    precision: Weights = Field(
        default=Weights.BFLOAT16,
        description="Of the weights robots get: BFloat16 is half the bytes and far smaller deltas. "
        "The learner's own stay as they are, and so do normalisation statistics.",
    )
