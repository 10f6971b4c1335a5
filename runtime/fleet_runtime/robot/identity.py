"""Who a robot is, and the subjects and streams that follow from it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from fleet_contract import names

if TYPE_CHECKING:
    from fleet_contract.names import Channel, Stream


@dataclasses.dataclass(frozen=True)
class Identity:
    """One robot in one job."""

    namespace: str
    robot: str
    robot_uid: str
    job: str
    job_uid: str

    def subject(self, channel: Channel) -> str:
        """The robot's own subject of a kind."""
        return names.robot_subject(self.namespace, self.robot, self.job, channel)

    @property
    def assignments(self) -> str:
        """The subject of the job's assignment document."""
        return names.assign_subject(self.namespace, self.job)

    def stream(self, kind: Stream) -> str:
        """The job's stream of a kind."""
        return names.stream(self.job_uid, kind)
