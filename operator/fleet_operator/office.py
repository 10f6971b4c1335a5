"""What every reconcile may use: the cluster, the inbox, the settings, the queue."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet_contract.names import Kind
from fleet_contract.resources import FleetTrainingJob
from fleet_operator.certificates import Certificates
from fleet_operator.cluster import Cluster, Object
from fleet_operator.decide.deliveries import Deliveries
from fleet_operator.identities import Identities
from fleet_operator.inbox import Inbox
from fleet_operator.keys import Keys
from fleet_operator.settings import Settings
from fleet_operator.work import Key

UNTOLD = 200
MOMENT = 1.0  # seconds


@dataclass
class Office:
    """One per process."""

    settings: Settings
    cluster: Cluster
    inbox: Inbox
    keys: Keys
    certificates: Certificates
    deliveries: Deliveries
    wake: Callable[[Key], None]
    wake_in: Callable[[Key, float], None]
    clock: Callable[[], float] = time.time
    """Unix seconds, for dates people read and the soak of a stage; never for order."""
    written_at: dict[str, float] = field(default_factory=dict)
    """By an object's UID: when its status was last written, in seconds of the loop's clock."""
    identities: Identities | None = None
    """Of the broker whose accounts are ours, where there is one."""
    untold: deque[Object] = field(default_factory=lambda: deque(maxlen=UNTOLD))
    """Events that the API server has not taken yet."""
    swept: bool = False
    last_event: float = field(default_factory=time.monotonic)
    last_turn: float = field(default_factory=time.monotonic)
    _jobs: dict[str, tuple[float, FleetTrainingJob]] = field(default_factory=dict)
    _changes: int = 0

    async def job(self, name: str) -> FleetTrainingJob | None:
        """As it was a moment ago: a fleet's robots, all looked at together, ask for one job."""
        known = self._jobs.get(name)
        if known is not None and self.inbox.now - known[0] < MOMENT:
            return known[1]
        before = self._changes
        found = await self.cluster.get(Kind.TRAINING_JOB, name)
        job = FleetTrainingJob.model_validate(found) if found else None
        if job is not None and before == self._changes:
            self._jobs[name] = (self.inbox.now, job)
        return job

    def job_changed(self, name: str) -> None:
        """What robots' turns saw of it, or are about to see, is old."""
        self._jobs.pop(name, None)
        self._changes += 1

    def fleet(self, job: str) -> int:
        """Robots of the job, as far as is known."""
        line = self.inbox.get(job)
        return len(line.robots) if line else 0
