"""When and where a rollout may move: approval, windows, the robots of a stage, the watch after."""

from enum import StrEnum

from pydantic import Field

from fleet_contract.resources.base import Duration, Spec


class Approval(StrEnum):
    """Which versions a person must approve before a robot tries them."""

    NEVER = "Never"
    FIRST = "First"
    ALWAYS = "Always"


class OnDeadline(StrEnum):
    """What becomes of a stage that does not pass in time."""

    FREEZE = "Freeze"
    ROLL_BACK = "RollBack"


class Selector(Spec):
    """Robots by where they stand and what they belong to; an empty list asks for nothing."""

    sites: list[str] = Field(
        default=[],
        max_length=64,
        description="Sites, as in spec.site of a RobotActor: any of them.",
    )
    groups: list[str] = Field(
        default=[],
        max_length=64,
        description="Groups, as in spec.groups of a RobotActor: any of them.",
    )


class Window(Spec):
    """A span of time, again and again, in which stages may begin and versions be promoted."""

    schedule: str = Field(
        max_length=128,
        pattern=r"^\S+( \S+){4}$",
        description="When it opens: minute, hour, day of month, month and day of week, as in cron.",
    )
    duration: Duration = Field(description="How long it stays open.")
    time_zone: str = Field(
        default="UTC",
        max_length=64,
        pattern=r"^[A-Za-z0-9_+/-]+$",
        description="Time zone of the schedule, by its IANA name, such as Europe/Berlin.",
    )


class PostPromotion(Spec):
    """How long a promoted version is watched on the whole fleet; by default it is not.

    While it is, no newer version is tried, and one that turns out bad is taken back.
    """

    min_episodes: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Judged episodes of the fleet before the watch may end.",
    )
    soak: Duration = Field(default="0s", description="Least time of the watch.")
