"""What a job says of when its robots send what they live through."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.resources.base import Duration, Spec


class ExperienceMode(StrEnum):
    """Whether an episode travels as one or in parts."""

    EPISODE = "Episode"
    STREAMING = "Streaming"


class Experience(Spec):
    """When robots send what they live through."""

    mode: ExperienceMode = Field(
        default=ExperienceMode.EPISODE,
        description="Episode: when it has ended, as one. Streaming: in parts while it runs; what "
        "of a part may be learned before its end is known is the algorithm's to say.",
    )
    every: Duration = Field(
        default="5s",
        description="Streaming: time that one part covers; less than 100ms counts as that.",
    )
