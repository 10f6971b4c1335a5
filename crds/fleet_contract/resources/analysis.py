"""What a candidate must show, in figures that a person can set."""

from pydantic import Field

from fleet_contract.resources.base import Duration, Spec


class Analysis(Spec):
    """When a version is taken back and when it may go on; judged on autonomous success."""

    min_success_rate: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Floor of the autonomous success rate, from 0 to 1: below it nothing passes, "
        "and what is surely below it is taken back.",
    )
    success_drop: float = Field(
        default=0.1,
        ge=0,
        le=0.5,
        description="Drop against the stable version that the test is to find soonest, as a share "
        "of episodes; greater ones are found sooner, smaller ones late or never. 0: not compared.",
    )
    false_rollback_rate: float = Field(
        default=0.01,
        ge=0.0001,
        le=0.2,
        description="Most probability with which a version that is no worse is taken back in its "
        "whole trial, however long; each bound set below adds as much for itself.",
    )
    max_guard_trips: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Episodes of the candidate cohort in which the guard trips that are tolerated; "
        "with one more it is taken back.",
    )
    max_intervention_rate: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of judged episodes in which the policy needed a person; what is surely "
        "above it is taken back. Takeovers that were due do not count. Without it: not judged.",
    )
    intervention_rise: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Rise of that share against robots that run the stable version meanwhile, that "
        "the test is to find soonest, as a share of episodes. 0: not compared.",
    )
    max_inference_latency: Duration | None = Field(
        default=None,
        description="Time one inference may take; a version of which surely more than a tenth of "
        "the episodes take longer once is taken back. Without it: not judged.",
    )
    max_cycle_time: Duration | None = Field(
        default=None,
        description="Time an autonomous success may take; a version of which surely more than a "
        "tenth of the successes take longer is taken back. Without it: not judged.",
    )
    max_silence: Duration = Field(
        default="10m",
        description="Longest time without an ended episode of the candidate cohort in which a "
        "stage may still pass: absence is not health.",
    )
