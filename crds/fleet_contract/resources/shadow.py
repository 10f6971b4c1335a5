"""The shadow gate: robots compute the candidate beside what they run, and it moves nothing."""

from pydantic import Field

from fleet_contract.resources.base import Duration, Spec, cel
from fleet_contract.resources.schedule import Selector


class Shadow(Spec):
    """Some robots run the stable version as before and compute the candidate beside it."""

    robots: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="How many robots compute it. Without this and percent: one.",
    )
    percent: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Share of the robots that may run it, rounded up, in place of robots.",
    )
    selector: Selector = Field(
        default=Selector(),
        description="Which robots they are chosen from. Without one: the whole fleet.",
    )
    min_episodes: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Episodes in which it must have been compared with the stable version.",
    )
    max_disagreement: float = Field(
        default=0.45,
        gt=0,
        le=2,
        description="Most by which its actions may differ from the stable version's on what the "
        "robots saw: the mean absolute difference, in halves of each action's range, over those "
        "episodes. 0 is the same action, 2 the opposite end of the range.",
    )
    max_inference_latency: Duration | None = Field(
        default=None,
        description="Time one inference may take beside the acting one; a version of which surely "
        "more than a tenth of the episodes take longer once is taken back. Without it: "
        "analysis.maxInferenceLatency.",
    )
    deadline: Duration = Field(
        default="30m",
        description="Time in which those episodes must have been told; without them the version "
        "is held.",
    )
    rules = (
        cel(
            "!has(self.robots) || !has(self.percent)",
            "a shadow takes robots or percent, not both",
        ),
    )
